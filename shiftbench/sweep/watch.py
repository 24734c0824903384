"""The progress of a sweep, read from its ledger.

A line is printed when a job starts and when it ends. A terminal also shows a bar of the sweep, and above it a line for
each running job.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from shiftbench.readers import file_bytes
from shiftbench.report.terminal import SHOWN_WORDS
from shiftbench.report.text import title
from shiftbench.results.document import parsed
from shiftbench.sweep.ledger import DONE, FAILED, INTERRUPTED, MISSING, RUNNING, WAITING, Ledger, Status

# Seconds between reads of the ledger; each reads the status file of every job and the scores.json of every done job.
POLL_SECONDS = 1.0
STYLES = {DONE: "green", RUNNING: "cyan", FAILED: "red", INTERRUPTED: "yellow", MISSING: "yellow", WAITING: ""}


@contextmanager
def watching(
    ledger: Ledger, jobs: Sequence[tuple[str, str]], on_done: Callable[[Status], None], console: Console
) -> Iterator[None]:
    """Show the progress of the jobs while the block runs.

    jobs: the (key, name) of each. A second thread reads the ledger, for the last time after the block has ended. It
    calls on_done once for each job that is done, with its status.
    """
    stop = threading.Event()
    watcher = _Watcher(ledger, jobs, on_done, console)
    thread = threading.Thread(target=watcher.run, args=(stop,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


class _Watcher:
    """Reads the ledger repeatedly and shows what has changed."""

    def __init__(
        self, ledger: Ledger, jobs: Sequence[tuple[str, str]], on_done: Callable[[Status], None], console: Console
    ) -> None:
        self._ledger, self._jobs, self._on_done, self._console = ledger, jobs, on_done, console
        self._last: dict[str, Status] = {}
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
        )
        self._total = self._bar.add_task("jobs", total=len(jobs))

    def run(self, stop: threading.Event) -> None:
        """Show the progress until `stop` is set: printed lines, and on a terminal also what `_render` gives."""
        if not self._console.is_terminal:
            return self._poll_until(stop, lambda: None)
        with Live(console=self._console, transient=True, redirect_stdout=False) as live:
            self._poll_until(stop, lambda: live.update(self._render()))

    def _poll_until(self, stop: threading.Event, redraw: Callable[[], None]) -> None:
        """Every POLL_SECONDS read each status and then call `redraw`; once more after `stop` is set."""
        while True:
            final = stop.wait(POLL_SECONDS)
            for number, (key, name) in enumerate(self._jobs, 1):
                self._show_change(number, self._ledger.read(key, name))
            redraw()
            if final:
                return

    def _show_change(self, number: int, status: Status) -> None:
        """Print a line where job `number` has started, ended or been interrupted, and call on_done where it is done.

        number: the job's place in the list of jobs, from 1. Nothing is done where the state and the start of the job
        are those of the last call for it.
        """
        before = self._last.get(status.key)
        self._last[status.key] = status
        if before is not None and (before.state, before.start) == (status.state, status.start):
            return
        head = f"job {number}/{len(self._jobs)} {status.name}"
        start_not_shown = status.state in (DONE, FAILED) and (before is None or before.start != status.start)
        if status.state == RUNNING or start_not_shown:
            self._print(f"{head}: started on {status.host}")
        if status.state == DONE:
            counts = f"{status.explained} units explained, {status.found} from the store"
            self._print(f"{head}: done in {duration(status)}, {counts}; {verdict_words(status)}")
            self._on_done(status)
        elif status.state == FAILED:
            self._print(f"{head}: failed: {status.reason}")
        elif status.state == INTERRUPTED and (status.reason or _is_this_process(status)):
            self._print(f"{head}: interrupted")
        elif status.state == INTERRUPTED:
            self._print(f"{head}: its process {status.pid} on {status.host} is gone")

    def _print(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _render(self) -> Table:
        """One line for each running job, and below these lines the bar of the sweep."""
        states = [status.state for status in self._last.values()]
        counts = f"jobs: {states.count(DONE)} done, {states.count(FAILED)} failed"
        self._bar.update(self._total, description=counts, completed=states.count(DONE) + states.count(FAILED))
        rows = Table.grid()
        for status in self._last.values():
            if status.state == RUNNING:
                line = f"  {status.name} on {status.host}: {status.stage}"
                rows.add_row(Text(line, overflow="ellipsis", no_wrap=True))
        rows.add_row(self._bar)
        return rows


def _is_this_process(status: Status) -> bool:
    """Whether the job ran in this process.

    If it did, its state INTERRUPTED cannot mean that its process is gone: the job was interrupted before it could write
    the reason into its status.
    """
    return (status.host, status.pid) == (socket.gethostname(), os.getpid())


def table(statuses: Sequence[Status]) -> Table:
    """A table with one row for each job: its name, its state, how long it took, the host and process that ran it.

    The last column has the numbers of units of a done job, the stage of a running or interrupted one, and the reason of
    any other.
    """
    shown = Table("job", "state", "time", "where", "")
    for status in statuses:
        what = status.stage if status.state in (RUNNING, INTERRUPTED) else status.reason
        if status.state == DONE:
            what = f"{status.explained} units explained, {status.found} from the store"
        where = f"{status.host}:{status.pid}" if status.host else ""
        state = Text(status.state, STYLES[status.state])
        shown.add_row(Text(status.name), state, duration(status), Text(where), Text(what))
    return shown


def verdict_words(status: Status) -> str:
    """The verdicts of a done job by their words, for example "supported: instruction verbs; not clear: recognition".

    "no verdicts" where its results have none or cannot be read.
    """
    try:
        verdicts = parsed(file_bytes(Path(status.folder) / "scores.json", "scores.json")).verdicts
    except (OSError, ValueError):
        verdicts = {}
    by_word: dict[str, list[str]] = {word.value: [] for word in SHOWN_WORDS}
    for name, verdict in verdicts.items():
        by_word[verdict.word].append(title(name.rpartition(".")[2]).lower())
    said = [f"{word}: {', '.join(names)}" for word, names in by_word.items() if names]
    return "; ".join(said) or "no verdicts"


def duration(status: Status) -> str:
    """How long a job took, or has run so far, as "12.3 s", or from two minutes on as "4 min".

    Empty where the job has not begun, and where its state is INTERRUPTED or MISSING.
    """
    if not status.start or status.state in (INTERRUPTED, MISSING):
        return ""
    seconds = (status.end or time.time()) - status.start
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
