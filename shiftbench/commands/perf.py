"""`shiftbench perf record|check`: the performance gate (shiftbench/perf)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from shiftbench.config import composition, folders, help_texts, names, overrides
from shiftbench.errors import InputError
from shiftbench.readers import path_of

USAGE = """\
shiftbench perf record [option=value ...]    measure and write a baseline for this machine
shiftbench perf check [option=value ...]     compare this machine's ratios and all counters with the baseline"""
WIDTH = 120  # columns of a table where the output is no terminal


def main(arguments: list[str]) -> int:
    """Run `perf record` or `perf check`, whichever the first argument names, and return its exit code.

    Without arguments the help is printed and the code is 2. Raises InputError for bad input.
    """
    verbs = {"record": record, "check": check}
    if not arguments or {"-h", "--help"} & set(arguments):
        print(help_texts.options_help(USAGE, "perf"))
        return 0 if arguments else 2
    verb, rest = arguments[0], arguments[1:]
    if verb not in verbs:
        raise InputError(f"no command 'perf {verb}'; {names.nearest(verb, verbs)}")
    words = overrides.read(rest, "perf")
    if verb == "check":
        overrides.refuse_without_effect(
            words, ("processes",), "for perf check, which chooses the number of measurements itself"
        )
    config = composition.compose("perf", words)
    if not isinstance(config.processes, int) or config.processes < 1:
        raise InputError(f"processes={config.processes} must be a whole number, at least 1")
    return verbs[verb](config)


def record(config: DictConfig) -> int:
    """Measure in `processes` processes, one after another, and write the median of each ratio to the baseline file.

    The file is `baseline`, or baseline.json in the folder `out` where `baseline` is null. The ratios that it has for
    other classes of machines are kept; its counters are replaced by those of the first process. The medians are also
    written to the folder `out` and sent to MLflow. Returns the exit code 0.
    """
    from shiftbench.config.instantiation import instantiate
    from shiftbench.perf import baseline
    from shiftbench.perf.measure import MeasurementRequest, measured
    from shiftbench.perf.statistic import BLOCK

    path = path_of(str(config.baseline), "baseline") if config.baseline else folder(config) / "baseline.json"
    before = baseline.read(str(path)) if path.exists() else None
    tracking = instantiate(config.tracking)
    tracking.check()
    runs = []
    for number in range(1, config.processes + 1):
        runs.append(measured(MeasurementRequest(None, {}, 3 * BLOCK)))
        print(f"process {number} of {config.processes}: {len(runs[-1].ratios)} ratios", flush=True)
    found = baseline.recorded(runs, before)
    baseline.write(found, path)
    machine = runs[0].machine
    table = Table(box=SIMPLE_HEAD, title=f"{machine}, torch {runs[0].torch}")
    for column in ("ratio of times", "median", "lowest", "highest"):
        table.add_column(column)
    for key, values in found.machines[machine]["ratios"].items():
        table.add_row(key, *(f"{values[name]:.4g}" for name in ("value", "lowest", "highest")))
    console().print(table)
    keep(config, tracking, machine, found.ratios(machine), found.ratios(machine), {"verdict": "recorded"})
    print(f"baseline: {path}")
    return 0


def check(config: DictConfig) -> int:
    """Measure, and compare the ratios of times and the counters with the baseline. Prints both.

    The baseline is the file `baseline`, or the package's own where it is null. Returns 0 where all hold, and 1 where a
    ratio or a counter failed, or something in the baseline was not measured. Where the baseline has no ratios of this
    class of machine, only counters are compared, and nothing is recorded; where it has some, the ratios that were found
    are recorded by `keep`.
    """
    from shiftbench.config.instantiation import instantiate
    from shiftbench.perf import baseline
    from shiftbench.perf.check import LIMIT
    from shiftbench.perf.check import check as measure_and_judge
    from shiftbench.perf.measure import this_machine

    against = baseline.read(config.baseline)
    machine = this_machine()
    tracking = instantiate(config.tracking)
    tracking.check()
    done = measure_and_judge(against, machine)
    console().print(counter_table(done.counters))
    if done.known:
        console().print(ratio_table(done.ratios, LIMIT))
        recorded_with = against.machines[machine].get("torch")
        if recorded_with != done.torch:
            print(f"note: the baseline was recorded with torch {recorded_with}, this is {done.torch}")
        ratios = {item.key: item.last.value for item in done.ratios}
        verdict = {"verdict": "passed" if done.passed else "failed"}
        keep(config, tracking, machine, ratios, against.ratios(machine), verdict, asdict(done))
    else:
        print(
            f"note: the baseline has no ratios of this class of machine, {machine!r} (it has "
            f"{', '.join(map(repr, against.machines)) or 'none'}): counters alone were checked, and nothing was "
            "recorded. 'shiftbench perf record baseline=FILE' on it, then 'shiftbench perf check baseline=FILE'"
        )
    for name in done.missing:
        print(f"FAILED: {name} is in the baseline and is no longer measured")
    print(f"perf check: {'passed' if done.passed else 'FAILED'}")
    return 0 if done.passed else 1


def counter_table(counters: Any) -> Table:
    """A row for each counter: its hot spot, its name, the baseline's count as the limit, the new count, the verdict.

    The limit is empty where the baseline lacks the counter.
    """
    table = Table(box=SIMPLE_HEAD, title="what is computed")
    table.add_column("hot spot")
    table.add_column("counter")
    for column in ("limit", "found"):
        table.add_column(column, justify="right")
    table.add_column("")
    for item in counters:
        limit = "" if item.limit is None else f"{item.limit:,}"
        table.add_row(item.spot, item.name, limit, f"{item.found:,}", item.verdict)
    return table


def ratio_table(ratios: Any, limit: float) -> Table:
    """A row for each ratio of times: the baseline's, the one found, its interval, rounds, the quotient, the verdict.

    The ratio found is that of the last process that measured it; the quotient is this ratio divided by the baseline's.
    limit:
    for the title; a ratio fails where every process finds more than this multiple of its baseline.
    """
    table = Table(box=SIMPLE_HEAD, title=f"how long it takes; more than {limit:.2f} times the baseline fails")
    table.add_column("ratio of times")
    for column in ("baseline", "found", "interval", "rounds", "times"):
        table.add_column(column, justify="right")
    table.add_column("")
    for item in ratios:
        last = item.last
        cells = (f"{item.baseline:.4g}", f"{last.value:.4g}", f"{last.low:.4g} to {last.high:.4g}", f"{last.rounds}")
        table.add_row(item.key, *cells, f"{item.slowdown:.3f}", item.verdict)
    return table


def keep(
    config: DictConfig,
    tracking: Any,
    machine: str,
    ratios: Mapping[str, float],
    before: Mapping[str, float],
    tags: Mapping[str, str],
    document: Mapping[str, Any] | None = None,
) -> None:
    """Write perf.json and history.svg to `out`, and send both to MLflow.

    history.svg is a picture of this measurement and of the newest tracked ones before it on the same class of machine,
    together at most history.MOST.

    machine: the class of machine. ratios: this measurement's ratios, by name. before: the baseline's ratios, by which
    the picture divides. tags: further tags of the MLflow run. document: the content of perf.json; None: machine and
    ratios.
    """
    import shiftbench
    from shiftbench.perf import history
    from shiftbench.system.files import write_whole
    from shiftbench.tracking import TrackedRun
    from shiftbench.tracking.reading import past_metrics

    metrics = {history.metric(key): value for key, value in ratios.items()}
    past = past_metrics(tracking, "perf", {"machine": machine}, history.MOST - 1)
    named = {history.metric(key): key for key in before}
    runs = [{key: found[name] for name, key in named.items() if name in found} for found in [*past, metrics]]
    out = folder(config)
    content = document or {"machine": machine, "ratios": dict(ratios)}
    write_whole(out / "perf.json", json.dumps(content, indent=1) + "\n", "out")
    write_whole(out / "history.svg", history.picture(runs, before, machine), "out")
    about = {"shiftbench.kind": "perf", "machine": machine, "version.shiftbench": shiftbench.__version__, **tags}
    tracking.record(TrackedRun("perf", {}, about, metrics, out, None, only=("perf.json", "history.svg")))
    print(f"history of {len(runs)} measurements: {out / 'history.svg'}")


def folder(config: DictConfig) -> Path:
    """The absolute path of the folder for a measurement's files: `out`, or ./shiftbench-runs/perf where it is null."""
    return path_of(str(config.out or Path(folders.RUNS) / "perf"), "out").absolute()


def console() -> Console:
    """Standard output as a rich console: the terminal, or WIDTH columns where the output is no terminal."""
    found = Console()
    return found if found.is_terminal else Console(width=WIDTH)
