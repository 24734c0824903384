"""What gpu.py does and in which order: each part by itself, its rows kept as it ends, none begun that is too late."""

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
LATE = 20  # seconds behind the deadline at which a part that does not end is given up


@dataclass(frozen=True)
class Part:
    """rows: what it measures. seconds: about what it takes on an H200, a little more than less."""

    name: str
    seconds: float
    rows: Callable[[Bench], Iterable[Row]]


def parts(bench: Bench) -> list[Part]:
    """All of them: what costs little and may be wrong first, then by what the rows are worth."""
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
    """A run of all parts. began, deadline: seconds of time.monotonic. rows: of this run; skipped, failed: parts."""

    bench: Bench
    results: Results
    began: float
    deadline: float
    rows: list[Row] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    doing: str = ""

    def __call__(self, todo: Sequence[Part], give_up: Callable[[], None]) -> None:
        """give_up: called where a part does not end; all that was measured before it is on disk."""
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
            self.bench.release()  # after a kernel's failure this fails too
            found += part.rows(self.bench)  # row by row: those before a failure stay
        except NotMeasured as missing:
            self.skipped.append(f"{part.name} (needs {missing})")
        except Exception as failure:
            traceback.print_exc()
            why = (str(failure).splitlines() or [""])[0][:200]
            found.append(Row("failed", part.name, type(failure).__name__, 0.0, "", agrees=False, note=why))
            self.failed.append(part.name)
        mark = "REHEARSED" if self.bench.rehearsed else ""
        made = [
            dataclasses.replace(row, test=part.name, sources=sources, note="; ".join(filter(None, (mark, row.note))))
            for row in found
        ]
        self.results.add(made, all_of=part.name)
        self.rows += made
        now = time.monotonic()
        print(f"\n{part.name}: {now - started:.1f} s, {now - self.began:.0f} s so far", flush=True)
        print(table(made, sources), flush=True)

    @property
    def wrong(self) -> list[Row]:
        return [row for row in self.rows if not row.agrees]

    def report(self) -> str:
        """The rows of this run in one table, and what is to be said of them."""
        told = [table(self.rows, sources_digest())]
        if self.doing:
            told.append(f"GIVEN UP in the middle of: {self.doing}")
        if self.skipped:
            told.append(f"SKIPPED: {'; '.join(self.skipped)}")
        told += [
            f"WRONG RESULT: {row.spot}, {row.case}, {row.against}: {row.agreement} {row.note}" for row in self.wrong
        ]
        checked = [row for row in self.rows if row.spot == "check"]
        told.append(f"{sum(row.agrees for row in checked)} of {len(checked)} checks agree")
        told.append(f"table and JSON: {self.results.path.with_suffix('.md')}, {self.results.path.name}")
        return "\n".join(told)

    @property
    def status(self) -> int:
        """Of the process: 1 where a result is wrong, a part failed or did not end."""
        return 1 if self.wrong or self.failed or self.doing else 0
