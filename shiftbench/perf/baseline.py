"""The baseline file: what every hot spot computes, and on each class of CPU the ratios of their times.

{"schema": "shiftbench/perf/1",
 "counters": {HOT SPOT: {NAME: whole number}},
 "machines": {CLASS: {"cpu", "torch", "processes", "ratios": {KEY: {"value", "lowest", "highest"}}}}}
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from shiftbench.errors import InputError
from shiftbench.perf.counters import Counts
from shiftbench.perf.machine import cpu_model
from shiftbench.perf.measure import Measured
from shiftbench.readers import path_of
from shiftbench.system.files import write_whole

SCHEMA = "shiftbench/perf/1"


@dataclass(frozen=True)
class Baseline:
    """A baseline file's content. machines: by class, as the file has them."""

    counters: Mapping[str, Counts]
    machines: Mapping[str, Mapping[str, Any]]

    def ratios(self, machine: str) -> Mapping[str, float]:
        """Of a class of CPU, by key; empty where nothing was recorded on it."""
        return {key: float(found["value"]) for key, found in self.machines.get(machine, {}).get("ratios", {}).items()}


def read(path: str | None) -> Baseline:
    """The baseline of a file, None: of the package. Raises InputError where it is not one."""
    packaged = resources.files("shiftbench.perf") / "baseline.json"
    try:
        text = (packaged if path is None else path_of(path, "baseline")).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"baseline={path or packaged}: cannot read the file: {reason}") from None
    return parsed(text, path or str(packaged))


def parsed(text: str, path: str) -> Baseline:
    """The same of a file's text."""
    wrong = f"baseline={path} is no baseline of shiftbench perf"
    try:
        document = json.loads(text)
    except ValueError as error:
        raise InputError(f"{wrong}: {error}; make one with shiftbench perf record") from None
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise InputError(f'{wrong}: it lacks "schema": "{SCHEMA}"; make one with shiftbench perf record')
    try:
        made = Baseline(document["counters"], document["machines"])
        for machine in made.machines:
            if not all(value > 0 for value in made.ratios(machine).values()):
                raise ValueError(f"a ratio of {machine!r} is not positive")
        for counts in made.counters.values():
            if not all(isinstance(value, int) for value in counts.values()):
                raise ValueError("a counter is not a whole number")
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(f"{wrong}: {type(error).__name__} {error}; make one with shiftbench perf record") from None
    return made


def recorded(runs: Sequence[Measured], before: Baseline | None) -> Baseline:
    """What so many processes measured, as their median, beside what a baseline knows of other machines."""
    first = runs[0]
    values = {key: [run.ratios[key].value for run in runs] for key in first.ratios}
    machine = {
        "cpu": cpu_model(),
        "torch": first.torch,
        "processes": len(runs),
        "ratios": {
            key: {"value": rounded(statistics.median(of)), "lowest": rounded(min(of)), "highest": rounded(max(of))}
            for key, of in values.items()
        },
    }
    return Baseline(first.counters, {**(before.machines if before else {}), first.machine: machine})


def write(baseline: Baseline, path: Path) -> None:
    """Raises InputError where the file cannot be written."""
    document = {"schema": SCHEMA, "counters": baseline.counters, "machines": baseline.machines}
    write_whole(path, json.dumps(document, indent=1) + "\n", "baseline")


def rounded(value: float) -> float:
    """Four significant digits: more would be noise."""
    return float(f"{value:.4g}")
