"""Working memory of one computation: `python -m tests.perf.memory NAME` in a process of its own.

Prints MiB: the high-water mark of resident memory during the call, less what is resident after loading and a small
warm-up call.
"""

from __future__ import annotations

import ctypes
import gc
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from shiftbench import ops

ROOT = Path(__file__).parents[2]
STATUS = Path("/proc/self/status")


def measured(name: str, timeout: float = 600) -> float:
    """MiB of the computation called `name`, in a fresh process."""
    command = [sys.executable, "-m", "tests.perf.memory", name]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False)
    if done.returncode:
        raise RuntimeError(f"memory of {name}: {done.stderr[-2000:]}")
    return float(done.stdout.split()[-1])


def attribution(prompt: int, response: int) -> Callable[[], object]:
    """Ours on SmolLM2."""
    from tests.perf import models

    model = models.smollm()
    case = models.case(model, prompt, response)
    models.ours(model, models.case(model, 4, 4))
    return lambda: models.ours(model, case)


def loop(prompt: int, response: int) -> Callable[[], object]:
    """The paper's, on SmolLM2; two backward passes have every buffer that the others use again."""
    from tests.perf import models, paper

    model = models.smollm()
    case = models.case(model, prompt, response)
    paper.loop(model.module, models.case(model, 4, 4))
    return lambda: paper.loop(model.module, case, tokens=2)


def vocab_topk(words: int, width: int, directions: int, k: int) -> Callable[[], object]:
    """Ours over random rows."""
    embedding_VD, direction_CD = torch.randn(words, width), torch.randn(directions, width)
    ops.vocab_topk(embedding_VD[:2048], direction_CD[:8], 4)
    return lambda: ops.vocab_topk(embedding_VD, direction_CD, k)


def argsort(words: int, width: int, directions: int, k: int) -> Callable[[], object]:
    """The full product and its argsort."""
    from tests.perf import peers

    embedding_VD, direction_CD = torch.randn(words, width), torch.randn(directions, width)
    peers.argsort_topk(embedding_VD[:2048], direction_CD[:8], 4)
    return lambda: peers.argsort_topk(embedding_VD, direction_CD, k)


def peak(call: Callable[[], object]) -> float:
    """MiB that the call adds to resident memory at its highest."""
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)  # what the warm-up gave back must not serve the call
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts again from here
    before = _resident("VmRSS")
    result = call()
    after = _resident("VmHWM")
    del result
    return after - before


def _resident(field: str) -> float:
    found = re.search(rf"{field}:\s*(\d+) kB", STATUS.read_text())
    assert found
    return int(found[1]) / 1024


if __name__ == "__main__":
    kind, *numbers = sys.argv[1].split("-")
    makers: dict[str, Callable[..., Callable[[], object]]] = {
        "attribution": attribution,
        "loop": loop,
        "vocab_topk": vocab_topk,
        "argsort": argsort,
    }
    print(peak(makers[kind](*map(int, numbers))))
