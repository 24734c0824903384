"""Entries read from tracked runs: MLflow is the query, each run's scores.json is the record."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from rich.console import Console
from rich.progress import track

from shiftbench.leaderboard.board import Entry, LeftOut
from shiftbench.readers import reading
from shiftbench.results.document import parsed
from shiftbench.tracking import FoundRun, NoAnswerInTime, Tracking, read_artifact

MOST_SCORES, MOST_TEXT = 5000, 5000  # of a run, and characters of one text; a run of ours has some hundred scores
REPORT, REPORTS = 8 * 2**20, 2**30  # bytes of a report.html, and of all of them; ours have some 300 kB
PATIENCE = 8  # requests in a row that a server leaves unanswered, before it is asked no more
READERS = 8  # requests under way at a time: a server answers several, and a leaderboard waits for hundreds
In = TypeVar("In")
Out = TypeVar("Out")


def gather(tracking: Tracking, runs: Sequence[FoundRun]) -> tuple[list[Entry], list[LeftOut]]:
    """What each run's scores.json says, in the order of the runs, and the runs that cannot be read, with the reason.

    Whatever is wrong with a run, it is left out and ends nothing. Where the server falls silent, the rest is not asked
    for, since each would be waited for.
    """
    server = _Patience()

    def read(run: FoundRun) -> Entry | LeftOut:
        try:
            if run.status != "FINISHED":
                raise LookupError(f"the run is {run.status}: not all of it was sent")
            content = server.ask(lambda: read_artifact(tracking, run.run_id, "scores.json"))
            with reading("scores.json cannot be used"):
                return entry(run, content)
        except (LookupError, ValueError) as error:
            return LeftOut(run.run_id, run.pair, str(error))

    read_all = _at_once("reading runs", read, runs)
    return (
        [item for item in read_all if isinstance(item, Entry)],
        [item for item in read_all if isinstance(item, LeftOut)],
    )


def read_reports(tracking: Tracking, entries: Iterable[Entry]) -> dict[str, bytes]:
    """report.html of each entry by run id; one that has none, or none that can be read, is absent."""
    server = _Patience()
    held = 0

    def read(entry: Entry) -> tuple[str, bytes | None]:
        nonlocal held
        try:
            if held > REPORTS:
                raise LookupError("all reports together are too large")
            page = server.ask(lambda: read_artifact(tracking, entry.run_id, "report.html", REPORT))
            held += len(page)
            return entry.run_id, page
        except LookupError:
            return entry.run_id, None

    return {run_id: page for run_id, page in _at_once("fetching reports", read, list(entries)) if page is not None}


def entry(run: FoundRun, content: bytes) -> Entry:
    """The run's scores.json as an entry. Raises ValueError where it is not one, or none that a table can hold."""
    found = parsed(content)
    if run.started_ms < 0:
        raise ValueError("the tracking server gives no usable time of the run")
    missing = [name for name in ("name", "base", "tuned", "base_weights", "tuned_weights") if not found.pair.get(name)]
    if missing:
        raise ValueError(f"scores.json: pair lacks {', '.join(missing)}")
    if len(found.scores) > MOST_SCORES:
        raise ValueError(f"scores.json has {len(found.scores):,} scores, and a table holds {MOST_SCORES:,} of a run")
    names = [*(name for score in found.scores for name in (score.finding, score.name)), *map(str, found.levels)]
    texts = [*map(str, [*found.pair.items(), *found.versions.items()]), *names, run.tags.get("flags", "")]
    if max(map(len, texts)) > MOST_TEXT:
        raise ValueError(f"scores.json: a name or a value in it has more than {MOST_TEXT:,} characters")
    return Entry(
        run_id=run.run_id,
        recorded_ms=run.started_ms,
        pair={str(name): "" if value is None else str(value) for name, value in found.pair.items()},
        versions={str(name): str(value) for name, value in found.versions.items()},
        scores=found.scores,
        levels=tuple(found.levels),
        flags=tuple(dict.fromkeys(flag.strip() for flag in run.tags.get("flags", "").split(",") if flag.strip())),
    )


class _Patience:
    """Asks a server, and no more once PATIENCE requests were not answered in time. For several threads."""

    def __init__(self) -> None:
        self._silent = 0

    def ask(self, question: Callable[[], bytes]) -> bytes:
        if self._silent >= PATIENCE:
            raise NoAnswerInTime("it was not asked for: the tracking server answers no longer")
        try:
            answer = question()
        except NoAnswerInTime:
            self._silent += 1
            raise
        self._silent = 0
        return answer


def _at_once(title: str, work: Callable[[In], Out], items: Sequence[In]) -> list[Out]:
    """The work on every item, several at a time, in the order of the items; a terminal sees how far it is."""
    console = Console(file=sys.stderr)
    with ThreadPoolExecutor(READERS) as pool:
        done = pool.map(work, items)
        shown = track(done, title, len(items), console=console, transient=True, disable=not console.is_terminal)
        return list(shown)
