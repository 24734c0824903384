"""The baseline file: the counts of every hot spot, and for each class of CPU the ratios of times.

{"schema": "shiftbench/perf/1",
 "counters": {HOT SPOT: {NAME: whole number}},
 "machines": {CLASS: {"cpu", "torch", "processes", "ratios": {KEY: {"value", "lowest", "highest"}}}}}

CLASS: as `machine.machine_class` returns it. cpu: the name of the CPU's model. torch: the version of torch. processes:
the number of processes that measured. KEY: as in `HotSpot.keys`. value, lowest, highest: median, minimum and maximum
over these processes of the hot spot's time divided by the yardstick's, rounded to four significant digits.
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
    """The content of a baseline file. counters: by hot spot. machines: by class of CPU, as the file has them."""

    counters: Mapping[str, Counts]
    machines: Mapping[str, Mapping[str, Any]]

    def ratios(self, machine: str) -> Mapping[str, float]:
        """The median ratios of a class of CPU by key; empty where nothing was recorded on it."""
        return {
            key: float(recorded["value"]) for key, recorded in self.machines.get(machine, {}).get("ratios", {}).items()
        }


def read(path: str | None) -> Baseline:
    """The baseline in a file; None: the package's own. Raises InputError where it cannot be read or is no baseline."""
    packaged = resources.files("shiftbench.perf") / "baseline.json"
    try:
        text = (packaged if path is None else path_of(path, "baseline")).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"baseline={path or packaged}: cannot read the file: {reason}") from None
    return parsed(text, path or str(packaged))


def parsed(text: str, path: str) -> Baseline:
    """The baseline in a text. path: for messages. Raises InputError where the text is not a baseline."""
    wrong = f"baseline={path} is not a baseline of shiftbench perf"
    try:
        document = json.loads(text)
    except ValueError as error:
        raise InputError(f"{wrong}: {error}; create one with shiftbench perf record") from None
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise InputError(f'{wrong}: it lacks "schema": "{SCHEMA}"; create one with shiftbench perf record')
    try:
        found = Baseline(document["counters"], document["machines"])
        for machine in found.machines:
            if not all(value > 0 for value in found.ratios(machine).values()):
                raise ValueError(f"a ratio of {machine!r} is not positive")
        for counts in found.counters.values():
            if not all(isinstance(value, int) for value in counts.values()):
                raise ValueError("a counter is not a whole number")
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(f"{wrong}: {type(error).__name__} {error}; create one with shiftbench perf record") from None
    return found


def recorded(runs: Sequence[Measured], before: Baseline | None) -> Baseline:
    """A baseline with the median of each ratio over several measurements, and with the counts of the first one.

    runs: at least one measurement, each on this machine and in a process of its own. before: an earlier baseline, or
    None; its ratios of other classes of CPU are kept, those of this class are replaced, and its counts are dropped.
    """
    first = runs[0]
    values = {key: [run.ratios[key].value for run in runs] for key in first.ratios}
    machine = {
        "cpu": cpu_model(),
        "torch": first.torch,
        "processes": len(runs),
        "ratios": {
            key: {
                "value": four_digits(statistics.median(of)),
                "lowest": four_digits(min(of)),
                "highest": four_digits(max(of)),
            }
            for key, of in values.items()
        },
    }
    return Baseline(first.counters, {**(before.machines if before else {}), first.machine: machine})


def write(baseline: Baseline, path: Path) -> None:
    """Write the baseline file. Raises InputError where the file cannot be written."""
    document = {"schema": SCHEMA, "counters": baseline.counters, "machines": baseline.machines}
    write_whole(path, json.dumps(document, indent=1) + "\n", "baseline")


def four_digits(value: float) -> float:
    """The value rounded to four significant digits; further digits are noise."""
    return float(f"{value:.4g}")
