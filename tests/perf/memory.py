"""Working memory of one computation: `python -m tests.perf.memory NAME` in a process of its own.

The heap is set as the command line sets it. Prints two numbers of MiB: the high-water mark of resident memory during
the call, less what is resident after loading and a small warm-up call; and what that warm-up call left resident (copies
of weights, threads' buffers).
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
from torch import Tensor

from shiftbench import ops
from shiftbench.system import heap

ROOT = Path(__file__).parents[2]
STATUS = Path("/proc/self/status")


Prepared = tuple[Callable[[], object], Callable[[], object]]  # the call, and its warm-up


def measured(name: str, timeout: float = 600) -> tuple[float, float]:
    """(peak of the computation called `name`, what its warm-up left), MiB, in a fresh process."""
    command = [sys.executable, "-m", "tests.perf.memory", name]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False)
    if done.returncode:
        raise RuntimeError(f"memory of {name}: {done.stderr[-2000:]}")
    found, left = map(float, done.stdout.split()[-2:])
    return found, left


def attribution(prompt: int, response: int) -> Prepared:
    """Ours on SmolLM2, beside a module that has made a forward pass."""
    from tests.perf import models

    model = models.smollm()
    case, small = models.case(model, prompt, response), models.case(model, 4, 4)
    models.forward(model, small)
    return lambda: models.ours(model, case), lambda: models.ours(model, small)


def loop(prompt: int, response: int) -> Prepared:
    """The paper's, on SmolLM2; two backward passes have every buffer that the others use again."""
    from shiftbench.perf import paper
    from tests.perf import models

    model = models.smollm()
    case, small = models.case(model, prompt, response), models.case(model, 4, 4)
    models.forward(model, small)
    return lambda: paper.loop(model.module, case, tokens=2), lambda: paper.loop(model.module, small)


def vocab_topk(words: int, width: int, directions: int, k: int) -> Prepared:
    """Ours over random rows."""
    return _search(ops.vocab_topk, words, width, directions, k)


def argsort(words: int, width: int, directions: int, k: int) -> Prepared:
    """The full product and its argsort."""
    from tests.perf import peers

    return _search(peers.argsort_topk, words, width, directions, k)


def _search(
    search: Callable[[Tensor, Tensor, int], object], words: int, width: int, directions: int, k: int
) -> Prepared:
    embedding_VD, direction_CD = torch.randn(words, width), torch.randn(directions, width)
    return lambda: search(embedding_VD, direction_CD, k), lambda: search(embedding_VD[:2048], direction_CD[:8], 4)


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
    heap.use_one_arena()
    kind, *numbers = sys.argv[1].split("-")
    makers: dict[str, Callable[..., Prepared]] = {
        "attribution": attribution,
        "loop": loop,
        "vocab_topk": vocab_topk,
        "argsort": argsort,
    }
    call, warm_up = makers[kind](*map(int, numbers))
    loaded = _resident("VmRSS")
    warm_up()
    left = _resident("VmRSS") - loaded
    print(peak(call), left)
