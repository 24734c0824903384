"""The spool: what MLflow is to receive of a run waits in a file beside the results until it has been sent.

A job writes the file with `spool_run`. `send_run` sends it, from the job or later from `shiftbench sync`, exactly once
to each destination. The file is `.tracked.json`:

    {"schema", "result", "left", "files", "run": {...}, "sent": [{"uri", "experiment", "run"}, ...]}

result: an id that is new each time results are written; the tag `shiftbench.result` of their one MLflow run. left: when
`spool_run` wrote the file, in milliseconds since 1970. files: the digest of the run's files, without the field
mlflow_run of scores.json, which is written when the run is sent. run: the fields of `TrackedRun` but for `artifacts`,
which is the folder of the file. sent: for each destination that has received the run, its URI without secrets, the name
of its experiment, and the id of the MLflow run there. The file's name begins with a dot, so the file is not itself
sent.
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
from shiftbench.tracking.address import OFF, describe
from shiftbench.tracking.destination import Tracking
from shiftbench.tracking.scores_file import SCORES_FILE, without_run_id, write_run_id
from shiftbench.tracking.sending import send_once
from shiftbench.tracking.tracked import SWEEP, TrackedRun, files_to_send

SCHEMA = "shiftbench/tracked/2"
READABLE = (SCHEMA, "shiftbench/tracked/1")  # runs of version 1 have no started_ms
SPOOLED, LOCK = ".tracked.json", ".tracked.lock"
SENT_FIELDS = ("uri", "experiment", "run")
MAX_BYTES = 16 * 2**20  # of a spool file, which usually has about 10 kB

log = logging.getLogger(__name__)


def spool_run(folder: Path, run: TrackedRun) -> None:
    """Write the spool file of the results in a folder, which is also `run.artifacts`.

    All files of the results must have been written before, because the spool file holds their digest. A spool file that
    cannot be written, as on a full disk, is a warning, because the results themselves are complete; an earlier spool
    file is then removed.
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
        with suppress(OSError):  # an earlier spool file is not about these results
            (folder / SPOOLED).unlink()
        log.warning("results in %s are complete, but nothing could be left there for MLflow: %s; the same command, "
                    "run again, explains nothing anew and leaves it", folder, describe(error))  # fmt: skip


def send_run(tracking: Tracking, folder: Path, parent: str | None) -> str | None:
    """The id of the one MLflow run of the results in a folder, which is sent now if MLflow does not have it.

    parent: the id of the MLflow run that this run is shown under. None: where the tags of the run name a sweep, it is
    shown under that sweep's parent run; otherwise under the parent in the spool file, if there is one.

    Returns None where tracking is off or the folder has no spool file. Returns None, with a warning, where the run
    could not be sent; the run then stays pending.
    """
    if tracking.address == OFF or not os.path.exists(folder / SPOOLED):
        return None
    try:
        with locks.held(folder / LOCK, wait=True):  # one sender at a time; the lock of a killed one is free
            return _send(tracking, folder, parent)
    except Exception as error:  # whatever the error, the results are on disk and the job has succeeded
        log.warning("results in %s were not sent to %s: %s; they stay, and `shiftbench sync` sends them later",
                    folder, tracking.shown, describe(error))  # fmt: skip
        return None


def pending_folders(root: Path, tracking: Tracking) -> list[Path]:
    """The folders at or below root with a spool file whose results were not sent to this destination, sorted.

    A folder whose spool file cannot be read is among them.
    """
    return sorted(path.parent for path in root.rglob(SPOOLED) if is_pending(path.parent, tracking))


def is_pending(folder: Path, tracking: Tracking) -> bool:
    """Whether the results in a folder have still to be sent to this destination.

    True also where tracking is off, and where the spool file is missing or cannot be read.
    """
    try:
        return _sent_run_id(_read(folder), tracking) is None
    except (OSError, InputError):
        return True


def _send(tracking: Tracking, folder: Path, parent: str | None) -> str:
    spooled = _read(folder)
    sent = _sent_run_id(spooled, tracking)
    if sent is not None:
        return sent
    run = TrackedRun(**{**spooled["run"], "artifacts": folder})
    if spooled["files"] != _digest(run):
        raise ValueError("its files are not those that were left to be sent; score the pair again")
    client = tracking.client()
    experiment = tracking.get_experiment(client).experiment_id
    sweep = run.tags.get(SWEEP)
    if parent is None and sweep:
        parent = suites.get_finished_run(client, experiment, run.tags.get("suite", ""), sweep)
    run = TrackedRun(**{**vars(run), "parent": parent or run.parent})
    files = tracking.open_artifacts(client)
    run_id = send_once(
        client, files, experiment, run, tracking.mlflow_paths, spooled["result"], spooled["left"],
        lambda created: write_run_id(folder, created),
    )  # fmt: skip
    entry = {"uri": tracking.shown, "experiment": tracking.experiment, "run": run_id}
    _write(folder, {**spooled, "sent": [*spooled["sent"], entry]})
    return run_id


def _sent_run_id(spooled: Mapping[str, Any], tracking: Tracking) -> str | None:
    """The id of the MLflow run of these results at a destination; None where they were not sent there."""
    destination = (tracking.shown, tracking.experiment)
    return next((str(s["run"]) for s in spooled["sent"] if (s["uri"], s["experiment"]) == destination), None)


def _digest(run: TrackedRun) -> str:
    """The SHA-256 digest, in hexadecimal, of the names and contents of the files that `files_to_send` gives for a run.

    Files that MLflow itself keeps in the folder are not left out here. The value of `mlflow_run` in scores.json does
    not change it.
    """
    digest = hashlib.sha256()
    for path in files_to_send(run, set()):
        name = path.relative_to(run.artifacts).as_posix().encode("utf-8", "surrogateescape")
        content = path.read_bytes()
        if path == run.artifacts / SCORES_FILE:
            content = without_run_id(content)
        digest.update(hashlib.sha256(name).digest() + hashlib.sha256(content).digest())
    return digest.hexdigest()


def _read(folder: Path) -> dict[str, Any]:
    """The content of the spool file in a folder.

    Raises OSError where the file cannot be read, and InputError where it has more than MAX_BYTES bytes or its content
    is of none of the formats READABLE.
    """
    content = file_bytes(folder / SPOOLED, SPOOLED, MAX_BYTES)
    with reading(f"{SPOOLED} there is damaged or of another version", "score the pair again"):
        try:
            spooled = json_value(content)
            damage = _find_damage(spooled)
        except InputError as error:
            damage = str(error)
        if damage:
            raise ValueError(damage)
        return dict(spooled)


def _find_damage(spooled: Any) -> str:
    """What is wrong in the content of a spool file, in words; empty where it has one of the formats READABLE.

    In content of version 1, run.started_ms is set to None, in the dict that was passed, unless it is there.
    """
    if not isinstance(spooled, dict) or spooled.get("schema") not in READABLE:
        return f"it is not of the format {SCHEMA}"
    wanted = {"result": str, "left": int, "files": str, "run": dict, "sent": list}
    for name, kind in wanted.items():
        if not isinstance(spooled.get(name), kind):
            return f"{name} is missing or of the wrong type"
    if not re.fullmatch("[0-9a-f]{1,64}", spooled["result"]):
        return "result is not an id"
    run = spooled["run"]
    if spooled["schema"] != SCHEMA:
        run.setdefault("started_ms", None)
    if set(run) != {field.name for field in fields(TrackedRun)} - {"artifacts"}:
        return "run has other fields"
    texts = all(isinstance(each, str) for name in ("params", "tags") for each in _values(run[name]))
    numbers = all(isinstance(each, int | float) for each in _values(run["metrics"]))
    rest = isinstance(run["name"], str) and isinstance(run["parent"], str | None) and isinstance(run["only"], list)
    rest = rest and isinstance(run["started_ms"], int | None)
    if not (texts and numbers and rest and all(isinstance(each, str) for each in run["only"])):
        return "run has values of the wrong type"
    for entry in spooled["sent"]:
        if not isinstance(entry, dict) or not all(isinstance(entry.get(each), str) for each in SENT_FIELDS):
            return "sent has entries of the wrong type"
    return ""


def _values(named: Any) -> list[Any]:
    """The values of a dict. For anything else [None], whose element is of none of the types that are checked for."""
    return list(named.values()) if isinstance(named, dict) else [None]


def _write(folder: Path, spooled: Mapping[str, Any]) -> None:
    replace_whole(folder / SPOOLED, json.dumps(spooled, indent=2).encode())
