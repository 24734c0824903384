"""Measures the working memory of one computation: `python -m tests.perf.memory NAME`, in its own process.

The memory allocator is configured as the command line does. Two numbers in MiB are printed. The first is the peak of
resident memory during the call, minus the resident memory after loading and a small warm-up call. The second is what
the warm-up call left resident, as copies of weights and buffers of threads.
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
    """(peak of the computation of this name, memory that its warm-up left), in MiB, measured in a new process."""
    command = [sys.executable, "-m", "tests.perf.memory", name]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False)
    if done.returncode:
        raise RuntimeError(f"memory of {name}: {done.stderr[-2000:]}")
    found, left = map(float, done.stdout.split()[-2:])
    return found, left


def attribution(prompt: int, response: int) -> Prepared:
    """Our attribution on SmolLM2, after the module has made a forward pass."""
    from tests.perf import models

    model = models.smollm()
    case, small = models.case(model, prompt, response), models.case(model, 4, 4)
    models.forward(model, small)
    return lambda: models.ours(model, case), lambda: models.ours(model, small)


def loop(prompt: int, response: int) -> Prepared:
    """The paper's loop on SmolLM2. Two backward passes allocate every buffer, and later ones reuse them."""
    from shiftbench.perf import paper
    from tests.perf import models

    model = models.smollm()
    case, small = models.case(model, prompt, response), models.case(model, 4, 4)
    models.forward(model, small)
    return lambda: paper.loop(model.module, case, tokens=2), lambda: paper.loop(model.module, small)


def vocab_topk(words: int, width: int, directions: int, k: int) -> Prepared:
    """Our search over random embeddings."""
    return _search(ops.vocab_topk, words, width, directions, k)


def argsort(words: int, width: int, directions: int, k: int) -> Prepared:
    """The full product, sorted by argsort."""
    from tests.perf import peers

    return _search(peers.argsort_topk, words, width, directions, k)


def _search(
    search: Callable[[Tensor, Tensor, int], object], words: int, width: int, directions: int, k: int
) -> Prepared:
    embedding_VD, direction_CD = torch.randn(words, width), torch.randn(directions, width)
    return lambda: search(embedding_VD, direction_CD, k), lambda: search(embedding_VD[:2048], direction_CD[:8], 4)


def peak(call: Callable[[], object]) -> float:
    """The largest amount of resident memory that the call adds, in MiB."""
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)  # the call must not reuse memory that the warm-up freed
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak of resident memory
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
