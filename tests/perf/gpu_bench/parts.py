"""The parts of gpu.py in their order. Each runs by itself, and its rows are written when it ends.

A part that would end after the deadline is not started.
"""

from __future__ import annotations

import dataclasses
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from shiftbench.engine.product import Precision
from tests.perf.gpu_bench import attribution_times, checks, engine_checks, op_times, whole_times
from tests.perf.gpu_bench.bench import Bench, NotMeasured
from tests.perf.rows import Results, Row, sources_digest, table

PRECISIONS = (Precision.BFLOAT16, Precision.TF32, Precision.FLOAT32)
LATE = 20  # seconds after the deadline at which a part that has not ended is abandoned


@dataclass(frozen=True)
class Part:
    """A part. rows: measures it. seconds: the time that it takes on an H200, rounded up."""

    name: str
    seconds: float
    rows: Callable[[Bench], Iterable[Row]]


def parts(bench: Bench) -> list[Part]:
    """All parts: first the checks, which are quick, then the timings in the order of their importance."""
    timed = [
        Part(
            f"attribution ({prompt}, {response}), {precision.value}",
            35 if precision is Precision.FLOAT32 else 25,
            partial(_attribution, prompt=prompt, response=response, precision=precision),
        )
        for prompt, response in bench.sizes.lengths
        for precision in PRECISIONS
    ]
    found = [
        Part("check importance ops", 5, checks.importance_ops),
        Part("check vocab_topk", 8, checks.vocab_topk),
        Part("check co-occurrence and word pairs", 8, checks.cooccurrence_and_pairs),
        Part("check bootstrap", 3, checks.bootstrap),
        Part("check the engine's stages", 5, engine_checks.stages),
        Part("check components", 5, engine_checks.components),
        Part("check the engine", 15, engine_checks.engine),
        Part("rates of the card", 8, op_times.card),
        Part("vocab_topk", 15, op_times.vocab_topk),
        Part("importance densities", 5, op_times.density),
        Part("bootstrap", 3, op_times.bootstrap),
        *timed,
        Part("word pairs", 30, whole_times.word_pairs),
        Part("components", 50, whole_times.components),
        Part("the rest of a pair", 25, whole_times.rest),
        Part("whole pair", 1, whole_times.whole_pair),
    ]
    return [dataclasses.replace(part, seconds=0) for part in found] if bench.rehearsed else found


def _attribution(bench: Bench, prompt: int, response: int, precision: Precision) -> Iterator[Row]:
    return attribution_times.attribution(bench, prompt, response, precision)


@dataclass
class Run:
    """A run of all parts.

    began, deadline: seconds of time.monotonic. rows: of this run. skipped, failed: names of parts. doing: the part that
    is running, '' where none is.
    """

    bench: Bench
    results: Results
    began: float
    deadline: float
    rows: list[Row] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    doing: str = ""

    def __call__(self, todo: Sequence[Part], give_up: Callable[[], None]) -> None:
        """Run the parts. give_up: called where a part does not end; the rows of earlier parts are on disk then."""
        watch = threading.Timer(max(0.0, self.deadline + LATE - time.monotonic()), give_up)
        watch.daemon = True
        watch.start()
        for part in todo:
            if time.monotonic() + part.seconds > self.deadline:
                self.skipped.append(f"{part.name} (too late)")
                continue
            self.doing = part.name
            self._do(part)
        self.doing = ""
        watch.cancel()

    def _do(self, part: Part) -> None:
        started, found, sources = time.monotonic(), list[Row](), sources_digest()
        try:
            self.bench.release()  # fails as well after a failure of a kernel
            found += part.rows(self.bench)  # added one by one, so the rows before a failure stay
        except NotMeasured as missing:
            self.skipped.append(f"{part.name} (needs {missing})")
        except Exception as failure:
            traceback.print_exc()
            why = (str(failure).splitlines() or [""])[0][:200]
            found.append(Row("failed", part.name, type(failure).__name__, 0.0, "", agrees=False, note=why))
            self.failed.append(part.name)
        mark = "REHEARSED" if self.bench.rehearsed else ""
        complete = [
            dataclasses.replace(row, test=part.name, sources=sources, note="; ".join(filter(None, (mark, row.note))))
            for row in found
        ]
        self.results.add(complete, all_of=part.name)
        self.rows += complete
        now = time.monotonic()
        print(f"\n{part.name}: {now - started:.1f} s, {now - self.began:.0f} s so far", flush=True)
        print(table(complete, sources), flush=True)

    @property
    def wrong(self) -> list[Row]:
        return [row for row in self.rows if not row.agrees]

    def report(self) -> str:
        """The rows of this run in one table, and below it what was skipped, what is wrong, and a summary."""
        texts = [table(self.rows, sources_digest())]
        if self.doing:
            texts.append(f"GIVEN UP in the middle of: {self.doing}")
        if self.skipped:
            texts.append(f"SKIPPED: {'; '.join(self.skipped)}")
        texts += [
            f"WRONG RESULT: {row.spot}, {row.case}, {row.against}: {row.agreement} {row.note}" for row in self.wrong
        ]
        checked = [row for row in self.rows if row.spot == "check"]
        texts.append(f"{sum(row.agrees for row in checked)} of {len(checked)} checks agree")
        texts.append(f"table and JSON: {self.results.path.with_suffix('.md')}, {self.results.path.name}")
        return "\n".join(texts)

    @property
    def status(self) -> int:
        """The exit status: 1 where a result is wrong, or a part failed or did not end; else 0."""
        return 1 if self.wrong or self.failed or self.doing else 0
