"""Measurements against a baseline: which ratio grew, which counter rose.

A ratio is suspect when it exceeds LIMIT times its baseline, and has failed when two more processes, started anew and
measuring longer, find the same. LIMIT lies half-way to a slowdown of a fifth: one of 15% is seen even where noise
takes 4% off it, and noise alone has to make 10% three times in a row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from shiftbench.perf.baseline import Baseline
from shiftbench.perf.measure import PROGRAM, Asked, Measured, measured
from shiftbench.perf.statistic import BLOCK, Ratio

LIMIT = 1.10
CONFIRMING = 3 * BLOCK  # rounds, at least
PROCESSES = 2  # that confirm


@dataclass(frozen=True)
class Judged:
    """A ratio beside its baseline. again: as further processes found it; none are asked where it is not suspect."""

    key: str
    baseline: float
    found: Ratio
    again: Sequence[Ratio] = ()

    @property
    def last(self) -> Ratio:
        """The measurement that the verdict is about."""
        return self.again[-1] if self.again else self.found

    @property
    def slowdown(self) -> float:
        """How many times the baseline it is."""
        return self.last.value / self.baseline

    @property
    def failed(self) -> bool:
        return len(self.again) == PROCESSES and self.slowdown > LIMIT

    @property
    def verdict(self) -> str:
        """In words, for a table."""
        if self.failed:
            return "FAILED"
        return "ok: another process did not find it slow" if self.again else "ok"


@dataclass(frozen=True)
class Counter:
    """A counter beside its limit, which is what the baseline has. limit: None where it has none."""

    spot: str
    name: str
    limit: int | None
    found: int

    @property
    def failed(self) -> bool:
        return self.limit is not None and self.found > self.limit

    @property
    def verdict(self) -> str:
        """In words, for a table."""
        if self.limit is None:
            return "not in the baseline: record it"
        if self.found < self.limit:
            return "less than the baseline: record it"
        return "FAILED" if self.failed else "ok"


@dataclass(frozen=True)
class Check:
    """What one `shiftbench perf check` found. known: whether the baseline has ratios of this class of CPU."""

    machine: str
    torch: str
    known: bool
    ratios: Sequence[Judged]
    counters: Sequence[Counter]
    missing: Sequence[str]  # of the baseline: what is no longer measured

    @property
    def passed(self) -> bool:
        return not (self.missing or any(one.failed for one in self.ratios) or any(one.failed for one in self.counters))


def check(baseline: Baseline, machine: str, program: Sequence[str] = PROGRAM) -> Check:
    """Measure and judge on this machine, of this class. program: what the measuring processes run."""
    measure = partial(measured, program=program)
    base = baseline.ratios(machine)
    first = measure(Asked(keys=list(base), limits={key: LIMIT * value for key, value in base.items()}))
    ratios = list(judged(base, first, measure))
    counters = list(counted(baseline, first))
    missing = sorted({*base} - {*first.ratios}) + sorted({*baseline.counters} - {*first.counters})
    return Check(machine, first.torch, bool(base), ratios, counters, missing)


def judged(base: Mapping[str, float], first: Measured, again: Callable[[Asked], Measured]) -> Iterator[Judged]:
    """Every ratio that has a baseline; those that are suspect as another process finds them."""
    known = {key: found for key, found in first.ratios.items() if key in base}
    confirming: dict[str, list[Ratio]] = {key: [] for key in known}
    suspects = [key for key, found in known.items() if found.value > LIMIT * base[key]]
    for _ in range(PROCESSES):
        if suspects:
            more = again(Asked(suspects, {key: LIMIT * base[key] for key in suspects}, CONFIRMING)).ratios
            for key in suspects:
                confirming[key].append(more[key])
            suspects = [key for key in suspects if more[key].value > LIMIT * base[key]]
    for key, found in known.items():
        yield Judged(key, base[key], found, confirming[key])


def counted(baseline: Baseline, first: Measured) -> Iterator[Counter]:
    """Every counter of every hot spot."""
    for spot, counts in first.counters.items():
        for name, found in counts.items():
            yield Counter(spot, name, baseline.counters.get(spot, {}).get(name), found)
