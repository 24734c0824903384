"""The process in which a sweep is started.

It gives the jobs to a launcher, watches the ledger, and is the only process of the sweep that writes to MLflow.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from omegaconf import OmegaConf
from rich.console import Console

from shiftbench.config import folders
from shiftbench.config.folders import pair_name
from shiftbench.config.instantiation import instantiate
from shiftbench.errors import InputError
from shiftbench.pipeline.recording import versions
from shiftbench.report import console as console_on
from shiftbench.report.text import visible
from shiftbench.results.writing import check_folder
from shiftbench.sweep import launcher
from shiftbench.sweep.command_line import ComposedJob
from shiftbench.sweep.ledger import DONE, FAILED, RUNNING, WAITING, Ledger, Status
from shiftbench.sweep.task import Task, Worker, make_task
from shiftbench.sweep.watch import POLL_SECONDS, verdict_words, watching
from shiftbench.tracking import SWEEP, Tracking, send_run, without_secrets

MAX_LAUNCHES = 2  # a job whose process died is started once more: the machine may have been the cause


def run(composed: Sequence[ComposedJob], settings: Sequence[str]) -> int:
    """Run every job that is not done yet, and return the exit code.

    The code is 0 where all jobs are done, 2 where every job that is not done failed because of bad input, otherwise 1.
    composed: the jobs of the sweep. settings: the overrides that choose Hydra's launcher and set its options. Raises
    InputError where nothing can be started.
    """
    root = folders.out_folder(composed[0].config)
    tasks = group_by_base([make_task(task, root, versions(instantiate(task.config.findings))) for task in composed])
    ledger, console = Ledger(root), console_on(sys.stderr)
    files = ledger.folder / "launcher"
    threads = OmegaConf.select(launcher.check(settings, files), "cpus_per_task")
    tracking: Tracking = instantiate(composed[0].config.tracking)
    check_folder(root)
    with ledger.hold_submission():
        reachable = tracking.check()
        sweep = ledger.plan_jobs({task.name: task.key for task in tasks})
        unfinished = unfinished_tasks(tasks, ledger, console)
        parent_runs = ParentRuns(tracking, sweep, tasks)

        def start(left: Sequence[Task]) -> None:
            worker = Worker(root, left, parent_runs.tags, threads)
            begin = partial(launcher.launch, settings, files, worker, [task.overrides for task in left])
            begin() if launcher.runs_in_this_process(settings) else run_until_settled(begin, left, ledger)

        with parent_runs.ended_by_errors():
            if reachable:
                parent_runs.open()
            with watching(ledger, [(task.key, task.name) for task in unfinished], parent_runs.send, console):
                # Inside of `watching` too, because `watching` ends only when the runs of all finished jobs have been
                # sent.
                with parent_runs.ended_by_errors():
                    launch_all(unfinished, ledger, start, console)
            statuses = [ledger.read(task.key, task.name) for task in tasks]
            parent_runs.close(statuses)
    return print_outcome(statuses, root, tracking)


def group_by_base(tasks: Sequence[Task]) -> list[Task]:
    """The tasks, reordered so that those with the same text in pair.base follow one another.

    A process that runs them one after another can then keep the base model loaded. The order is otherwise the given
    one. Raises InputError where two tasks have the same name and therefore the same results folder.
    """
    names: set[str] = set()
    for task in tasks:
        if task.name in names:
            raise InputError(
                f"two jobs of this sweep would write to {task.folder}; give their pairs different names (pair.name=...)"
            )
        names.add(task.name)
    bases = [str(task.config.pair.base) for task in tasks]
    ordered = sorted(zip(bases, tasks, strict=True), key=lambda base_and_task: bases.index(base_and_task[0]))
    return [task for _, task in ordered]


def unfinished_tasks(tasks: Sequence[Task], ledger: Ledger, console: Console) -> list[Task]:
    """The tasks that are not done; tasks that failed earlier are among them.

    Calls `mark_waiting` with these tasks. Prints how many tasks are done, if any.
    """
    unfinished = [task for task in tasks if ledger.read(task.key).state != DONE]
    if len(unfinished) < len(tasks):
        console.print(f"{len(tasks) - len(unfinished)} of {len(tasks)} jobs are done already and are not run again")
    mark_waiting(unfinished, ledger)
    return unfinished


def mark_waiting(tasks: Sequence[Task], ledger: Ledger) -> None:
    """Set the state of the tasks to WAITING, except of running ones: Slurm may still run jobs of an earlier sweep."""
    for task in tasks:
        before = ledger.read(task.key)
        if before.state != RUNNING:
            ledger.write(task.after(before))


def launch_all(
    unfinished: Sequence[Task], ledger: Ledger, start: Callable[[Sequence[Task]], None], console: Console
) -> None:
    """Start the unfinished tasks, and start once more those that are neither done nor failed afterwards.

    Such a task was interrupted, or its process has died. start: runs the tasks that it is given and returns when they
    have ended. Raises InputError where `start` raises and every unfinished task still waits; what `start` raises
    otherwise is only printed.
    """
    for _ in range(MAX_LAUNCHES):
        left = [task for task in unfinished if ledger.read(task.key).state not in (DONE, FAILED)]
        if not left:
            return
        mark_waiting(left, ledger)
        try:
            start(left)
        except Exception as error:  # launchers stop at a dead worker; the ledger says what became of the other jobs
            reason = without_secrets(f"{type(error).__name__}: {error}".splitlines()[0])
            if all(ledger.read(task.key).state == WAITING for task in unfinished):
                raise InputError(f"the launcher started no job: {reason}") from None
            console.print(f"the launcher gave up: {reason}", highlight=False, markup=False, soft_wrap=True)


def run_until_settled(start: Callable[[], None], left: Sequence[Task], ledger: Ledger) -> None:
    """Call `start` in a thread. Return when `start` has returned, or when no task in `left` waits or runs any more.

    start: starts a launcher and waits for its processes. `start` may never return, because Slurm without accounting
    never tells submitit that a worker was killed; the thread is then left behind. left: the tasks that `start` runs;
    the ledger says whether they wait or run. Raises what `start` raises.
    """
    raised: list[Exception] = []

    def begin() -> None:
        try:
            start()
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=begin, name="launcher", daemon=True)
    thread.start()
    # Successive reads of the ledger that found no active job. Two are needed: one may fall between two states of a job.
    idle_reads = 0
    while thread.is_alive() and idle_reads < 2:
        thread.join(POLL_SECONDS)
        waited_for = any(ledger.read(task.key).state in (WAITING, RUNNING) for task in left)
        idle_reads = 0 if waited_for else idle_reads + 1
    for error in raised:
        raise error


class ParentRuns:
    """The parent runs in MLflow that a sweep's pairs are shown under, one for each suite, and sending the pairs."""

    def __init__(self, tracking: Tracking, sweep: str, tasks: Sequence[Task]) -> None:
        """sweep: the sweep's id in the ledger. tasks: all jobs of the sweep.

        `self.tags` has for the name of each suite the value of the tag shiftbench.sweep of its runs.
        """
        self.tags = {task.suite: f"{sweep}.{task.suite}" for task in tasks}
        self._tracking, self._suites = tracking, {task.key: task.suite for task in tasks}
        self._names = {suite: sweep_name(suite, [one for one in tasks if one.suite == suite]) for suite in self.tags}
        self._parents: dict[str, str] = {}
        self._ended = False

    def open(self) -> None:
        """Open the parent run of each suite now, so that MLflow shows the sweep from its beginning on."""
        for suite in self.tags:
            self._parent(suite)

    @contextmanager
    def ended_by_errors(self) -> Iterator[None]:
        """Where the block is interrupted or fails, the parent runs get the status KILLED or FAILED at once.

        No parent run is opened after that.
        """
        try:
            yield
        except BaseException as error:
            if not self._ended:
                self._ended = True
                status = "FAILED" if isinstance(error, Exception) else "KILLED"
                for parent in [*self._parents.values()]:
                    self._tracking.close_suite(parent, status)
            raise

    def send(self, status: Status) -> None:
        """Send the results of a job that is done to MLflow.

        A failure is a warning, and the job's run stays pending for `shiftbench sync`. It stays pending too where the
        sweep has ended by an error and its suite has no parent run yet.
        """
        parent = self._parent(self._suites[status.key])
        if parent is not None or not self._ended:
            send_run(self._tracking, Path(status.folder), parent)

    def close(self, statuses: Sequence[Status]) -> None:
        """Send the jobs that are done and were not sent yet, and set the final status of the parent runs.

        The parent runs are those that this process has opened; `send` opens that of a job's suite where it is not open
        yet. The status is FINISHED where `statuses` has all jobs of the suite as done, otherwise FAILED.
        """
        for status in statuses:
            if status.state == DONE:
                self.send(status)
        for suite, parent in self._parents.items():
            done = all(status.state == DONE for status in statuses if self._suites[status.key] == suite)
            self._tracking.close_suite(parent, "FINISHED" if done else "FAILED")

    def _parent(self, suite: str) -> str | None:
        """The id of a suite's parent run, opened here unless an earlier call did; None where that is not possible.

        After None the next call tries again, unless the sweep has ended by an error: then no run is opened any more.
        """
        if suite not in self._parents:
            if self._ended:
                return None
            found = self._tracking.open_suite(self._names[suite], {SWEEP: self.tags[suite], "suite": suite})
            if found is None:
                return None
            self._parents[suite] = found
        return self._parents[suite]


def sweep_name(suite: str, tasks: Sequence[Task]) -> str:
    """The name of a suite's parent run, without the day: "sweep suite=core, 10 pairs".

    Where there are more jobs than pairs, it has both numbers: "sweep suite=core, 20 jobs, 10 pairs". tasks: the jobs of
    this suite alone.
    """
    pairs, jobs = len({pair_name(task.config.pair) for task in tasks}), len(tasks)
    counted = f"{pairs} pair{'s' * (pairs > 1)}"
    return f"sweep suite={suite}, {counted if jobs == pairs else f'{jobs} jobs, {counted}'}"


def print_outcome(statuses: Sequence[Status], root: Path, tracking: Tracking) -> int:
    """Print a line with the verdicts of each done job, and on stderr a line for each job that is not done.

    Lines after the verdicts say how to look at the runs and where the results are. Returns the exit code of `run`.
    """
    done = [status for status in statuses if status.state == DONE]
    longest = max((len(status.name) for status in done), default=0)
    for status in done:
        print(f"{visible(status.name):<{longest}}  {verdict_words(status)}")
    if tracking.ui_command():
        print(f"to look at the runs: {tracking.ui_command()}")
    print(f"results: {root}", flush=True)
    not_done = [status for status in statuses if status.state != DONE]
    for status in not_done:
        reason = status.reason or f"it is {status.state}; its process ended without a message, as a killed process does"
        print(f"shiftbench: job {status.name} failed: {reason}", file=sys.stderr)
    return min((status.code or 1 for status in not_done), default=0)
