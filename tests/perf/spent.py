"""Measures in which parts of the engine an attribution spends its time: python -m tests.perf.spent [P,R ...]

P and R are the numbers of prompt and response tokens. Without them, the lengths of the benchmark are measured, and the
tables are also written beside its results.

The functions of the engine are timed where the engine calls them. The forward pass and the logits use all threads. All
other parts belong to a chunk, which has its own thread, so their seconds count by that thread's share of all threads.
The time that no part accounts for is that of Python, and of threads that wait because no chunk is left. The model is
SmolLM2. Of three rounds for each length the median one is shown.
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

from shiftbench.engine import core_calls, decoding, importance, segmented_forward
from shiftbench.engine.cut import CutBuffer
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
    """A part of the engine that is timed.

    name: for the table. place, function: the object and its attribute that the engine calls. flop: gives the
    floating-point operations of a call from its arguments.
    """

    name: str
    place: Any
    function: str
    flop: Flop | None = None


def _forward(_: Any, x_TD: torch.Tensor, blocks: Sequence[Block], keep: bool = True) -> float:
    return 2.0 * len(x_TD) * sum(map(decoding._weights, blocks))


def _product(*given: Any) -> float:
    """The last two arguments are the rows and the linear map that they go through."""
    return 2.0 * len(given[-2]) * given[-1].weight_IO.numel()


PARTS = (
    Part("forward pass", segmented_forward, "forward", _forward),
    Part(
        "logits and their cotangents", importance, "top_directions",
        lambda model, top_RD, *_: 4.0 * len(top_RD) * model.head.weight_IO.numel(),
    ),
    *(Part("products", Precision, f"{add}linear_{kind}", _product) for add in ("", "add_") for kind in ("jvp", "vjp")),
    Part(
        "gate and up-projection, merged", core_calls, "gate_up_derivative",
        lambda cache, inner, x, *_, **__: 2.0 * len(x) * inner.gate.weight_IO.numel(),
    ),
    Part("attention", core_calls, "attention_derivative"),
    Part("norms", core_calls, "norm_derivative"),
    Part("rotation", core_calls, "rotary_derivative"),
    Part("cut", CutBuffer, "store"),
    Part("cut", CutBuffer, "multiply"),
)  # fmt: skip
REST = "Python, and waiting"


class Spent:
    """Seconds and operations by part. A part that is called inside another part counts for the outer one."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.flop: dict[str, float] = defaultdict(float)
        self._lock, self._here = threading.Lock(), threading.local()
        self._threads = torch.get_num_threads()  # the engine divides them among its own threads

    def timed(self, part: Part) -> Callable[..., Any]:
        """The part's function, which also adds its seconds and operations."""
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
        """Time all that the engine does in the block."""
        with ExitStack() as stack:
            for part in PARTS:
                stack.enter_context(patch.object(part.place, part.function, self.timed(part)))
            start = time.perf_counter()
            yield
            whole = time.perf_counter() - start
        self.seconds[REST] = whole - sum(self.seconds.values())


def spent(model: Model, case: Case) -> Spent:
    """The seconds and operations of one attribution by part."""
    found = Spent()
    with found.counting():
        models.ours(model, case)
    return found


def table(found: Spent, peak: float) -> str:
    """A Markdown table of the parts, the longest first.

    Parts with known operations have their rate, also as a share of `peak`, the machine's rate in FLOP/s.
    """
    whole = sum(found.seconds.values())
    lines = ["| part | seconds | share | GFLOP/s | of the product's rate |", "|---|---|---|---|---|"]
    for name, seconds in sorted(found.seconds.items(), key=lambda item: (item[0] == REST, -item[1])):
        rate = found.flop[name] / seconds
        rates = f"{rate / 1e9:.0f} | {rate / peak:.0%}" if rate else " | "
        lines.append(f"| {name} | {seconds:.3f} | {seconds / whole:.1%} | {rates} |")
    return "\n".join([*lines, f"| all | {whole:.3f} | | | |"])


def measured(model: Model, prompt: int, response: int) -> str:
    """The table of one length, with a line above it that names the length."""
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
    model, texts = models.smollm(), [processor().head]
    print(texts[0])
    for lengths in [tuple(map(int, one.split(","))) for one in given] or LENGTHS:
        texts.append(measured(model, *lengths))
        print(texts[-1], flush=True)
    if not given:
        path = Results().path
        write_whole(path.with_name(f"{path.stem}-spent.md"), "\n".join(texts) + "\n", "table")


if __name__ == "__main__":
    main(sys.argv[1:])
