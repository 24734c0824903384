"""Compares measurements with a baseline: which ratio of times grew, and which counter rose.

A ratio is suspect where it exceeds LIMIT times its baseline. A suspect ratio fails where PROCESSES further processes,
which measure longer, all find it above that limit. With LIMIT = 1.10 a slowdown of 15% is found even where noise lowers
the ratio by 4%. Without a slowdown a ratio fails only where noise raises it by more than 10% in three processes in a
row, the first one and PROCESSES = 2 further ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from shiftbench.perf.baseline import Baseline
from shiftbench.perf.measure import PROGRAM, Measured, MeasurementRequest, measured
from shiftbench.perf.statistic import BLOCK, Ratio

LIMIT = 1.10
CONFIRMING = 3 * BLOCK  # the fewest rounds of a process that must confirm a suspect ratio
PROCESSES = 2  # further processes that must confirm a suspect ratio


@dataclass(frozen=True)
class JudgedRatio:
    """A ratio with its baseline.

    found: what the first process measured. again: what up to PROCESSES further processes measured, one after the other
    until one of them is within LIMIT times the baseline; empty where `found` already is.
    """

    key: str
    baseline: float
    found: Ratio
    again: Sequence[Ratio] = ()

    @property
    def last(self) -> Ratio:
        """The last measurement, which decides."""
        return self.again[-1] if self.again else self.found

    @property
    def slowdown(self) -> float:
        """The last measurement divided by the baseline."""
        return self.last.value / self.baseline

    @property
    def failed(self) -> bool:
        """Whether the first process and all PROCESSES further ones found more than LIMIT times the baseline."""
        return len(self.again) == PROCESSES and self.slowdown > LIMIT

    @property
    def verdict(self) -> str:
        """The verdict in words, for a table."""
        if self.failed:
            return "FAILED"
        return "ok: another process did not confirm the slowdown" if self.again else "ok"


@dataclass(frozen=True)
class Counter:
    """A counter of a hot spot.

    spot: the name of the hot spot. name: the name of the counter, such as flops. limit: the baseline's count, which
    `found` may not exceed; None where the baseline has no such counter, which then cannot fail.
    """

    spot: str
    name: str
    limit: int | None
    found: int

    @property
    def failed(self) -> bool:
        return self.limit is not None and self.found > self.limit

    @property
    def verdict(self) -> str:
        """The verdict in words, for a table."""
        if self.limit is None:
            return "not in the baseline: record a new baseline"
        if self.found < self.limit:
            return "less than in the baseline: record a new baseline"
        return "FAILED" if self.failed else "ok"


@dataclass(frozen=True)
class Check:
    """The result of one `shiftbench perf check`.

    machine: the class of CPU. torch: the version of torch. known: whether the baseline has ratios of this class; where
    it has none, `ratios` is empty. missing: what the baseline has and was not measured: ratios of this class by their
    keys, hot spots by their names, and counters of measured hot spots as HOT SPOT.NAME.
    """

    machine: str
    torch: str
    known: bool
    ratios: Sequence[JudgedRatio]
    counters: Sequence[Counter]
    missing: Sequence[str]

    @property
    def passed(self) -> bool:
        """Whether no ratio and no counter failed and nothing is missing. A class of CPU that is not known can pass."""
        return not (self.missing or any(one.failed for one in self.ratios) or any(one.failed for one in self.counters))


def check(baseline: Baseline, machine: str, program: Sequence[str] = PROGRAM) -> Check:
    """Measure on this machine and compare with the baseline.

    machine: this machine's class of CPU. program: the command that starts a measuring process. Raises RuntimeError
    where such a process fails.
    """
    measure = partial(measured, program=program)
    base = baseline.ratios(machine)
    first = measure(MeasurementRequest(keys=list(base), limits={key: LIMIT * value for key, value in base.items()}))
    ratios = list(judge_ratios(base, first, measure))
    counters = list(judge_counters(baseline, first))
    missing = sorted({*base} - {*first.ratios}) + missing_counters(baseline, first)
    return Check(machine, first.torch, bool(base), ratios, counters, missing)


def judge_ratios(
    base: Mapping[str, float], first: Measured, again: Callable[[MeasurementRequest], Measured]
) -> Iterator[JudgedRatio]:
    """Judge every measured ratio that has a baseline.

    base: the baseline's ratios, by key. first: the first measurement. again: measures in a further process. It is
    called up to PROCESSES times, with the ratios that are still suspect.
    """
    known = {key: found for key, found in first.ratios.items() if key in base}
    confirming: dict[str, list[Ratio]] = {key: [] for key in known}
    suspects = [key for key, found in known.items() if found.value > LIMIT * base[key]]
    for _ in range(PROCESSES):
        if suspects:
            more = again(MeasurementRequest(suspects, {key: LIMIT * base[key] for key in suspects}, CONFIRMING)).ratios
            for key in suspects:
                confirming[key].append(more[key])
            suspects = [key for key in suspects if more[key].value > LIMIT * base[key]]
    for key, found in known.items():
        yield JudgedRatio(key, base[key], found, confirming[key])


def judge_counters(baseline: Baseline, first: Measured) -> Iterator[Counter]:
    """Judge every counter that was measured, of every hot spot."""
    for spot, counts in first.counters.items():
        for name, found in counts.items():
            yield Counter(spot, name, baseline.counters.get(spot, {}).get(name), found)


def missing_counters(baseline: Baseline, first: Measured) -> list[str]:
    """The hot spots, and the counters of measured hot spots as HOT SPOT.NAME, that only the baseline has; sorted."""
    spots = {*baseline.counters} - {*first.counters}
    names = {
        f"{spot}.{name}"
        for spot, counts in first.counters.items()
        for name in {*baseline.counters.get(spot, {})} - {*counts}
    }
    return sorted(spots | names)
