"""The ledger of a sweep, the folder OUT/.sweep: the status of each job, and which processes are at work.

    plan.json      {"sweep": id, "jobs": {name: key}}: every job that was requested in this folder; where several had
                   the same name, only the newest of them
    lock           locked by the process that submits the sweep; the content of the file names that process
    jobs/KEY.json  the status of one job; the file is replaced in one step, except on a full disk (`_write`)
    jobs/KEY.lock  locked while the job runs, which distinguishes a running job from one whose process died

KEY is the digest of the job's name and of everything that its results depend on (`job_key` in task.py); it does not
depend on the job's number. See docs/cluster.md.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from shiftbench.errors import InputError
from shiftbench.readers import file_bytes, json_value, reading
from shiftbench.results.document import without_circumstances
from shiftbench.system import locks
from shiftbench.system.files import replace_whole, sweep_files

WAITING, RUNNING, DONE, FAILED = "waiting", "running", "done", "failed"
KEY_PATTERN = re.compile("[0-9A-Za-z_-]{1,128}")  # what the key of a job may look like; it becomes the name of a file
MAX_FILE_BYTES = 64 * 2**20  # the largest file of a ledger that is read
LATEST_SECONDS = 253_402_300_800.0  # seconds from 1970 to the year 10000
INTERRUPTED = "interrupted"  # written by a job at a KeyboardInterrupt, and read where a running job's process is gone
# MISSING is never written. It is read where a job has no valid status file, where the results of a done job are gone,
# and where no process submits a waiting job any more.
MISSING = "missing"


@dataclass(frozen=True)
class Status:
    """The status of one job.

    key: the job's key (`job_key` in task.py). name: the name of its results folder. folder: the path of that folder.
    state: one of the constants above. reason: why the job failed, was interrupted or is missing; empty where that is
    not known. code: the exit code of a failed job, 1 or 2. host, pid: the process that runs or ran the job. start, end:
    in seconds since 1970, 0 where not known. stage: what the job is doing. explained: the number of explanation units
    that the job computed, including earlier attempts that did not finish. found: the number of units that a done job
    took from the store. scores: the SHA-256 digest of the scores.json of a done job.
    """

    key: str
    name: str
    folder: str
    state: str
    reason: str = ""
    code: int = 0
    host: str = ""
    pid: int = 0
    start: float = 0.0
    end: float = 0.0
    stage: str = ""
    explained: int = 0
    found: int = 0
    scores: str = ""


class Ledger:
    """The status of every job of the sweeps in one folder, for processes of every machine that can read the folder."""

    def __init__(self, root: Path) -> None:
        """root: the folder OUT. The constructor writes nothing."""
        self.root = root
        self.folder = root / ".sweep"

    def plan_jobs(self, jobs: Mapping[str, str]) -> str:
        """Create the ledger if it is missing, and add a sweep's jobs (name to key) to its plan.

        Returns the sweep's id, which is drawn once for the folder: every later sweep in it has the same id, as long as
        plan.json stays valid. Raises InputError where the system cannot read an existing plan, which is then left as it
        is.
        """
        (self.folder / "jobs").mkdir(parents=True, exist_ok=True)
        for folder in (self.folder, self.folder / "jobs"):
            sweep_files(folder)
        plan = self._plan()
        plan = {"sweep": plan.get("sweep") or uuid.uuid4().hex, "jobs": {**plan.get("jobs", {}), **jobs}}
        _write(self.folder / "plan.json", plan)
        return str(plan["sweep"])

    def planned_jobs(self) -> dict[str, str]:
        """Name to key of every job that was requested in this folder. Raises InputError without a valid plan."""
        plan = self._plan()
        if not plan:
            raise InputError(
                f"there is no sweep in {self.root}; name another folder with out=DIR, or start a sweep with "
                "shiftbench score -m"
            )
        return dict(plan["jobs"])

    @contextmanager
    def hold_submission(self) -> Iterator[None]:
        """Lock the folder for the block, in which this process submits a sweep and waits for its jobs.

        Raises InputError at once where another process holds the lock; the message names that process if it is known.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with locks.held(self.folder / "lock") as mine:
            if not mine:
                raise InputError(f"{self.root}: a sweep runs here already ({self._submitter()}); wait, or give out=DIR")
            # The text only tells a process that is refused which one holds the lock, so the sweep goes on without it,
            # for example where the disk is full.
            with suppress(OSError):
                (self.folder / "lock").write_text(f"process {os.getpid()} on {socket.gethostname()}")
            yield

    @contextmanager
    def hold_job(self, key: str) -> Iterator[None]:
        """Lock a job for the block, in which this process runs it.

        Waits while another process holds the lock, for example one of an earlier sweep. Where the file system has no
        locks, nothing is locked.
        """
        with locks.held(self.folder / "jobs" / f"{key}.lock", wait=True):
            yield

    def write(self, status: Status) -> None:
        """Replace a job's status."""
        _write(self._file(status.key), asdict(status))

    def read(self, key: str, name: str = "") -> Status:
        """A job's status now. name: the job's name in the returned status where the ledger has no status of the job.

        The state is the one that was written last, with these exceptions. It is INTERRUPTED where the job was running
        and its process is gone. It is MISSING where the ledger has no valid status of the job, where the scores.json of
        a done job is gone or has changed, and where the job waits for a sweep whose process is gone.
        """
        try:
            status = _status(self._file(key))
        except (OSError, InputError):
            return Status(key, name, "", MISSING)
        if status.state == RUNNING and not self._alive(status):
            # The job may have ended after its status was read, so read it once more.
            try:
                again = _status(self._file(key))
            except (OSError, InputError):
                again = status
            return replace(status, state=INTERRUPTED) if again == status else again
        if status.state == DONE and scores_digest(Path(status.folder)) != status.scores:
            return replace(status, state=MISSING, reason="its results are no longer in its folder")
        if status.state == WAITING and locks.is_free(self.folder / "lock"):
            return replace(status, state=MISSING)
        return status

    def statuses(self) -> list[Status]:
        """The status of every planned job, in the order of plan.json. Raises InputError without a valid plan."""
        return [self.read(key, name) for name, key in self.planned_jobs().items()]

    def _alive(self, status: Status) -> bool:
        """Whether the process that runs a job still exists; True where that cannot be found out.

        The lock of the job tells. Where the file system has no locks, the process id does, on the same machine only.
        """
        free = locks.is_free(self.folder / "jobs" / f"{status.key}.lock")
        if free is None and status.host == socket.gethostname():  # None: the lock cannot be tested
            return Path(f"/proc/{status.pid}").exists()
        return not free

    def _submitter(self) -> str:
        with suppress(OSError, ValueError):
            return (self.folder / "lock").read_text()[:200] or "its process is not known"
        return "its process is not known"

    def _plan(self) -> dict[str, Any]:
        """The content of plan.json; {} where the file is missing or not valid. An id that is missing becomes ''.

        Raises InputError where the system cannot read the file: taken for a missing one, it would be written anew
        without the jobs and the id in it.
        """
        path = self.folder / "plan.json"
        try:
            plan = json_value(file_bytes(path, "plan.json", MAX_FILE_BYTES))
        except (FileNotFoundError, NotADirectoryError, InputError):
            return {}
        except OSError as error:
            raise InputError(
                f"the plan of the sweep, {path}, cannot be read now: {error.strerror or error}; run the same command "
                "again, or remove the file where it is damaged"
            ) from error
        jobs = plan.get("jobs") if isinstance(plan, dict) else None
        # A key becomes the name of a file.
        if not isinstance(jobs, dict) or not all(
            isinstance(k, str) and KEY_PATTERN.fullmatch(k) for k in jobs.values()
        ):
            return {}
        return plan if isinstance(plan.get("sweep"), str) and plan["sweep"] else {**plan, "sweep": ""}

    def _file(self, key: str) -> Path:
        return self.folder / "jobs" / f"{key}.json"


def as_started(status: Status) -> Status:
    """The status with state RUNNING, this host and process, and now as its start. The other fields stay."""
    return replace(status, state=RUNNING, host=socket.gethostname(), pid=os.getpid(), start=time.time())


def scores_digest(folder: Path) -> str:
    """The SHA-256 digest, in hexadecimal, of a folder's scores.json; empty where the file cannot be read.

    Date, commands and MLflow run do not count: sending a run, and computing the same results again, change no digest.
    """
    try:
        content = without_circumstances(file_bytes(folder / "scores.json", "scores.json"))
        return hashlib.sha256(content).hexdigest()
    except (OSError, ValueError):  # ValueError: an impossible path, or a pipe
        return ""


def _status(path: Path) -> Status:
    """The status in a file. Raises OSError where the file cannot be read, InputError where it holds no valid status."""
    what = f"{path.name} in {path.parent}"
    found = json_value(file_bytes(path, what, MAX_FILE_BYTES), what)
    with reading(f"{what}: cannot read the status of a job"):
        status = Status(**found)
        wanted = {"str": str, "int": int, "float": int | float}
        for field in fields(Status):
            if not isinstance(getattr(status, field.name), wanted[str(field.type)]):
                raise InputError(f"{what}: {field.name} is of the wrong type")
        if not all(0 <= moment < LATEST_SECONDS for moment in (status.start, status.end)):
            raise InputError(f"{what}: a time is out of range")
    return status


def _text(content: Mapping[str, Any]) -> str:
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"


def _write(path: Path, content: Mapping[str, Any]) -> None:
    """Replace a file in one step.

    Where this fails, as on a full disk, an existing file is overwritten in place, which needs little or no additional
    space; a reader may then see it half-written. Where there is no such file, the OSError is raised.
    """
    text = _text(content).encode("utf-8", "replace")
    try:
        replace_whole(path, text)
    except OSError:
        if not path.exists():
            raise
        with open(path, "r+b") as file:
            file.write(text)
            file.truncate()
