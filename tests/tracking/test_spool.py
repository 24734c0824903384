"""A spooled run reaches each destination exactly once, however often and by whichever process it is sent."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient

from shiftbench.tracking import (
    KIND,
    OFF,
    RESULT,
    SUITE,
    SWEEP,
    TrackedRun,
    Tracking,
    pending_folders,
    send_run,
    spool_run,
)
from tests.tracking.recorded import assert_recorded, search_runs
from tests.tracking.servers import free_port

pytestmark = pytest.mark.whole

SENDER = """
import sys
from pathlib import Path
from shiftbench.tracking import Tracking, send_run
print(send_run(Tracking(sys.argv[1], "shiftbench"), Path(sys.argv[2]), None))
"""


def sender(tracking: Tracking, folder: Path) -> subprocess.Popen[str]:
    """Another process, which sends the run in the same folder."""
    command = [sys.executable, "-c", SENDER, tracking.address, str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def spool_content(folder: Path) -> dict:
    """The spool file of the results in a folder, parsed."""
    return json.loads((folder / ".tracked.json").read_text())


def test_a_spooled_run_is_sent_once(local: Tracking, run: TrackedRun, client: MlflowClient) -> None:
    folder = run.artifacts
    spool_run(folder, run)
    assert pending_folders(folder.parent, local) == [folder]
    first = send_run(local, folder, None)
    assert first and pending_folders(folder.parent, local) == []
    assert send_run(local, folder, None) == first
    [found] = search_runs(client)
    assert_recorded(found, run, client)
    assert found.info.run_id == first and found.data.tags[RESULT] == spool_content(folder)["result"]
    assert spool_content(folder)["sent"] == [{"uri": local.shown, "experiment": "shiftbench", "run": first}]


def test_results_that_are_written_again_become_another_run(
    local: Tracking, run: TrackedRun, client: MlflowClient
) -> None:
    spool_run(run.artifacts, run)
    first = send_run(local, run.artifacts, None)
    spool_run(run.artifacts, run)
    assert pending_folders(run.artifacts, local) == [run.artifacts]
    second = send_run(local, run.artifacts, None)
    assert second not in (None, first) and len(search_runs(client)) == 2


def test_a_run_that_mlflow_has_already_is_only_marked_as_sent(
    local: Tracking, run: TrackedRun, client: MlflowClient
) -> None:
    """As where the sender was killed after MLflow's last answer and before the spool file was updated."""
    spool_run(run.artifacts, run)
    before = (run.artifacts / ".tracked.json").read_bytes()
    first = send_run(local, run.artifacts, None)
    (run.artifacts / ".tracked.json").write_bytes(before)
    assert send_run(local, run.artifacts, None) == first
    assert len(search_runs(client)) == 1 and pending_folders(run.artifacts, local) == []


@pytest.mark.parametrize("status", ["RUNNING", "FAILED"])
def test_an_unfinished_run_is_completed(local: Tracking, run: TrackedRun, client: MlflowClient, status: str) -> None:
    """As where a server went down and a request was repeated: one of two runs is completed, the other marked KILLED."""
    spool_run(run.artifacts, run)
    local.check()
    experiment = local.get_experiment(client).experiment_id
    half = [client.create_run(experiment, 1000 + i, {RESULT: spool_content(run.artifacts)["result"]}) for i in range(2)]
    client.log_param(half[0].info.run_id, "dataset", "self_instruct")
    client.log_metric(half[0].info.run_id, "recognition.recognition.value", 0.25)
    if status == "FAILED":
        client.set_terminated(half[0].info.run_id, "FAILED")
    assert send_run(local, run.artifacts, None) == half[0].info.run_id
    found = {item.info.run_id: item for item in search_runs(client)}
    assert len(found) == 2 and found[half[1].info.run_id].info.status == "KILLED"
    completed = found[half[0].info.run_id]
    assert_recorded(completed, replace(run, name=completed.info.run_name), client)


def test_a_run_is_sent_to_a_second_destination_too(local: Tracking, run: TrackedRun, tmp_path: Path) -> None:
    spool_run(run.artifacts, run)
    other = Tracking(None, "another experiment")
    assert send_run(local, run.artifacts, None) and pending_folders(run.artifacts, other) == [run.artifacts]
    assert send_run(other, run.artifacts, None) and pending_folders(run.artifacts, other) == []
    assert len(spool_content(run.artifacts)["sent"]) == 2


def test_two_senders_at_once_make_one_run(local: Tracking, run: TrackedRun, client: MlflowClient) -> None:
    local.check()
    spool_run(run.artifacts, run)
    both = [sender(local, run.artifacts) for _ in range(2)]
    printed = [process.communicate()[0].strip() for process in both]
    [found] = search_runs(client)
    assert printed == [found.info.run_id] * 2
    assert_recorded(found, run, client)


def test_after_a_sender_was_killed_the_next_completes_the_same_run(
    local: Tracking, run: TrackedRun, client: MlflowClient
) -> None:
    local.check()
    for i in range(300):
        (run.artifacts / "tables" / f"{i}.csv").write_text(f"{i}\n" * 100)
    spool_run(run.artifacts, run)
    process = sender(local, run.artifacts)
    until = time.monotonic() + 60
    artifacts = local.artifact_folder
    while time.monotonic() < until and len(list(artifacts.rglob("tables/*.csv"))) < 20:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    [half] = search_runs(client)
    assert half.info.status == "RUNNING" and pending_folders(run.artifacts, local) == [run.artifacts]
    assert send_run(local, run.artifacts, None) == half.info.run_id
    [found] = search_runs(client)
    assert_recorded(found, run, client)


def test_a_dead_server_leaves_it_pending(
    here: Path, run: TrackedRun, caplog: pytest.LogCaptureFixture, local: Tracking
) -> None:
    dead = Tracking(f"http://127.0.0.1:{free_port()}", "shiftbench")
    spool_run(run.artifacts, run)
    assert send_run(dead, run.artifacts, None) is None
    assert str(run.artifacts) in caplog.text and "`shiftbench sync` sends them later" in caplog.text
    assert pending_folders(run.artifacts, dead) == [run.artifacts]
    assert send_run(local, run.artifacts, None)


def test_a_run_without_tracking_is_not_sent_and_can_be_sent_later(local: Tracking, run: TrackedRun) -> None:
    spool_run(run.artifacts, run)
    assert send_run(Tracking(OFF, "shiftbench"), run.artifacts, None) is None
    assert pending_folders(run.artifacts, local) == [run.artifacts]


def test_files_that_changed_since_they_were_spooled_are_not_sent(
    local: Tracking, run: TrackedRun, client: MlflowClient, caplog: pytest.LogCaptureFixture
) -> None:
    local.check()
    spool_run(run.artifacts, run)
    (run.artifacts / "scores.json").write_text("of a later job that was killed before it wrote its spool file")
    assert send_run(local, run.artifacts, None) is None
    assert "are not those that were left to be sent; score the pair again" in caplog.text
    assert search_runs(client) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_costs_no_results(
    local: Tracking, run: TrackedRun, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", small], capture_output=True).returncode:
        pytest.skip("no small file system can be mounted here")
    try:
        folder = small / "results"
        shutil.copytree(run.artifacts, folder)
        here = replace(run, artifacts=folder)
        spool_run(folder, here)
        before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name[0] != "."}
        with suppress(OSError), open(small / "filler", "wb", buffering=0) as filler:
            while True:
                filler.write(b"x" * 4096)
        spool_run(folder, here)
        assert "results in" in caplog.text and "are complete, but nothing could be left there" in caplog.text
        assert send_run(local, folder, None) is None and pending_folders(folder, local) == []
        assert {path: path.read_bytes() for path in before} == before
        assert [path.name for path in folder.iterdir() if path.name.startswith(".tracked")] == []
        (small / "filler").unlink()
        spool_run(folder, here)
        assert send_run(local, folder, None)
    finally:
        subprocess.run(["umount", small], check=True)


def test_a_damaged_spool_file_is_a_warning_and_stays_pending(
    local: Tracking, run: TrackedRun, caplog: pytest.LogCaptureFixture
) -> None:
    (run.artifacts / ".tracked.json").write_text("{")
    assert pending_folders(run.artifacts, local) == [run.artifacts]
    assert send_run(local, run.artifacts, None) is None
    assert str(run.artifacts) in caplog.text


# Suites


def test_a_sweep_that_is_started_again_keeps_its_parent_run(
    local: Tracking, run: TrackedRun, client: MlflowClient
) -> None:
    tags = {SWEEP: "0123", "suite": "core"}
    parent = local.open_suite("core", tags)
    assert parent
    local.close_suite(parent, "FAILED")
    assert client.get_run(parent).info.status == "FAILED"
    assert local.open_suite("core", tags) == parent
    assert client.get_run(parent).info.status == "RUNNING"
    assert local.open_suite("core", {**tags, SWEEP: "4567"}) != parent
    spool_run(run.artifacts, run)
    child = send_run(local, run.artifacts, parent)
    local.close_suite(parent, "FINISHED")
    [found] = search_runs(client, f"tags.mlflow.parentRunId = '{parent}'")
    assert found.info.run_id == child
    assert client.get_run(parent).data.tags[KIND] == SUITE


def test_a_pair_that_is_sent_later_finds_or_creates_its_sweeps_parent_run(
    local: Tracking, run: TrackedRun, client: MlflowClient, tmp_path: Path
) -> None:
    """As where the server was down when the sweep began, so that no job knows the parent run."""
    swept = replace(run, tags={**run.tags, SWEEP: "89ab", "suite": "core"})
    spool_run(swept.artifacts, swept)
    first = send_run(local, swept.artifacts, None)
    spool_run(swept.artifacts, swept)
    second = send_run(local, swept.artifacts, None)
    [parent] = search_runs(client, f"tags.`{KIND}` = '{SUITE}'")
    assert parent.info.run_name.startswith("sweep suite=core, 2") and parent.data.tags[SWEEP] == "89ab"
    children = search_runs(client, f"tags.mlflow.parentRunId = '{parent.info.run_id}'")
    assert {item.info.run_id for item in children} == {first, second}


WHOLE = {
    "schema": "shiftbench/tracked/1", "result": "0a", "left": 1, "files": "", "sent": [],
    "run": {"name": "a", "params": {}, "tags": {}, "metrics": {}, "parent": None, "only": []},
}  # fmt: skip


@pytest.mark.parametrize(
    "content",
    [
        b"", b"null", b"[]", b"{}", b'{"a": 1}', b"[" * 100_000, b"\xff", b"9" * 5000,
        b'{"schema": "shiftbench/tracked/1"}',
        {**WHOLE, "result": 5}, {**WHOLE, "result": "' or 1"}, {**WHOLE, "left": "x"}, {**WHOLE, "files": None},
        {**WHOLE, "sent": {}}, {**WHOLE, "sent": [5]}, {**WHOLE, "sent": [{"uri": "x"}]}, {**WHOLE, "run": None},
        {**WHOLE, "run": {}}, {**WHOLE, "run": {**WHOLE["run"], "more": 1}},
        {**WHOLE, "run": {**WHOLE["run"], "tags": 5}},
        {**WHOLE, "run": {**WHOLE["run"], "tags": {"a": 5}}}, {**WHOLE, "run": {**WHOLE["run"], "metrics": {"a": "b"}}},
        {**WHOLE, "run": {**WHOLE["run"], "only": "scores.json"}}, {**WHOLE, "run": {**WHOLE["run"], "name": None}},
        b'{"schema": "shiftbench/tracked/1", "x": "' + b"x" * 17 * 2**20 + b'"}', "a pipe", "a folder",
    ],
    ids=lambda content: repr(content)[:60],
)  # fmt: skip
def test_a_spool_file_that_no_job_wrote_is_a_warning(
    content: object, local: Tracking, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "results" / ".tracked.json"
    path.parent.mkdir()
    if content == "a pipe":
        os.mkfifo(path)
    elif content == "a folder":
        path.mkdir()
    else:
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    assert pending_folders(tmp_path, local) == [path.parent]
    assert send_run(local, path.parent, None) is None
    [warned] = [record.getMessage() for record in caplog.records if record.name.startswith("shiftbench")]
    assert ".tracked.json" in warned and len(warned.splitlines()) == 1


def test_a_link_out_of_the_results_is_not_sent(local: Tracking, run: TrackedRun, client: MlflowClient) -> None:
    """Results from somebody else may hold a link to a private file of the user who sends them."""
    private = run.artifacts.parent / "private"
    private.mkdir()
    (private / "key").write_text("secret")
    (run.artifacts / "key").symlink_to(private / "key")
    (run.artifacts / "tables" / "keys").symlink_to(private)
    spool_run(run.artifacts, run)
    run_id = send_run(local, run.artifacts, None)
    assert run_id is not None
    kept = local.artifact_folder / run_id / "artifacts"
    names = sorted(path.relative_to(kept).as_posix() for path in kept.rglob("*") if path.is_file())
    assert names == ["report.html", "scores.json", "tables/table 2, ü.csv"]
