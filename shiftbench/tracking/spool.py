"""What is to be sent to MLflow lies beside the results until it has been: a job leaves it, a sender sends it once.

    .tracked.json   {"schema", "result", "left", "files", "run": {...}, "sent": [{"uri", "experiment", "run"}, ...]}

result is new each time results are written, and the tag of the one run that MLflow has of them; files is the digest of
the files that go along. The file is hidden, and what is hidden is not sent.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

from shiftbench.errors import InputError
from shiftbench.readers import file_bytes, json_value, reading
from shiftbench.system import locks
from shiftbench.system.files import replace_whole
from shiftbench.tracking import suites
from shiftbench.tracking.address import OFF, reason
from shiftbench.tracking.place import Tracking
from shiftbench.tracking.sending import only_run
from shiftbench.tracking.tracked import SWEEP, TrackedRun, files_of

SCHEMA = "shiftbench/tracked/1"
SPOOLED, LOCK = ".tracked.json", ".tracked.lock"
SENT = ("uri", "experiment", "run")
MOST = 16 * 2**20  # bytes: what MLflow gets of a run beside its files, some 10 kB

log = logging.getLogger(__name__)


def leave(folder: Path, run: TrackedRun) -> None:
    """Write what MLflow is to get of the results in folder, once they are all there.

    Results come first: where this cannot be written (a full disk), that is a warning.
    """
    try:
        spooled = {
            "schema": SCHEMA,
            "result": uuid.uuid4().hex,
            "left": int(time.time() * 1000),
            "files": _digest(run),
            "run": {name: value for name, value in vars(run).items() if name != "artifacts"},
            "sent": [],
        }
        _write(folder, spooled)
    except OSError as error:
        with suppress(OSError):  # what an earlier run left there is not about these results
            (folder / SPOOLED).unlink()
        log.warning("results in %s are complete, but nothing could be left there for MLflow: %s; the same command "
                    "explains nothing anew and leaves it", folder, reason(error))  # fmt: skip


def send(tracking: Tracking, folder: Path, parent: str | None) -> str | None:
    """The id of the one run that MLflow has of the results in folder, which is sent now where it has none.

    None where tracking is off or nothing was left there; None, with a warning, where it could not be sent, and then it
    stays pending. parent: the run it is shown under; without one, the run of the sweep that its tags name.
    """
    if tracking.address == OFF or not os.path.exists(folder / SPOOLED):
        return None
    try:
        with locks.held(folder / LOCK, wait=True):  # against other senders, until this process ends
            return _send(tracking, folder, parent)
    except Exception as error:  # whatever it is, the results are on disk and the job has done its work
        log.warning("results in %s were not sent to %s: %s; they stay, and `shiftbench sync` sends them later",
                    folder, tracking.shown, reason(error))  # fmt: skip
        return None


def pending(root: Path, tracking: Tracking) -> list[Path]:
    """The folders at or below root whose results this place was not sent, sorted; unreadable ones are among them."""
    return sorted(path.parent for path in root.rglob(SPOOLED) if waits(path.parent, tracking))


def waits(folder: Path, tracking: Tracking) -> bool:
    """Whether this place has not been sent the results in folder."""
    try:
        return _where(_read(folder), tracking) is None
    except (OSError, InputError):
        return True


def _send(tracking: Tracking, folder: Path, parent: str | None) -> str:
    spooled = _read(folder)
    sent = _where(spooled, tracking)
    if sent is not None:
        return sent
    run = TrackedRun(**{**spooled["run"], "artifacts": folder})
    if spooled["files"] != _digest(run):
        raise ValueError("its files are not those that were left to be sent; score the pair again")
    client = tracking.client()
    experiment = tracking.found(client).experiment_id
    sweep = run.tags.get(SWEEP)
    if parent is None and sweep:
        parent = suites.late_run(client, experiment, run.tags.get("suite", ""), sweep)
    run = TrackedRun(**{**vars(run), "parent": parent or run.parent})
    files = tracking.files(client)
    run_id = only_run(client, files, experiment, run, tracking.own, spooled["result"], spooled["left"])
    note = {"uri": tracking.shown, "experiment": tracking.experiment, "run": run_id}
    _write(folder, {**spooled, "sent": [*spooled["sent"], note]})
    return run_id


def _where(spooled: Mapping[str, Any], tracking: Tracking) -> str | None:
    """The id of the run that a place has of these results, None where it has none."""
    place = (tracking.shown, tracking.experiment)
    return next((str(s["run"]) for s in spooled["sent"] if (s["uri"], s["experiment"]) == place), None)


def _digest(run: TrackedRun) -> str:
    """sha256 (hex) of the names and contents of a run's files."""
    whole = hashlib.sha256()
    for path in files_of(run, set()):
        name = path.relative_to(run.artifacts).as_posix().encode("utf-8", "surrogateescape")
        whole.update(hashlib.sha256(name).digest() + hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()


def _read(folder: Path) -> dict[str, Any]:
    """Raises InputError for a file that no job of this version left, OSError where it cannot be read."""
    content = file_bytes(folder / SPOOLED, SPOOLED, MOST)
    with reading(f"{SPOOLED} there is damaged or of another version", "score the pair again"):
        try:
            spooled = json_value(content)
            wrong = _wrong(spooled)
        except InputError as error:
            wrong = str(error)
        if wrong:
            raise ValueError(wrong)
        return dict(spooled)


def _wrong(spooled: Any) -> str:
    """What of a spooled file is not as `leave` writes it; empty where all of it is."""
    if not isinstance(spooled, dict) or spooled.get("schema") != SCHEMA:
        return f"it is not of the format {SCHEMA}"
    wanted = {"result": str, "left": int, "files": str, "run": dict, "sent": list}
    for name, kind in wanted.items():
        if not isinstance(spooled.get(name), kind):
            return f"{name} is missing or of the wrong type"
    if not re.fullmatch("[0-9a-f]{1,64}", spooled["result"]):
        return "result is no id"
    run = spooled["run"]
    if set(run) != {field.name for field in fields(TrackedRun)} - {"artifacts"}:
        return "run has other fields"
    texts = all(isinstance(each, str) for name in ("params", "tags") for each in _values(run[name]))
    numbers = all(isinstance(each, int | float) for each in _values(run["metrics"]))
    rest = isinstance(run["name"], str) and isinstance(run["parent"], str | None) and isinstance(run["only"], list)
    if not (texts and numbers and rest and all(isinstance(each, str) for each in run["only"])):
        return "run has values of the wrong type"
    for note in spooled["sent"]:
        if not isinstance(note, dict) or not all(isinstance(note.get(each), str) for each in SENT):
            return "sent has entries of the wrong type"
    return ""


def _values(named: Any) -> list[Any]:
    """The values of a mapping; for anything else, one value that is of no type allowed."""
    return list(named.values()) if isinstance(named, dict) else [None]


def _write(folder: Path, spooled: Mapping[str, Any]) -> None:
    replace_whole(folder / SPOOLED, json.dumps(spooled, indent=2).encode())
