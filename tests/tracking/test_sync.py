"""`shiftbench sync` sends pending runs and prints a line for each; its exit code says whether all were sent."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient

from shiftbench import commands
from shiftbench.tracking import TrackedRun, Tracking, pending_folders, spool_run
from tests.tracking.recorded import assert_recorded, search_runs
from tests.tracking.servers import free_port


@pytest.fixture
def three_runs(here: Path, run: TrackedRun) -> list[TrackedRun]:
    """Results of three pairs below ./shiftbench-runs, spooled and not sent; one lies deeper than the others."""
    runs = []
    for name in ("a", "b <script>alert('b')</script>", "deeper/c, ü"):
        folder = here / "shiftbench-runs" / name.replace("</", "<")
        shutil.copytree(run.artifacts, folder)
        runs.append(replace(run, name=name, artifacts=folder))
        spool_run(folder, runs[-1])
    return runs


def sync(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """(exit code, standard output, standard error) of `shiftbench sync`."""
    capfd.readouterr()
    code = commands.main(["sync", *arguments])
    return code, *capfd.readouterr()


def test_sync_sends_all_pending_runs_once(three_runs: list[TrackedRun], capfd: pytest.CaptureFixture[str]) -> None:
    tracking = Tracking(None, "shiftbench")
    code, out, err = sync(capfd)
    assert (code, err) == (0, "")
    client = MlflowClient(tracking_uri=tracking.address)
    found = {run.info.run_name: run for run in search_runs(client)}
    for run in three_runs:
        assert_recorded(found[run.name], run, client)
        assert f"run {found[run.name].info.run_id}" in out
    assert out.splitlines()[-1] == f"sent 3 of 3 to {tracking.shown}" and len(out.splitlines()) == 4
    code, out, err = sync(capfd)
    assert (code, err) == (0, "") and out.startswith("nothing to send") and len(search_runs(client)) == 3


def test_a_folder_that_cannot_be_sent_stops_no_other(
    three_runs: list[TrackedRun], capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    (three_runs[0].artifacts / ".tracked.json").write_text('{"sent": 7}')
    code, out, _ = sync(capfd)
    assert code == 1 and "sent 2 of 3" in out and "/a were not sent" in caplog.text
    assert ".tracked.json there is damaged" in caplog.text
    root = Path("shiftbench-runs").absolute()
    assert pending_folders(root, Tracking(None, "shiftbench")) == [three_runs[0].artifacts]


@pytest.mark.long
def test_a_server_that_is_down_is_one_message(three_runs: list[TrackedRun], capfd: pytest.CaptureFixture[str]) -> None:
    code, out, err = sync(capfd, f"tracking.uri=http://127.0.0.1:{free_port()}", "root=shiftbench-runs")
    assert code == 1 and out == "" and len(err.splitlines()) == 1
    assert "refused" in err and err.strip().endswith("3 of 3 results wait")


@pytest.mark.long
def test_sync_sends_to_a_server(three_runs: list[TrackedRun], server: str, capfd: pytest.CaptureFixture[str]) -> None:
    code, out, _ = sync(
        capfd, f"tracking.uri={server}", "tracking.experiment=synced", f"root='{three_runs[0].artifacts}'"
    )
    assert code == 0 and "sent 1 of 1" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["root=nowhere"], "root=nowhere is no folder"),
        (["tracking=none"], "tracking=none names no place to send results to"),
        (["rot=x"], "there is no option 'rot'"),
        (["tracking.uri=ftp://h"], "is no place MLflow can write"),
        (["tracking.uri=http"], "is no place MLflow can write"),
        (["tracking.uri=postgresql"], "is no place MLflow can write"),
    ],
)
def test_bad_input_is_refused(
    here: Path, capfd: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    code, out, err = sync(capfd, *arguments)
    assert code == 2 and out == "" and message in err


def test_help_shows_its_options(capfd: pytest.CaptureFixture[str]) -> None:
    code, out, _ = sync(capfd, "--help")
    assert code == 0 and "root: shiftbench-runs" in out and "tracking.uri=URI" in out
