"""The bundled models, from configuration to results, as a user's own process runs it."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors import safe_open

from shiftbench.demo import MODELS, model_folder

pytestmark = pytest.mark.demo
SMALL = [
    "suite=demo", "dataset.limit=6", "response.max_new_tokens=12", "vocabulary.size=4500", "bootstrap.resamples=500",
    "tracking=none",
]  # fmt: skip


def command(folder, out, *more):
    stored = [] if any(word.startswith("store.path") for word in more) else [f"store.path={folder / 'store'}"]
    words = ["score", "pair=demo", *SMALL, *stored, f"out={folder / out}", *more]
    return [sys.executable, "-m", "shiftbench", *words]


def run(folder, out, *more):
    return subprocess.run(command(folder, out, *more), cwd=folder, capture_output=True, text=True, timeout=600)


@pytest.mark.parametrize("name", MODELS)
def test_a_bundled_model_is_small_safe_and_has_a_card(name):
    folder = Path(model_folder(name))
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    assert sum(sizes.values()) < 7_000_000
    assert not [file for file in sizes if file.endswith((".bin", ".pt", ".pkl"))]
    weights = "adapter_model.safetensors" if name == "tuned_lora" else "model.safetensors"
    with safe_open(folder / weights, framework="pt") as tensors:
        assert {str(tensors.get_tensor(key).dtype) for key in tensors.keys()} == {"torch.bfloat16"}
    card = (folder / "README.md").read_text(encoding="utf-8")
    for part in ("Data and licenses", "Held-out loss", "Training loss", "Answers to held-out instructions"):
        assert part in card


def test_the_models_fit_in_a_package():
    root = Path(model_folder("base")).parent
    assert sum(path.stat().st_size for path in root.rglob("*") if path.is_file()) < 30_000_000


# Eight processes that import for seconds each. tests/command/test_signals.py kills a smaller job three times.
@pytest.mark.nightly
def test_killed_at_random_moments_the_same_command_goes_on(tmp_path):
    """kill -9 again and again; what was stored stays, and the scores are those of a run that nobody killed."""
    whole = run(tmp_path, "whole", f"store.path={tmp_path / 'other'}")
    assert whole.returncode == 0, whole.stderr
    draw = random.Random(7)
    kept = 0
    for _ in range(5):
        process = subprocess.Popen(
            command(tmp_path, "out"), cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        # The imports take seconds; what is to be hit is the explaining, which begins with the first stored unit.
        wait_for_units(process, tmp_path / "store", kept + 1)
        time.sleep(draw.uniform(0.0, 0.4))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        now = units(tmp_path / "store")
        assert now >= kept
        kept = now
    last = run(tmp_path, "out")
    assert last.returncode == 0, last.stderr
    assert f"{kept} were in the store" in last.stdout
    verified = subprocess.run(
        [sys.executable, "-m", "shiftbench", "store", "verify", f"store.path={tmp_path / 'store'}"],
        capture_output=True,
        text=True,
    )
    assert verified.returncode == 0, verified.stdout + verified.stderr
    scores = [json.loads((tmp_path / out / "scores.json").read_text())["scores"] for out in ("whole", "out")]
    assert scores[0] == scores[1]


def units(store):
    return sum(1 for _ in store.glob("??/*/record.json"))


def wait_for_units(process, store, count):
    end = time.monotonic() + 120
    while process.poll() is None and units(store) < count and time.monotonic() < end:
        time.sleep(0.02)


def test_interrupted_by_the_user_it_says_how_to_go_on(tmp_path):
    process = subprocess.Popen(
        command(tmp_path, "out"), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # A shell that puts CI in the background has it ignore Ctrl-C, and its children with it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    wait_for_units(process, tmp_path / "store", 1)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert error.rstrip().splitlines()[-1].endswith("run the same command again to continue from here")


def test_another_thread_count_gives_the_same_numbers(tmp_path):
    results = []
    for threads in ("1", "2"):
        environment = {**os.environ, "OMP_NUM_THREADS": threads}
        ran = subprocess.run(
            command(tmp_path, f"out{threads}", f"store.path={tmp_path / threads}", "control=weights_3"),
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        results.append(json.loads((tmp_path / f"out{threads}" / "scores.json").read_text())["scores"])
    for one, two in zip(*results, strict=True):
        assert one["n"] == two["n"] and one["value"] == pytest.approx(two["value"], abs=1e-6), one["name"]


def test_the_log_of_a_training_that_diverges_is_written(tmp_path, monkeypatch):
    """The error says "see LOG", so that file must be there."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("peft")
    from shiftbench.demo import train

    model = torch.nn.Module()
    model.model, model.lm_head = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    monkeypatch.setattr(train, "causal_model", lambda model: model)
    monkeypatch.setattr(torch, "compile", lambda module, **_: module)
    monkeypatch.setattr(train, "batch_loss", lambda *_: model.lm_head.weight.sum() * float("nan"))
    monkeypatch.setattr(train, "optimizers", lambda model, recipe: [torch.optim.SGD(model.parameters(), 0.1)])
    log = tmp_path / "base.json"
    recipe = train.Recipe(3, 1e-3, 1, 10, 0.0, 1, False)
    with pytest.raises(RuntimeError, match=f"diverged; see {log}"):
        train.fit(model, iter([None] * 3), recipe, "cpu", log)
    assert [point["step"] for point in json.loads(log.read_text())] == [3]
