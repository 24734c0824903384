"""Where an attribution's time is spent: python -m tests.perf.spent [P,R ...], without lengths those of the benchmark.

The engine's functions are timed where it calls them. The forward pass and the logits have all threads; all other parts
are a chunk's, in a thread of its own, and count by its share of the threads. What no part is blamed for is Python's,
and the waiting of a thread that has no chunk left. SmolLM2, three rounds a length, of which the middle one is shown.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple
from unittest.mock import patch

import torch

from shiftbench import heap
from shiftbench.engine import core, importance, passes
from shiftbench.engine.border import Border
from shiftbench.engine.product import Precision
from shiftbench.models import Model
from shiftbench.perf.cases import Case
from tests.perf import models
from tests.perf.rows import processor
from tests.perf.targets import LENGTHS
from tests.perf.test_attribution import GEMM, gemm

ROUNDS = 3
Flop = Callable[..., float]


class Part(NamedTuple):
    """name: for the table; place, function: where the engine finds what is timed; flop: operations of a call."""

    name: str
    place: Any
    function: str
    flop: Flop | None = None


def _forward(_: Any, x_TD: torch.Tensor, blocks: Sequence[Any], keep: bool = True) -> float:
    weights = (w for block in blocks for w in _matrices(block.attention, "query", "key", "value", "out"))
    inner = (w for block in blocks for w in _matrices(block.feed_forward, "gate", "up", "down"))
    return 2.0 * len(x_TD) * (sum(weights) + sum(inner))


def _matrices(holder: Any, *names: str) -> Iterator[int]:
    for linear in (getattr(holder, name) for name in names):
        if linear is not None:
            yield linear.weight_IO.numel()


def _product(*given: Any) -> float:
    """Rows and the map that they go through come last."""
    return 2.0 * len(given[-2]) * given[-1].weight_IO.numel()


PARTS = (
    Part("forward pass", passes, "forward", _forward),
    Part(
        "logits and their cotangents", importance, "top_directions",
        lambda model, top_RD, _: 4.0 * len(top_RD) * model.head.weight_IO.numel(),
    ),
    *(Part("products", Precision, name, _product) for name in ("along", "back", "add_along", "add_back")),
    Part(
        "gate and up-projection, merged", core, "gated",
        lambda kept, inner, x, *_, **__: 2.0 * len(x) * inner.gate.weight_IO.numel(),
    ),
    Part("attention", core, "attention"),
    Part("norms", core, "norm"),
    Part("rotation", core, "rotate"),
    Part("border", Border, "leave"),
    Part("border", Border, "meet"),
)  # fmt: skip
REST = "Python, and waiting"


class Spent:
    """Seconds and operations by part; a part that another one calls is the caller's."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.flop: dict[str, float] = defaultdict(float)
        self._lock, self._here = threading.Lock(), threading.local()
        self._threads = torch.get_num_threads()  # of which the engine gives each of its own threads some

    def timed(self, part: Part) -> Callable[..., Any]:
        function = getattr(part.place, part.function)

        def run(*given: Any, **named: Any) -> Any:
            if getattr(self._here, "inside", False):
                return function(*given, **named)
            self._here.inside = True
            flop, start = 0.0 if part.flop is None else part.flop(*given, **named), time.perf_counter()
            try:
                return function(*given, **named)
            finally:
                seconds = time.perf_counter() - start
                self._here.inside = False
                with self._lock:
                    self.seconds[part.name] += seconds * torch.get_num_threads() / self._threads
                    self.flop[part.name] += flop

        return run

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Of all that the engine does in the block."""
        with ExitStack() as stack:
            for part in PARTS:
                stack.enter_context(patch.object(part.place, part.function, self.timed(part)))
            start = time.perf_counter()
            yield
            whole = time.perf_counter() - start
        self.seconds[REST] = whole - sum(self.seconds.values())


def spent(model: Model, case: Case) -> Spent:
    """On one attribution."""
    found = Spent()
    with found.counting():
        models.ours(model, case)
    return found


def table(found: Spent, peak: float) -> str:
    """Parts, the longest first, with the rate of those whose operations are known beside the machine's own."""
    whole = sum(found.seconds.values())
    lines = ["| part | seconds | share | GFLOP/s | of the product's rate |", "|---|---|---|---|---|"]
    for name, seconds in sorted(found.seconds.items(), key=lambda item: (item[0] == REST, -item[1])):
        rate = found.flop.get(name, 0.0) / seconds if seconds > 0 else 0.0
        cells = (f"{rate / 1e9:.0f}", f"{rate / peak:.0%}") if rate else ("", "")
        lines.append(f"| {name} | {seconds:.3f} | {seconds / whole:.1%} | {cells[0]} | {cells[1]} |")
    return "\n".join([*lines, f"| all | {whole:.3f} | | | |"])


def main(given: Sequence[str]) -> None:
    heap.use_one()
    model = models.smollm()
    print(processor().head)
    for prompt, response in [tuple(map(int, one.split(","))) for one in given] or LENGTHS:
        case = models.case(model, prompt, response)
        models.ours(model, case)
        rounds, peaks = [], []
        for _ in range(ROUNDS):
            peaks.append(2.0 * GEMM**3 / gemm(None).seconds)
            rounds.append(spent(model, case))
        middle = sorted(range(ROUNDS), key=lambda i: sum(rounds[i].seconds.values()))[ROUNDS // 2]
        print(f"\n{model.name}, P {prompt}, R {response}; the product's rate is {peaks[middle] / 1e9:.0f} GFLOP/s:\n")
        print(table(rounds[middle], peaks[middle]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
