"""What a dry run says of memory is what a run takes."""

import re
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from shiftbench.config import composition
from shiftbench.models import ModelShape
from shiftbench.pipeline.estimate import _cache_bytes, _model_bytes
from shiftbench.pipeline.job import build

pytestmark = pytest.mark.whole

MEMORY = """
import re, runpy
try:
    runpy.run_module("shiftbench", run_name="__main__", alter_sys=True)
finally:  # not getrusage's peak: a child begins with its parent's
    print("took", 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]))
"""
LARGE = ModelShape(parameters=6_738_000_000, layers=32, heads=32, width=4096, vocabulary=32_000)


@pytest.mark.skipif(torch.version.cuda is not None, reason="torch with CUDA is a larger program than is estimated")
def test_a_run_takes_the_memory_that_was_estimated(tmp_path):
    """Within a third: the program itself is most of it here."""
    arguments = [
        "score",
        "pair=demo",
        "suite=smoke",
        "dataset.limit=4",
        "tracking=none",
        f"store.path={tmp_path}/store",
    ]
    said, took = (
        subprocess.run(
            [sys.executable, "-c", MEMORY, *arguments, f"out={tmp_path}/out", *more],
            capture_output=True, text=True, check=True, cwd=tmp_path,
        ).stdout
        for more in (["dry_run=true"], [])
    )  # fmt: skip
    estimated = float(re.search(r"estimated memory: ([0-9.]+) GiB", said)[1]) * 2**30
    assert float(took.split("took ")[1]) == pytest.approx(estimated, rel=1 / 3)


def test_weights_in_bfloat16_count_beside_the_others():
    asked = build(composition.compose("config", ["pair=demo"]))
    narrow = replace(
        one := asked.findings["instruction_recognition"], explain=replace(one.explain, precision="bfloat16")
    )
    wide = _model_bytes(asked, LARGE)
    both = _model_bytes(replace(asked, findings={**asked.findings, "narrow": narrow}), LARGE)
    layers = LARGE.parameters - LARGE.vocabulary * LARGE.width
    assert wide == 4 * LARGE.parameters and both - wide == 2 * layers


def test_the_caches_of_responses_count_up_to_a_share_of_the_weights():
    asked = build(composition.compose("config", ["pair=demo", "response.max_new_tokens=100"]))
    few, many = _cache_bytes(asked, LARGE, [30, 50]), _cache_bytes(asked, LARGE, [2000] * 300)
    assert few == 4 * 2 * 32 * 4096 * (30 + 50 + 2 * 100)
    assert many == LARGE.parameters - LARGE.vocabulary * LARGE.width
    assert _cache_bytes(asked, LARGE, [20_000]) == 4 * 2 * 32 * 4096 * 20_100  # the first is begun in any case
    given = replace(asked.responses, mode="reference", beside=None)
    assert _cache_bytes(replace(asked, responses=given), LARGE, [30, 50]) == 0


def test_each_definition_of_importance_has_its_own_estimate():
    def flops(method):
        options = ["pair=demo", f"findings.instruction_recognition.explain.method={method}"]
        explain = build(composition.compose("config", options)).findings["instruction_recognition"].explain
        return explain.flops(LARGE, [100], 150)

    layers, embedding = LARGE.parameters - LARGE.vocabulary * LARGE.width, LARGE.vocabulary * LARGE.width
    forward = 2 * LARGE.parameters * 250
    assert flops("grad_x_input") == forward + 2 * layers * 100 * 150
    assert flops("integrated_gradients") == 32 * flops("grad_x_input")
    # From its masked token on, each of 100 masks takes the rest of the prompt and the response through the layers.
    rows = sum(100 - token + 150 for token in range(100))
    assert flops("occlusion") == pytest.approx(forward + 2 * layers * rows + 2 * embedding * 100 * 150, rel=0.01)


def test_null_models_are_said_with_the_time_that_they_take():
    import shiftbench.pipeline.estimate as estimated

    def line(*words):
        job = build(composition.compose("config", ["pair=demo", *words]))
        return estimated._null_models(job, LARGE, 1e12)

    assert line("control=none") == []
    (weights,) = line()
    assert weights.startswith("null models: 39 (permuted) for instruction_verbs, concept_rotation, estimated time ")
    (more,) = line("control=permuted")
    assert "39 (permuted) for instruction_recognition, instruction_verbs, concept_rotation, estimated" in more
    (lora,) = estimated._null_models(
        build(composition.compose("config", ["pair=demo_lora", "suite=demo"])), LARGE, 1e12
    )
    assert lora.startswith("null models: 199 (rotated) for instruction_verbs, concept_rotation")
    assert float(re.search(r"([0-9.]+) (h|min) more", more)[1]) > 0
