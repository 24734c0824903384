"""One job of a sweep as it is handed to whoever runs it, and running it; whatever comes of it is in the ledger."""

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
from shiftbench.errors import InputError, Unwritable
from shiftbench.models.pairs import Loader
from shiftbench.pipeline.progress import Progress
from shiftbench.readers import path_of
from shiftbench.store.explanation import content_key
from shiftbench.sweep import gpus
from shiftbench.sweep.asked import Composed
from shiftbench.sweep.ledger import DONE, FAILED, INTERRUPTED, MISSING, WAITING, Ledger, Status, digest, started
from shiftbench.tracking import without_secrets

FILES = {"base", "tuned", "adapter", "tokenizer", "path"}  # keys whose value may name a file or a folder
STAGE_EVERY = 5.0  # seconds between notes on how far a stage is, where all of it is in the store


@dataclass(frozen=True)
class Task:
    """A job of a sweep. config: without secrets."""

    name: str
    key: str
    folder: Path
    config: DictConfig
    overrides: tuple[str, ...]
    suite: str

    def after(self, before: Status) -> Status:
        """The status of this job before it runs; what an earlier attempt made of it counts."""
        made = before.explained if before.state != MISSING else 0
        return Status(self.key, self.name, str(self.folder), WAITING, explained=made)


def task(composed: Composed, root: Path, versions: Mapping[str, str | int]) -> Task:
    """The task of a composed job, whose results go below root. versions: of its findings and their methods."""
    config = composed.config.copy()
    if config.tracking.uri is not None:
        config.tracking.uri = without_secrets(str(config.tracking.uri))
    key = job_key(composed.name, config, versions)
    return Task(composed.name, key, root / composed.name, config, composed.overrides, composed.suite)


def job_key(name: str, config: DictConfig, versions: Mapping[str, str | int]) -> str:
    """sha256 (hex) of a job's name and all that its results depend on; of files it reads, size and time of change."""
    plain: Any = OmegaConf.to_container(config, resolve=True)
    for name in settings.ELSEWHERE:
        plain.pop(name, None)
    for model in ("base_model", "tuned_model"):
        for name in ("device", "device_map"):
            plain["pair"].get(model, {}).pop(name, None)
    plain["findings"] = settings.decisive(config.findings)
    methods = {name: str(v) for name, v in versions.items() if name.startswith(("finding.", "explain."))}
    return content_key({"name": name, "config": plain, "versions": methods, "files": _stamps(plain)})


@dataclass
class Worker:
    """What Hydra's launcher calls in the process that is to run a job.

    tasks: job number to task, as Hydra counts. sweeps: of each suite, the tag that its tracked runs and their parent
    share. threads: that torch computes with, None: as this process would. loader: keeps a base model for the next job
    of the same process.
    """

    root: Path
    tasks: Sequence[Task]
    sweeps: Mapping[str, str]
    threads: int | None = None
    loader: Loader = field(default_factory=Loader)

    def __call__(self, config: DictConfig) -> None:
        """Run the job, unless another process has meanwhile. An exception ends in the ledger, not at the launcher."""
        task = self.tasks[HydraConfig.get().job.num]
        ledger = Ledger(self.root)
        with ledger.working(task.key):
            before = ledger.read(task.key)
            if before.state != DONE:
                self._run(task, _Note(ledger, started(task.after(before))))

    def _run(self, task: Task, note: _Note) -> None:

        from shiftbench.pipeline.run import run

        _take_threads(self.threads)
        note.write()
        try:
            with gpus.assigned(task.config, lambda text: note.stage(text, None)) as config:
                sweep, progress = self.sweeps[task.suite], Progress(watch=note.stage)
                recorded = run(config, task.folder, task.suite, progress, self.loader, sweep)
            note.write(state=DONE, scores=digest(task.folder), stage="", found=recorded.outcome.found)
        except KeyboardInterrupt:
            note.write(state=INTERRUPTED, reason="interrupted")
            raise
        except Unwritable as error:
            note.write(state=FAILED, reason=_line(str(error)), code=1)
        except InputError as error:
            note.write(state=FAILED, reason=_line(str(error)), code=2)
        except Exception as error:
            traceback.print_exc()
            note.write(state=FAILED, reason=_line(f"{type(error).__name__}: {error}"), code=1)


@dataclass
class _Note:
    """A running job's status, written as it changes; what cannot be written (a full disk) stops no job."""

    ledger: Ledger
    status: Status
    at: float = 0.0

    def stage(self, text: str, explained: bool | None) -> None:
        """What the job is doing; explained: True where a unit was made, False where the store had it."""
        if explained is not False or time.monotonic() - self.at > STAGE_EVERY:
            self.at = time.monotonic()
            self.write(stage=text, explained=self.status.explained + bool(explained))

    def write(self, **changed: Any) -> None:
        """Change the status, its end with its state."""
        if changed.get("state") in (DONE, FAILED):
            changed["end"] = time.time()
        self.status = replace(self.status, **changed)
        try:
            self.ledger.write(self.status)
        except OSError:
            traceback.print_exc()


def _take_threads(threads: int | None) -> None:
    """Compute with as many threads as this job has cores, where the environment does not say it already."""
    import torch

    given = threads or int(os.environ.get("SLURM_CPUS_PER_TASK") or os.environ.get("SLURM_CPUS_ON_NODE") or 0)
    if given and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(given)


def _line(text: str) -> str:
    """A reason as one line without passwords."""
    return without_secrets(" ".join(text.splitlines()[:1]))[:500]


def _stamps(config: Any) -> dict[str, list[list[Any]]]:
    """Of each file or folder that a configuration names: names, sizes and times of change (ns) of its files."""
    found: dict[str, list[list[Any]]] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            found.update(_stamps(value))
        elif key in FILES and isinstance(value, str) and (place := path_of(value, key)).exists():
            files = sorted(place.iterdir()) if place.is_dir() else [place]
            looks = [(file.name, file.stat()) for file in files if file.is_file()]
            found[value] = [[name, look.st_size, look.st_mtime_ns] for name, look in looks]
    return found
