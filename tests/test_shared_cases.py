"""Situations from public reports (../shared/cases): each ends in numbers or in one refusal, and none in a traceback.

The scripts use the package as it was at commit 38ae0fe, so a copy of them is run with its imports mended. Each defect
that they show has a quicker test of its own in another lane.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CASES = ROOT.parent / "shared" / "cases"
# How many exit codes of 0 and of 2 each case's command lines have, and a part of what it prints.
WANTED = {
    "adapter_with_config": ([0, 0], "with the way out"),
    "attribute_dynamic_rope_order": ([], "relative difference of the same call: 0.0"),
    "attribute_multimodal_wrapper": ([], "gemma3 torch.Size([10, 4])"),
    "float16_nan_logits": ([2, 2], "float32"),
    "fp8_scales_ignored": (None, "quantised"),
    "lora_on_tied_embeddings": ([], "tied=True merge_adapter=True"),
    "nonspecial_added_tokens": ([2, 0], "pair.tuned_model.tokenizer="),
    "path_characters": ([0] * 6, "x=y,z"),
    "reference_added_token": ([2], "spell by different token ids"),
    "template_raises": ([2], "System role required"),
}
MENDED = {
    "shiftbench.job, shiftbench.run": "shiftbench.pipeline.run",
    "from shiftbench.prompts import special_prefix": "from shiftbench.prompts.special_tokens import special_prefix",
}


@pytest.mark.nightly  # ten processes that each import for seconds, and every defect has a test in another lane
@pytest.mark.skipif(not CASES.is_dir(), reason="the folder of cases is not on this machine")
@pytest.mark.parametrize("name", WANTED)
def test_a_reported_situation_ends_in_numbers_or_in_one_refusal(name: str, tmp_path: Path) -> None:
    copied = shutil.copytree(CASES, tmp_path / "cases")
    common = copied / "common.py"
    text = common.read_text(encoding="utf-8")
    for old, new in MENDED.items():
        assert old in text
        text = text.replace(old, new)
    common.write_text(text, encoding="utf-8")
    environment = {**os.environ, "CASES_WORK": str(tmp_path / "work"), "PYTHONPATH": str(ROOT)}
    (tmp_path / "work").mkdir()
    ran = subprocess.run(
        [sys.executable, copied / name / "case.py"], capture_output=True, text=True, timeout=300, env=environment
    )
    said = ran.stdout + ran.stderr
    codes, part = WANTED[name]
    assert part in said, said
    assert "TRACEBACK" not in said
    if codes is None:  # the script itself loads the model, which is refused
        assert ran.returncode == 1 and said.strip().splitlines()[-1].startswith("shiftbench.errors.InputError")
    else:
        assert ran.returncode == 0 and "Traceback" not in said, said
        assert [int(code) for code in re.findall(r"rc=(\d+)", said)] == codes, said


def test_every_case_is_run() -> None:
    if not CASES.is_dir():
        pytest.skip("the folder of cases is not on this machine")
    assert {folder.parent.name for folder in CASES.glob("*/case.py")} == set(WANTED)
