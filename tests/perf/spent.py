"""Where an attribution's time is spent: python -m tests.perf.spent [P,R ...]

Without lengths those of the benchmark, whose tables are also put beside its results.

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

from shiftbench.engine import core, decoding, importance, passes
from shiftbench.engine.border import Border
from shiftbench.engine.product import Precision
from shiftbench.models import Model
from shiftbench.models.block import Block
from shiftbench.perf.cases import Case
from shiftbench.system import heap
from shiftbench.system.files import write_whole
from tests.perf import models
from tests.perf.rows import Results, processor
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


def _forward(_: Any, x_TD: torch.Tensor, blocks: Sequence[Block], keep: bool = True) -> float:
    return 2.0 * len(x_TD) * sum(map(decoding._weights, blocks))


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
            flop = 0.0 if part.flop is None else part.flop(*given, **named)
            start = time.perf_counter()
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
        rate = found.flop[name] / seconds
        rates = f"{rate / 1e9:.0f} | {rate / peak:.0%}" if rate else " | "
        lines.append(f"| {name} | {seconds:.3f} | {seconds / whole:.1%} | {rates} |")
    return "\n".join([*lines, f"| all | {whole:.3f} | | | |"])


def measured(model: Model, prompt: int, response: int) -> str:
    """The table of one length, and what it is of."""
    case = models.case(model, prompt, response)
    models.ours(model, case)
    rounds = []
    for _ in range(ROUNDS):
        peak = 2.0 * GEMM**3 / gemm(None).seconds
        rounds.append((spent(model, case), peak))
    found, peak = sorted(rounds, key=lambda one: sum(one[0].seconds.values()))[ROUNDS // 2]
    head = f"{model.name}, P {prompt}, R {response}; the product's rate is {peak / 1e9:.0f} GFLOP/s:"
    return f"\n{head}\n\n{table(found, peak)}"


def main(given: Sequence[str]) -> None:
    heap.use_one_arena()
    model, said = models.smollm(), [processor().head]
    print(said[0])
    for lengths in [tuple(map(int, one.split(","))) for one in given] or LENGTHS:
        said.append(measured(model, *lengths))
        print(said[-1], flush=True)
    if not given:
        path = Results().path
        write_whole(path.with_name(f"{path.stem}-spent.md"), "\n".join(said) + "\n", "table")


if __name__ == "__main__":
    main(sys.argv[1:])
