"""The process a sweep is started in: it hands jobs to a launcher, watches the ledger and alone writes to MLflow."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from omegaconf import OmegaConf
from rich.console import Console

from shiftbench.config import folders
from shiftbench.config.instantiation import instantiate
from shiftbench.errors import InputError
from shiftbench.pipeline.recording import versions
from shiftbench.results.writing import check_folder
from shiftbench.sweep import launcher
from shiftbench.sweep.asked import Composed
from shiftbench.sweep.ledger import DONE, FAILED, RUNNING, WAITING, Ledger, Status
from shiftbench.sweep.task import Task, Worker, task
from shiftbench.sweep.watch import EVERY, table, watching
from shiftbench.tracking import SWEEP, Tracking, send, without_secrets

LAUNCHES = 2  # a job whose process died is started once more: what killed it may have been the machine's
PIPE_WIDTH = 160  # columns of the table where there is no terminal to ask


def run(composed: Sequence[Composed], settings: Sequence[str]) -> int:
    """Run every job that is not done yet. Returns 0 where all are, 2 where all that failed had bad input, else 1.

    settings: for Hydra's launcher. Raises InputError where nothing can be started.
    """
    root = folders.out_folder(composed[0].config)
    tasks = in_order([task(one, root, versions(instantiate(one.config.findings))) for one in composed])
    ledger, console = Ledger(root), Console(file=sys.stderr)
    files = ledger.folder / "launcher"
    threads = OmegaConf.select(launcher.check(settings, files), "cpus_per_task")
    tracking: Tracking = instantiate(composed[0].config.tracking)
    check_folder(root)
    with ledger.submitting():
        tracking.check()
        sweep = ledger.begin({one.name: one.key for one in tasks})
        todo = left_of(tasks, ledger, console)
        suites = Suites(tracking, sweep, {one.key: one.suite for one in tasks})

        def start(left: Sequence[Task]) -> None:
            worker = Worker(root, left, suites.tags, threads)
            begin = partial(launcher.launch, settings, files, worker, [one.overrides for one in left])
            begin() if launcher.is_here(settings) else until_settled(begin, left, ledger)

        with watching(ledger, [(one.key, one.name) for one in todo], suites.send, console):
            launched(todo, ledger, start, console)
        statuses = [ledger.read(one.key, one.name) for one in tasks]
        suites.close(statuses)
    return told(statuses, root, tracking)


def in_order(tasks: Sequence[Task]) -> list[Task]:
    """The tasks with those of one base beside each other, else as given; InputError where two want one folder."""
    names: set[str] = set()
    for one in tasks:
        if one.name in names:
            raise InputError(
                f"two jobs of this sweep would write to {one.folder}; give their pairs different names (pair.name=...)"
            )
        names.add(one.name)
    bases = [str(one.config.pair.base) for one in tasks]
    return [one for _, one in sorted(zip(bases, tasks, strict=True), key=lambda both: bases.index(both[0]))]


def left_of(tasks: Sequence[Task], ledger: Ledger, console: Console) -> list[Task]:
    """The tasks that are not done, failed ones included, written down as waiting; says how many are done."""
    todo = [one for one in tasks if ledger.read(one.key).state != DONE]
    if len(todo) < len(tasks):
        console.print(f"{len(tasks) - len(todo)} of {len(tasks)} jobs are done already and are not run again")
    wait_for(todo, ledger)
    return todo


def wait_for(tasks: Sequence[Task], ledger: Ledger) -> None:
    """Write the tasks down as waiting, but for those that jobs of an earlier submission still run in Slurm."""
    for one in tasks:
        before = ledger.read(one.key)
        if before.state != RUNNING:
            ledger.write(one.after(before))


def launched(todo: Sequence[Task], ledger: Ledger, start: Callable[[Sequence[Task]], None], console: Console) -> None:
    """Start the tasks, and once more those that came to no end. Raises InputError where the launcher can start none."""
    for _ in range(LAUNCHES):
        left = [one for one in todo if ledger.read(one.key).state not in (DONE, FAILED)]
        if not left:
            return
        wait_for(left, ledger)
        try:
            start(left)
        except Exception as error:  # a launcher gives up at the first worker that died; the ledger knows the others
            reason = without_secrets(f"{type(error).__name__}: {error}".splitlines()[0])
            if all(ledger.read(one.key).state == WAITING for one in todo):
                raise InputError(f"the launcher started no job: {reason}") from None
            console.print(f"the launcher gave up: {reason}", highlight=False, markup=False, soft_wrap=True)


def until_settled(start: Callable[[], None], left: Sequence[Task], ledger: Ledger) -> None:
    """Start, in a thread, what waits for other processes, and return when it does or when no job is left to wait for.

    Slurm without accounting never tells submitit that a worker was killed; the ledger does. Raises what start raises.
    """
    raised: list[Exception] = []

    def begin() -> None:
        try:
            start()
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=begin, daemon=True)
    thread.start()
    looks = 0  # in a row that found nobody at work: a job may be between two states at one of them
    while thread.is_alive() and looks < 2:
        thread.join(EVERY)
        waited_for = any(ledger.read(one.key).state in (WAITING, RUNNING) for one in left)
        looks = 0 if waited_for else looks + 1
    for error in raised:
        raise error


class Suites:
    """The runs in MLflow that a sweep's pairs are shown under, one a suite, and sending the pairs."""

    def __init__(self, tracking: Tracking, sweep: str, suites: dict[str, str]) -> None:
        """sweep: its id in the ledger. suites: of each job's key, the suite it is of."""
        self.tags = {suite: f"{sweep}.{suite}" for suite in suites.values()}
        self._tracking, self._suites = tracking, suites
        self._parents: dict[str, str] = {}

    def send(self, status: Status) -> None:
        """Send a job that is done, once; what cannot be sent is a warning and stays for `shiftbench sync`."""
        send(self._tracking, Path(status.folder), self._parent(self._suites[status.key]))

    def close(self, statuses: Sequence[Status]) -> None:
        """Send what is done and was not sent yet, and say of each suite whether all of it is done."""
        for status in statuses:
            if status.state == DONE:
                self.send(status)
        for suite, parent in self._parents.items():
            done = all(status.state == DONE for status in statuses if self._suites[status.key] == suite)
            self._tracking.close_suite(parent, "FINISHED" if done else "FAILED")

    def _parent(self, suite: str) -> str | None:
        if suite not in self._parents:
            found = self._tracking.open_suite(suite, {SWEEP: self.tags[suite], "suite": suite})
            if found is None:
                return None
            self._parents[suite] = found
        return self._parents[suite]


def told(statuses: Sequence[Status], root: Path, tracking: Tracking) -> int:
    """Print what became of every job. Returns the exit code."""
    console = Console(file=sys.stdout)
    console = console if console.is_terminal else Console(file=sys.stdout, width=PIPE_WIDTH)
    console.print(table(statuses))
    if tracking.ui_command():
        print(f"to look at the runs: {tracking.ui_command()}")
    print(f"results: {root}", flush=True)
    bad = [status for status in statuses if status.state != DONE]
    for status in bad:
        reason = status.reason or f"it is {status.state}; its process left no word, as one that was killed does"
        print(f"shiftbench: job {status.name} failed: {reason}", file=sys.stderr)
    return min((status.code or 1 for status in bad), default=0)
