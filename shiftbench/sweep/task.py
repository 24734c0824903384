"""One job of a sweep in the form that is sent to the process that runs it, and running it there.

The ledger holds what became of the job.
"""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from shiftbench.config import settings
from shiftbench.errors import InputError, Unreadable, Unwritable
from shiftbench.models.pairs import Loader
from shiftbench.pipeline.progress import Progress
from shiftbench.readers import path_of
from shiftbench.store.explanation import content_key
from shiftbench.sweep import gpus
from shiftbench.sweep.command_line import ComposedJob
from shiftbench.sweep.ledger import (
    DONE,
    FAILED,
    INTERRUPTED,
    MISSING,
    WAITING,
    Ledger,
    Status,
    as_started,
    scores_digest,
)
from shiftbench.tracking import without_secrets

PATH_KEYS = {"base", "tuned", "adapter", "tokenizer", "path"}  # configuration keys whose values may be paths
STAGE_EVERY = 5.0  # the fewest seconds between writes of the status while units come from the store


@dataclass(frozen=True)
class Task:
    """A job of a sweep.

    name: the name of its results folder. key: see `job_key`. folder: the path of its results folder. config: its
    configuration, without the secrets of a tracking URI. overrides: what the configuration was composed from, without
    the secrets of URIs. suite: the name of the config that chose its findings and prompts.

    A task has no secrets because launchers write it to disk. The process that runs it needs none: only the process that
    submits the sweep writes to MLflow.
    """

    name: str
    key: str
    folder: Path
    config: DictConfig
    overrides: tuple[str, ...]
    suite: str

    def after(self, before: Status) -> Status:
        """The status WAITING of this job, before it runs.

        before: the job's last status. Its number of computed units is kept, except where its state is MISSING.
        """
        explained = before.explained if before.state != MISSING else 0
        return Status(self.key, self.name, str(self.folder), WAITING, explained=explained)


def make_task(composed: ComposedJob, root: Path, versions: Mapping[str, str | int]) -> Task:
    """The task of a composed job. Its results folder is root / the job's name.

    versions: the versions of the job's findings and explainers, by names such as finding.NAME and explain.NAME. They
    are part of the task's key (`job_key`); versions under other names are ignored.
    """
    config = composed.config.copy()
    if config.tracking.uri is not None:
        config.tracking.uri = without_secrets(str(config.tracking.uri))
    key = job_key(composed.name, config, versions)
    overrides = tuple(without_secrets(override) for override in composed.overrides)
    return Task(composed.name, key, root / composed.name, config, overrides, composed.suite)


def job_key(name: str, config: DictConfig, versions: Mapping[str, str | int]) -> str:
    """The SHA-256 digest, in hexadecimal, of a job's name and of everything that its results depend on.

    These are its configuration, without EXECUTION_OPTIONS, devices and the options of findings that decide no result;
    the versions of its findings and explainers; and the files that the configuration names (`_file_stamps`), of which
    the name, the size and the time of change count. The name counts because it is that of the results folder: jobs that
    differ in an execution option alone, as of device=cpu,cuda:0, have the same results and a folder each.
    """
    plain: Any = OmegaConf.to_container(config, resolve=True)
    for option in settings.EXECUTION_OPTIONS:
        plain.pop(option, None)
    for model in ("base_model", "tuned_model"):
        for option in ("device", "device_map"):
            plain["pair"].get(model, {}).pop(option, None)
    plain["findings"] = settings.decisive(config.findings)
    methods = {part: str(version) for part, version in versions.items() if part.startswith(("finding.", "explain."))}
    return content_key({"name": name, "config": plain, "versions": methods, "files": _file_stamps(plain)})


@dataclass
class Worker:
    """Hydra's launcher calls this object in the process that runs a job.

    root: the folder OUT of the sweep. tasks: the jobs, at the indices by which Hydra numbers them. sweeps: for each
    suite, the value of the tag shiftbench.sweep, the same for its runs and their parent run. threads: the number
    of cores that the launcher gives a job, for `_set_thread_count`; None where the launcher has no such option. loader:
    keeps a base model for the next job of the same process.
    """

    root: Path
    tasks: Sequence[Task]
    sweeps: Mapping[str, str]
    threads: int | None = None
    loader: Loader = field(default_factory=Loader)

    def __call__(self, config: DictConfig) -> None:
        """Run the job whose index in `tasks` is hydra.job.num, unless another process has finished it meanwhile.

        The job has the configuration of its task; `config`, which lacks the options of tracking, is not used. An
        exception of the job is written to the ledger and not raised, because a launcher would stop all other jobs.
        KeyboardInterrupt is written and raised.
        """
        task = self.tasks[HydraConfig.get().job.num]
        ledger = Ledger(self.root)
        with ledger.hold_job(task.key):
            before = ledger.read(task.key)
            if before.state != DONE:
                self._run(task, _StatusWriter(ledger, as_started(task.after(before))))

    def _run(self, task: Task, writer: _StatusWriter) -> None:
        from shiftbench.pipeline.run import run

        _set_thread_count(self.threads)
        writer.write()
        try:
            with gpus.assigned(task.config, lambda text: writer.stage(text, None)) as config:
                sweep, progress = self.sweeps[task.suite], Progress(watch=writer.stage)
                recorded = run(config, task.folder, task.suite, progress, self.loader, sweep, task.overrides)
            writer.write(state=DONE, scores=scores_digest(task.folder), stage="", found=recorded.outcome.found)
        except KeyboardInterrupt:
            writer.write(state=INTERRUPTED, reason="interrupted")
            raise
        except (Unwritable, Unreadable) as error:
            writer.write(state=FAILED, reason=_one_line(str(error)), code=1)
        except InputError as error:
            writer.write(state=FAILED, reason=_one_line(str(error)), code=2)
        except Exception as error:
            traceback.print_exc()
            writer.write(state=FAILED, reason=_one_line(f"{type(error).__name__}: {error}"), code=1)


@dataclass
class _StatusWriter:
    """Writes a running job's status as it changes. A status that cannot be written, as on a full disk, stops no job."""

    ledger: Ledger
    status: Status
    written_at: float = 0.0

    def stage(self, text: str, explained: bool | None) -> None:
        """Write what the job is doing.

        explained: True where a unit was computed, False where a unit came from the store, None where the text is about
        no unit. Where it is False, nothing is done within STAGE_EVERY seconds of the last stage that was written.
        """
        if explained is not False or time.monotonic() - self.written_at > STAGE_EVERY:
            self.written_at = time.monotonic()
            self.write(stage=text, explained=self.status.explained + bool(explained))

    def write(self, **changed: Any) -> None:
        """Change fields of the status and write it. The states DONE and FAILED also set the time of the job's end."""
        if changed.get("state") in (DONE, FAILED):
            changed["end"] = time.time()
        self.status = replace(self.status, **changed)
        try:
            self.ledger.write(self.status)
        except OSError:
            traceback.print_exc()


def _set_thread_count(threads: int | None) -> None:
    """Let torch use as many threads as this job has cores, unless OMP_NUM_THREADS is set.

    threads: the number of cores; None: the number that Slurm gave, and without Slurm torch's own choice.
    """
    import torch

    cores = threads or int(os.environ.get("SLURM_CPUS_PER_TASK") or os.environ.get("SLURM_CPUS_ON_NODE") or 0)
    if cores and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(cores)


def _one_line(text: str) -> str:
    """The first line of a message, without the secrets of URIs, in at most 500 characters."""
    return without_secrets(" ".join(text.splitlines()[:1]))[:500]


def _file_stamps(config: Any) -> dict[str, list[list[Any]]]:
    """For each path in a configuration, the [name, size in bytes, time of change in ns] of each of its files.

    The keys are the paths as the configuration has them. Paths are the texts under PATH_KEYS, at any depth but not in
    lists, that name an existing file or folder. Of a folder, the files directly in it count.
    """
    stamps: dict[str, list[list[Any]]] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            stamps.update(_file_stamps(value))
        elif key in PATH_KEYS and isinstance(value, str) and (path := path_of(value, key)).exists():
            files = sorted(path.iterdir()) if path.is_dir() else [path]
            stats = [(file.name, file.stat()) for file in files if file.is_file()]
            stamps[value] = [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]
    return stamps
