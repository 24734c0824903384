"""The ledger of a sweep, in OUT/.sweep: what became of each job, and who is at work on it now.

    plan.json      {"sweep": id, "jobs": {name: key}}: every job that was asked for here, the newest of each name
    lock           held by the process that submits; its content says which process that is
    jobs/KEY.json  one job's status, replaced whole
    jobs/KEY.lock  held while the job runs, so that one whose process died is told from one that runs

KEY is the digest of all that the job's results depend on (task.py), never its number.
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
from shiftbench.system import locks
from shiftbench.system.files import replace_whole, sweep_files

WAITING, RUNNING, DONE, FAILED = "waiting", "running", "done", "failed"
KEY = re.compile("[0-9A-Za-z_-]{1,128}")  # of a job: a digest
MOST = 64 * 2**20  # bytes of a file of the ledger
LATEST = 253_402_300_800.0  # seconds since 1970 until the year 10000
INTERRUPTED = "interrupted"  # written by a job that a signal stopped; seen where a running one's process is gone
MISSING = "missing"  # seen, never written: no status at all, or one whose results are gone


@dataclass(frozen=True)
class Status:
    """What became of a job. state: one of those above; reason, code: of a failed one, code as the exit code says it.

    folder: of the results. scores: sha256 of its scores.json. stage: what it is doing. start, end: seconds since 1970.
    explained: units made, also by attempts that came to no end. found: taken from the store.
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
    """The status of every job of the sweeps in one folder, for any process of any machine that sees it."""

    def __init__(self, root: Path) -> None:
        """root: the folder OUT. Nothing is made until something is written."""
        self.root = root
        self.folder = root / ".sweep"

    def begin(self, jobs: Mapping[str, str]) -> str:
        """Make the ledger, and put a sweep's jobs (name to key) into its plan. Returns the sweep's id."""
        (self.folder / "jobs").mkdir(parents=True, exist_ok=True)
        for folder in (self.folder, self.folder / "jobs"):
            sweep_files(folder)
        plan = self._plan()
        # A job that is called otherwise than it was, as folders of results once were, is still one job.
        before = {name: key for name, key in plan.get("jobs", {}).items() if key not in jobs.values()}
        plan = {"sweep": plan.get("sweep") or uuid.uuid4().hex, "jobs": {**before, **jobs}}
        _write(self.folder / "plan.json", plan)
        return str(plan["sweep"])

    def planned(self) -> dict[str, str]:
        """Name to key of every job that was asked for in this folder. Raises InputError where there was no sweep."""
        plan = self._plan()
        if not plan:
            raise InputError(f"there is no sweep in {self.root}; say out=DIR, or start one with shiftbench score -m")
        return dict(plan["jobs"])

    @contextmanager
    def submitting(self) -> Iterator[None]:
        """Holds the folder for the one process that submits; InputError, naming the other, where another does."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with locks.held(self.folder / "lock") as mine:
            if not mine:
                raise InputError(f"{self.root}: a sweep runs here already ({self._submitter()}); wait, or give out=DIR")
            with suppress(OSError):  # a full disk: only the other's message is poorer
                (self.folder / "lock").write_text(f"process {os.getpid()} on {socket.gethostname()}")
            yield

    @contextmanager
    def working(self, key: str) -> Iterator[None]:
        """Holds a job; waits where another process runs it, as a job of an earlier submission may."""
        with locks.held(self.folder / "jobs" / f"{key}.lock", wait=True):
            yield

    def write(self, status: Status) -> None:
        """Replace a job's status."""
        _write(self._file(status.key), asdict(status))

    def read(self, key: str, name: str = "") -> Status:
        """A job's status as it is now: an interrupted one and one whose results are gone are told."""
        try:
            status = _status(self._file(key))
        except (OSError, InputError):
            return Status(key, name, "", MISSING)
        if status.state == RUNNING and not self._alive(status):
            # It may have ended between the two looks.
            try:
                again = _status(self._file(key))
            except (OSError, InputError):
                again = status
            return replace(status, state=INTERRUPTED) if again == status else again
        if status.state == DONE and digest(Path(status.folder)) != status.scores:
            return replace(status, state=MISSING, reason="its results are no longer in its folder")
        if status.state == WAITING and locks.free(self.folder / "lock"):
            return replace(status, state=MISSING)
        return status

    def statuses(self) -> list[Status]:
        """The status of every planned job, in the order in which they were asked for."""
        return [self.read(key, name) for name, key in self.planned().items()]

    def _alive(self, status: Status) -> bool:
        free = locks.free(self.folder / "jobs" / f"{status.key}.lock")
        if free is None and status.host == socket.gethostname():  # no locks here: what this machine can say for itself
            return Path(f"/proc/{status.pid}").exists()
        return not free

    def _submitter(self) -> str:
        with suppress(OSError, ValueError):
            return (self.folder / "lock").read_text()[:200] or "its process is not known"
        return "its process is not known"

    def _plan(self) -> dict[str, Any]:
        try:
            plan = json_value(file_bytes(self.folder / "plan.json", "plan.json", MOST))
        except (OSError, InputError):
            return {}
        jobs = plan.get("jobs") if isinstance(plan, dict) else None
        # A key becomes the name of a file.
        if not isinstance(jobs, dict) or not all(isinstance(k, str) and KEY.fullmatch(k) for k in jobs.values()):
            return {}
        return plan if isinstance(plan.get("sweep"), str) and plan["sweep"] else {**plan, "sweep": ""}

    def _file(self, key: str) -> Path:
        return self.folder / "jobs" / f"{key}.json"


def started(status: Status) -> Status:
    """The status of a job that this process begins now."""
    return replace(status, state=RUNNING, host=socket.gethostname(), pid=os.getpid(), start=time.time())


def digest(folder: Path) -> str:
    """sha256 (hex) of a folder's scores.json, '' where it has none."""
    try:
        return hashlib.sha256(file_bytes(folder / "scores.json", "scores.json")).hexdigest()
    except (OSError, ValueError):  # ValueError: a path that is none, or a pipe
        return ""


def _status(path: Path) -> Status:
    """The status that a file holds. Raises OSError where there is none, InputError where it is not one of ours."""
    what = f"{path.name} in {path.parent}"
    found = json_value(file_bytes(path, what, MOST), what)
    with reading(f"{what}: cannot read the status of a job"):
        status = Status(**found)
        wanted = {"str": str, "int": int, "float": int | float}
        for field in fields(Status):
            if not isinstance(getattr(status, field.name), wanted[str(field.type)]):
                raise InputError(f"{what}: {field.name} is of the wrong type")
        if not all(0 <= moment < LATEST for moment in (status.start, status.end)):
            raise InputError(f"{what}: a time is none")
    return status


def _text(content: Mapping[str, Any]) -> str:
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"


def _write(path: Path, content: Mapping[str, Any]) -> None:
    """Replace a file in one step; on a full disk in place, which takes no new room and may be seen half-written."""
    text = _text(content).encode("utf-8", "replace")
    try:
        replace_whole(path, text)
    except OSError:
        if not path.exists():
            raise
        with open(path, "r+b") as file:
            file.write(text)
            file.truncate()
