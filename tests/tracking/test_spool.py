"""What a job leaves beside its results reaches MLflow exactly once, whoever sends it and however often."""

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

from shiftbench.tracking import KIND, OFF, RESULT, SUITE, SWEEP, TrackedRun, Tracking, leave, pending, send
from tests.tracking.recorded import assert_recorded, runs_of
from tests.tracking.servers import free_port

pytestmark = pytest.mark.whole

SENDER = """
import sys
from pathlib import Path
from shiftbench.tracking import Tracking, send
print(send(Tracking(sys.argv[1], "shiftbench"), Path(sys.argv[2]), None))
"""


def sender(tracking: Tracking, folder: Path) -> subprocess.Popen[str]:
    """Another process that sends the same folder."""
    command = [sys.executable, "-c", SENDER, tracking.address, str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def left(folder: Path) -> dict:
    return json.loads((folder / ".tracked.json").read_text())


@pytest.fixture
def here_is(here: Path) -> Tracking:
    return Tracking(None, "shiftbench")


@pytest.fixture
def client(here_is: Tracking) -> MlflowClient:
    return MlflowClient(tracking_uri=here_is.address)


def test_what_is_left_is_sent_once(here_is: Tracking, run: TrackedRun, client: MlflowClient) -> None:
    folder = run.artifacts
    leave(folder, run)
    assert pending(folder.parent, here_is) == [folder]
    first = send(here_is, folder, None)
    assert first and pending(folder.parent, here_is) == []
    assert send(here_is, folder, None) == first
    [found] = runs_of(client)
    assert_recorded(found, run, client)
    assert found.info.run_id == first and found.data.tags[RESULT] == left(folder)["result"]
    assert left(folder)["sent"] == [{"uri": here_is.shown, "experiment": "shiftbench", "run": first}]


def test_results_written_anew_are_another_run(here_is: Tracking, run: TrackedRun, client: MlflowClient) -> None:
    leave(run.artifacts, run)
    first = send(here_is, run.artifacts, None)
    leave(run.artifacts, run)
    assert pending(run.artifacts, here_is) == [run.artifacts]
    second = send(here_is, run.artifacts, None)
    assert second not in (None, first) and len(runs_of(client)) == 2


def test_a_run_whose_note_was_lost_is_only_noted(here_is: Tracking, run: TrackedRun, client: MlflowClient) -> None:
    """The sender was killed between MLflow's last answer and writing down that it was sent."""
    leave(run.artifacts, run)
    before = (run.artifacts / ".tracked.json").read_bytes()
    first = send(here_is, run.artifacts, None)
    (run.artifacts / ".tracked.json").write_bytes(before)
    assert send(here_is, run.artifacts, None) == first
    assert len(runs_of(client)) == 1 and pending(run.artifacts, here_is) == []


@pytest.mark.parametrize("status", ["RUNNING", "FAILED"])
def test_a_run_that_stayed_half_done_is_completed(
    here_is: Tracking, run: TrackedRun, client: MlflowClient, status: str
) -> None:
    """Twice the same request, as when a server went down over it: one of the two is completed, the other ends."""
    leave(run.artifacts, run)
    here_is.check()
    experiment = here_is.get_experiment(client).experiment_id
    half = [client.create_run(experiment, 1000 + i, {RESULT: left(run.artifacts)["result"]}) for i in range(2)]
    client.log_param(half[0].info.run_id, "dataset", "self_instruct")
    client.log_metric(half[0].info.run_id, "recognition.recognition.value", 0.25)
    if status == "FAILED":
        client.set_terminated(half[0].info.run_id, "FAILED")
    assert send(here_is, run.artifacts, None) == half[0].info.run_id
    found = {item.info.run_id: item for item in runs_of(client)}
    assert len(found) == 2 and found[half[1].info.run_id].info.status == "KILLED"
    completed = found[half[0].info.run_id]
    assert_recorded(completed, replace(run, name=completed.info.run_name), client)


def test_a_run_goes_to_a_second_place_too(here_is: Tracking, run: TrackedRun, tmp_path: Path) -> None:
    leave(run.artifacts, run)
    other = Tracking(None, "another experiment")
    assert send(here_is, run.artifacts, None) and pending(run.artifacts, other) == [run.artifacts]
    assert send(other, run.artifacts, None) and pending(run.artifacts, other) == []
    assert len(left(run.artifacts)["sent"]) == 2


def test_two_senders_at_once_make_one_run(here_is: Tracking, run: TrackedRun, client: MlflowClient) -> None:
    here_is.check()
    leave(run.artifacts, run)
    both = [sender(here_is, run.artifacts) for _ in range(2)]
    told = [process.communicate()[0].strip() for process in both]
    [found] = runs_of(client)
    assert told == [found.info.run_id] * 2
    assert_recorded(found, run, client)


def test_a_sender_killed_in_the_middle_leaves_one_run_in_the_end(
    here_is: Tracking, run: TrackedRun, client: MlflowClient
) -> None:
    here_is.check()
    for i in range(300):
        (run.artifacts / "tables" / f"{i}.csv").write_text(f"{i}\n" * 100)
    leave(run.artifacts, run)
    process = sender(here_is, run.artifacts)
    until = time.monotonic() + 60
    place = here_is.artifact_folder
    while time.monotonic() < until and len(list(place.rglob("tables/*.csv"))) < 20:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    [half] = runs_of(client)
    assert half.info.status == "RUNNING" and pending(run.artifacts, here_is) == [run.artifacts]
    assert send(here_is, run.artifacts, None) == half.info.run_id
    [found] = runs_of(client)
    assert_recorded(found, run, client)


def test_a_dead_server_leaves_it_pending(
    here: Path, run: TrackedRun, caplog: pytest.LogCaptureFixture, here_is: Tracking
) -> None:
    dead = Tracking(f"http://127.0.0.1:{free_port()}", "shiftbench")
    leave(run.artifacts, run)
    assert send(dead, run.artifacts, None) is None
    assert str(run.artifacts) in caplog.text and "`shiftbench sync` sends them later" in caplog.text
    assert pending(run.artifacts, dead) == [run.artifacts]
    assert send(here_is, run.artifacts, None)


def test_where_nothing_is_tracked_nothing_is_sent_but_it_could_be(here_is: Tracking, run: TrackedRun) -> None:
    leave(run.artifacts, run)
    assert send(Tracking(OFF, "shiftbench"), run.artifacts, None) is None
    assert pending(run.artifacts, here_is) == [run.artifacts]


def test_results_that_changed_since_are_not_sent_under_old_numbers(
    here_is: Tracking, run: TrackedRun, client: MlflowClient, caplog: pytest.LogCaptureFixture
) -> None:
    here_is.check()
    leave(run.artifacts, run)
    (run.artifacts / "scores.json").write_text("of a later job that was killed before it left anything")
    assert send(here_is, run.artifacts, None) is None
    assert "are not those that were left to be sent; score the pair again" in caplog.text
    assert runs_of(client) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_costs_no_results(
    here_is: Tracking, run: TrackedRun, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", small], capture_output=True).returncode:
        pytest.skip("no small file system can be mounted here")
    try:
        folder = small / "results"
        shutil.copytree(run.artifacts, folder)
        here = replace(run, artifacts=folder)
        leave(folder, here)
        before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name[0] != "."}
        with suppress(OSError), open(small / "filler", "wb", buffering=0) as filler:
            while True:
                filler.write(b"x" * 4096)
        leave(folder, here)
        assert "results in" in caplog.text and "are complete, but nothing could be left there" in caplog.text
        assert send(here_is, folder, None) is None and pending(folder, here_is) == []
        assert {path: path.read_bytes() for path in before} == before
        assert [path.name for path in folder.iterdir() if path.name.startswith(".tracked")] == []
        (small / "filler").unlink()
        leave(folder, here)
        assert send(here_is, folder, None)
    finally:
        subprocess.run(["umount", small], check=True)


def test_a_spoiled_file_is_told_and_stays_pending(
    here_is: Tracking, run: TrackedRun, caplog: pytest.LogCaptureFixture
) -> None:
    (run.artifacts / ".tracked.json").write_text("{")
    assert pending(run.artifacts, here_is) == [run.artifacts]
    assert send(here_is, run.artifacts, None) is None
    assert str(run.artifacts) in caplog.text


# Suites


def test_a_sweep_started_again_goes_on_under_its_own_run(
    here_is: Tracking, run: TrackedRun, client: MlflowClient
) -> None:
    tags = {SWEEP: "0123", "suite": "core"}
    parent = here_is.open_suite("core", tags)
    assert parent
    here_is.close_suite(parent, "FAILED")
    assert client.get_run(parent).info.status == "FAILED"
    assert here_is.open_suite("core", tags) == parent
    assert client.get_run(parent).info.status == "RUNNING"
    assert here_is.open_suite("core", {**tags, SWEEP: "4567"}) != parent
    leave(run.artifacts, run)
    child = send(here_is, run.artifacts, parent)
    here_is.close_suite(parent, "FINISHED")
    [found] = runs_of(client, f"tags.mlflow.parentRunId = '{parent}'")
    assert found.info.run_id == child
    assert client.get_run(parent).data.tags[KIND] == SUITE


def test_a_pair_sent_later_finds_or_makes_its_sweeps_run(
    here_is: Tracking, run: TrackedRun, client: MlflowClient, tmp_path: Path
) -> None:
    """The server was down when the sweep began, so that no job knows a parent."""
    swept = replace(run, tags={**run.tags, SWEEP: "89ab", "suite": "core"})
    leave(swept.artifacts, swept)
    first = send(here_is, swept.artifacts, None)
    leave(swept.artifacts, swept)
    second = send(here_is, swept.artifacts, None)
    [parent] = runs_of(client, f"tags.`{KIND}` = '{SUITE}'")
    assert parent.info.run_name == "core" and parent.data.tags[SWEEP] == "89ab"
    children = runs_of(client, f"tags.mlflow.parentRunId = '{parent.info.run_id}'")
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
def test_what_no_job_left_is_a_warning(
    content: object, here_is: Tracking, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "results" / ".tracked.json"
    path.parent.mkdir()
    if content == "a pipe":
        os.mkfifo(path)
    elif content == "a folder":
        path.mkdir()
    else:
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    assert pending(tmp_path, here_is) == [path.parent]
    assert send(here_is, path.parent, None) is None
    [warned] = [record.getMessage() for record in caplog.records if record.name.startswith("shiftbench")]
    assert ".tracked.json" in warned and len(warned.splitlines()) == 1


def test_a_link_out_of_the_results_is_not_sent(here_is: Tracking, run: TrackedRun, client: MlflowClient) -> None:
    """Results that somebody passed on may hold a link to a private file of whoever sends them."""
    private = run.artifacts.parent / "private"
    private.mkdir()
    (private / "key").write_text("secret")
    (run.artifacts / "key").symlink_to(private / "key")
    (run.artifacts / "tables" / "keys").symlink_to(private)
    leave(run.artifacts, run)
    run_id = send(here_is, run.artifacts, None)
    assert run_id is not None
    kept = here_is.artifact_folder / run_id / "artifacts"
    names = sorted(path.relative_to(kept).as_posix() for path in kept.rglob("*") if path.is_file())
    assert names == ["report.html", "scores.json", "tables/table 2, ü.csv"]
