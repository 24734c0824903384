"""A sweep while it runs, read from its ledger: bars on a terminal, a line where a job starts or ends in a pipe."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from shiftbench.sweep.ledger import DONE, FAILED, INTERRUPTED, MISSING, RUNNING, WAITING, Ledger, Status

EVERY = 1.0  # seconds between looks; on a shared file system each is a small read a job
STYLES = {DONE: "green", RUNNING: "cyan", FAILED: "red", INTERRUPTED: "yellow", MISSING: "yellow", WAITING: ""}


@contextmanager
def watching(
    ledger: Ledger, names: Sequence[tuple[str, str]], ended: Callable[[Status], None], console: Console
) -> Iterator[None]:
    """Shows the jobs (key, name) while the block runs; a thread of its own calls ended with each that is done."""
    over = threading.Event()
    watcher = _Watcher(ledger, names, ended, console)
    thread = threading.Thread(target=watcher.run, args=(over,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class _Watcher:
    def __init__(
        self, ledger: Ledger, names: Sequence[tuple[str, str]], ended: Callable[[Status], None], console: Console
    ) -> None:
        self._ledger, self._names, self._ended, self._console = ledger, names, ended, console
        self._last: dict[str, Status] = {}
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
        )
        self._total = self._bar.add_task("jobs", total=len(names))

    def run(self, over: threading.Event) -> None:
        if not self._console.is_terminal:
            return self._look_until(over, lambda: None)
        with Live(console=self._console, transient=True, redirect_stdout=False) as live:
            self._look_until(over, lambda: live.update(self._picture()))

    def _look_until(self, over: threading.Event, shown: Callable[[], None]) -> None:
        while True:
            last = over.wait(EVERY)
            for number, (key, name) in enumerate(self._names, 1):
                self._see(number, self._ledger.read(key, name))
            shown()
            if last:
                return

    def _see(self, number: int, status: Status) -> None:
        before = self._last.get(status.key)
        self._last[status.key] = status
        if before is not None and (before.state, before.start) == (status.state, status.start):
            return
        head = f"job {number}/{len(self._names)} {status.name}"
        unseen = status.state in (DONE, FAILED) and (before is None or before.start != status.start)
        if status.state == RUNNING or unseen:
            self._say(f"{head}: started on {status.host}")
        if status.state == DONE:
            counts = f"{status.explained} units explained, {status.found} from the store"
            self._say(f"{head}: done in {duration(status)}, {counts}")
            self._ended(status)
        elif status.state == FAILED:
            self._say(f"{head}: failed: {status.reason}")
        elif status.state == INTERRUPTED and (status.reason or _is_this_process(status)):
            self._say(f"{head}: interrupted")
        elif status.state == INTERRUPTED:
            self._say(f"{head}: its process {status.pid} on {status.host} is gone")

    def _say(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _picture(self) -> Table:
        """The bar of the sweep, and a line for each job that runs."""
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
    """Whether the job ran in the process that watches it, which lives; it was interrupted before it could say so."""
    return (status.host, status.pid) == (socket.gethostname(), os.getpid())


def table(statuses: Sequence[Status]) -> Table:
    """One row a job: its state, how long it took or runs, where, and why it failed or what it is doing."""
    shown = Table("job", "state", "time", "where", "")
    for status in statuses:
        what = status.stage if status.state in (RUNNING, INTERRUPTED) else status.reason
        if status.state == DONE:
            what = f"{status.explained} units explained, {status.found} from the store"
        where = f"{status.host}:{status.pid}" if status.host else ""
        state = Text(status.state, STYLES[status.state])
        shown.add_row(Text(status.name), state, duration(status), Text(where), Text(what))
    return shown


def duration(status: Status) -> str:
    """How long a job took, or has run so far; empty where it has not begun."""
    if not status.start or status.state in (INTERRUPTED, MISSING):
        return ""
    seconds = (status.end or time.time()) - status.start
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
