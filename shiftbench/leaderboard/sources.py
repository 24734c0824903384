"""Entries read from tracked runs: MLflow is the query, each run's scores.json is the record."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from rich.console import Console
from rich.progress import track

from shiftbench.leaderboard.board import Entry, LeftOut
from shiftbench.scores import parsed
from shiftbench.tracking import FoundRun, Tracking, read_artifact

READERS = 8  # requests under way at a time: a server answers several, and a leaderboard waits for hundreds
In = TypeVar("In")
Out = TypeVar("Out")


def gather(tracking: Tracking, runs: Sequence[FoundRun]) -> tuple[list[Entry], list[LeftOut]]:
    """What each run's scores.json says, in the order of the runs, and the runs that cannot be read, with the reason."""

    def read(run: FoundRun) -> Entry | LeftOut:
        try:
            if run.status != "FINISHED":
                raise LookupError(f"the run is {run.status}: not all of it was sent")
            return entry(run, read_artifact(tracking, run.run_id, "scores.json"))
        except (LookupError, ValueError) as error:
            return LeftOut(run.run_id, run.pair, str(error))

    read_all = _at_once("reading runs", read, runs)
    return (
        [item for item in read_all if isinstance(item, Entry)],
        [item for item in read_all if isinstance(item, LeftOut)],
    )


def read_reports(tracking: Tracking, entries: Iterable[Entry]) -> dict[str, bytes]:
    """report.html of each entry by run id; one that has none is absent."""

    def read(entry: Entry) -> tuple[str, bytes | None]:
        try:
            return entry.run_id, read_artifact(tracking, entry.run_id, "report.html")
        except LookupError:
            return entry.run_id, None

    return {run_id: page for run_id, page in _at_once("fetching reports", read, list(entries)) if page is not None}


def entry(run: FoundRun, content: bytes) -> Entry:
    """The run's scores.json as an entry. Raises ValueError where it is not one."""
    found = parsed(content)
    missing = [name for name in ("name", "base", "tuned", "base_weights", "tuned_weights") if not found.pair.get(name)]
    if missing:
        raise ValueError(f"scores.json: pair lacks {', '.join(missing)}")
    return Entry(
        run_id=run.run_id,
        recorded_ms=run.started_ms,
        pair={str(name): "" if value is None else str(value) for name, value in found.pair.items()},
        versions={str(name): str(value) for name, value in found.versions.items()},
        scores=found.scores,
        levels=tuple(found.levels),
        flags=tuple(dict.fromkeys(flag.strip() for flag in run.tags.get("flags", "").split(",") if flag.strip())),
    )


def _at_once(title: str, work: Callable[[In], Out], items: Sequence[In]) -> list[Out]:
    """The work on every item, several at a time, in the order of the items; a terminal sees how far it is."""
    console = Console(file=sys.stderr)
    with ThreadPoolExecutor(READERS) as pool:
        done = pool.map(work, items)
        shown = track(done, title, len(items), console=console, transient=True, disable=not console.is_terminal)
        return list(shown)
