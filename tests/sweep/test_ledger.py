"""The ledger: a job's status after every way that it can end, and one sweep at a time in a folder."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from shiftbench.errors import InputError
from shiftbench.sweep.ledger import (
    DONE,
    FAILED,
    INTERRUPTED,
    MISSING,
    RUNNING,
    WAITING,
    Ledger,
    Status,
    as_started,
    scores_digest,
)

KEY = "a" * 64
HOLDER = """
import sys, time
from pathlib import Path
from shiftbench.sweep.ledger import Ledger, Status, as_started
ledger = Ledger(Path(sys.argv[1]))
with ledger.hold_submission() if sys.argv[2] == "submit" else ledger.hold_job(sys.argv[2]):
    if sys.argv[2] != "submit":
        ledger.write(as_started(Status(sys.argv[2], "one", sys.argv[1], "waiting")))
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    ledger = Ledger(tmp_path)
    ledger.plan_jobs({"one": KEY})
    return ledger


def holder(ledger: Ledger, what: str) -> subprocess.Popen[str]:
    """Another process, which locks a job or the whole folder until it is ended."""
    command = [sys.executable, "-c", HOLDER, str(ledger.root), what]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() == "held\n"
    return process


def test_a_job_that_was_never_started_is_missing(ledger: Ledger) -> None:
    [status] = ledger.statuses()
    assert (status.state, status.name) == (MISSING, "one")


@pytest.mark.long
def test_a_running_job_whose_process_dies_is_interrupted(ledger: Ledger) -> None:
    process = holder(ledger, KEY)
    status = ledger.read(KEY)
    assert (status.state, status.pid) == (RUNNING, process.pid) and status.host and status.start <= time.time()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert ledger.read(KEY).state == INTERRUPTED
    with ledger.hold_job(KEY):  # does not wait, because the lock is free again
        pass


def test_a_waiting_job_without_a_submitter_is_missing(ledger: Ledger) -> None:
    ledger.write(Status(KEY, "one", str(ledger.root), WAITING))
    assert ledger.read(KEY).state == MISSING
    with ledger.hold_submission():
        assert ledger.read(KEY).state == WAITING


def test_a_done_job_is_missing_once_its_results_change(ledger: Ledger) -> None:
    (ledger.root / "scores.json").write_text("{}")
    ledger.write(Status(KEY, "one", str(ledger.root), DONE, scores=scores_digest(ledger.root)))
    assert ledger.read(KEY).state == DONE
    (ledger.root / "scores.json").write_text("{ }")  # of another job
    assert ledger.read(KEY).state == MISSING
    (ledger.root / "scores.json").unlink()
    assert ledger.read(KEY).state == MISSING


@pytest.mark.long
def test_a_second_sweep_in_a_folder_is_refused_and_the_first_named(ledger: Ledger) -> None:
    process = holder(ledger, "submit")
    with pytest.raises(InputError, match=rf"a sweep runs here already \(process {process.pid} on .+\).*out=DIR"):
        with ledger.hold_submission():
            pass
    process.kill()
    process.wait()
    with ledger.hold_submission():
        pass


def test_the_plan_keeps_earlier_jobs_and_the_newest_job_of_each_name(ledger: Ledger) -> None:
    first = ledger.plan_jobs({"two": "b" * 64})
    assert ledger.plan_jobs({"one": "c" * 64}) == first
    assert ledger.planned_jobs() == {"one": "c" * 64, "two": "b" * 64}


def test_temporary_files_of_killed_jobs_are_removed_by_the_next_sweep(ledger: Ledger) -> None:
    dead, young = (ledger.folder / "jobs" / f".{KEY[:50]}.tmp-{name}" for name in ("dead", "young"))
    for path in (dead, young):
        path.write_text("half a status")
    os.utime(dead, (1, 1))
    ledger.plan_jobs({"one": KEY})
    assert young.exists() and not dead.exists(), "a recent file may belong to a living process"


def test_a_plan_that_the_system_cannot_read_now_is_not_replaced(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (ledger.folder / "plan.json").read_bytes()

    def fail(*_: object) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("shiftbench.sweep.ledger.file_bytes", fail)
    for use in (ledger.planned_jobs, lambda: ledger.plan_jobs({"two": "b" * 64})):
        with pytest.raises(InputError, match=r"plan\.json, cannot be read now: Input/output error"):
            use()
    monkeypatch.undo()
    assert (ledger.folder / "plan.json").read_bytes() == before
    ledger.plan_jobs({"two": "b" * 64})
    assert ledger.planned_jobs() == {"one": KEY, "two": "b" * 64}


def test_a_status_that_was_cut_off_is_a_missing_job(ledger: Ledger) -> None:
    (ledger.folder / "jobs" / f"{KEY}.json").write_text('{"key": "a')
    assert ledger.read(KEY, "one").state == MISSING


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_failure_can_be_written_on_a_full_disk(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if os.system(f"mount -t tmpfs -o size=64k tmpfs {small} 2>/dev/null"):
        pytest.skip("this sandbox does not mount")
    try:
        ledger = Ledger(small)
        ledger.plan_jobs({"one": KEY})
        status = Status(KEY, "one", str(small), WAITING)
        ledger.write(status)
        with pytest.raises(OSError), open(small / "ballast", "wb", buffering=0) as ballast:
            while True:
                ballast.write(bytes(1024))
        reason = "the disk is full " * 20
        ledger.write(replace(as_started(status), state=FAILED, reason=reason))
        assert ledger.read(KEY).reason == reason
        assert json.loads((ledger.folder / "jobs" / f"{KEY}.json").read_text())["state"] == FAILED
    finally:
        os.system(f"umount {small}")


DAMAGED = [b"", b"null", b"[]", b"5", b"[" * 100_000, b"\xff", b"{}", b'{"key": 5}', b"9" * 5000]


@pytest.mark.parametrize("content", DAMAGED, ids=lambda content: repr(content)[:20])
def test_a_status_that_is_not_json_of_the_right_form_is_a_missing_job(content: bytes, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.plan_jobs({"a": KEY})
    (ledger.folder / "jobs" / f"{KEY}.json").write_bytes(content)
    assert ledger.read(KEY, "a").state == MISSING


@pytest.mark.parametrize(
    "wrong",
    [{"state": 5}, {"start": "x"}, {"start": 1e300}, {"end": -1}, {"pid": None}, {"folder": []}, {"explained": "1"},
     {"name": {}}, {"more": 1}],
    ids=str,
)  # fmt: skip
def test_a_status_with_wrong_types_is_a_missing_job(wrong: dict, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.plan_jobs({"a": KEY})
    status = {**vars(Status(KEY, "a", str(tmp_path), FAILED)), **wrong}
    (ledger.folder / "jobs" / f"{KEY}.json").write_text(json.dumps(status))
    assert ledger.read(KEY, "a").state == MISSING


@pytest.mark.parametrize("folder", ["a\0b", "."])
def test_a_done_job_with_unreadable_results_is_missing(folder: str, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.plan_jobs({"a": KEY})
    os.mkfifo(tmp_path / "scores.json")
    ledger.write(Status(KEY, "a", folder.replace(".", str(tmp_path)), DONE, scores="0" * 64))
    assert ledger.read(KEY, "a").state == MISSING


@pytest.mark.parametrize(
    "content",
    [*DAMAGED, b'{"jobs": []}', b'{"jobs": {"a": 5}}', b'{"jobs": {"a": "../../x"}}', b'{"sweep": 1, "jobs": 2}'],
    ids=lambda content: repr(content)[:30],
)  # fmt: skip
def test_a_damaged_plan_counts_as_no_sweep(content: bytes, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.plan_jobs({"a": KEY})
    (ledger.folder / "plan.json").write_bytes(content)
    with pytest.raises(InputError, match="there is no sweep"):
        ledger.planned_jobs()
    assert ledger.plan_jobs({"b": KEY}) and ledger.planned_jobs() == {"b": KEY}
