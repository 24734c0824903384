"""An MLflow server as in docs/server.md, on PostgreSQL and with users, also where it is killed and started again."""

from __future__ import annotations

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
from mlflow.exceptions import MlflowException
from mlflow.server import get_app_client

from shiftbench.errors import InputError
from shiftbench.tracking import (
    KIND,
    PAIR,
    RESULT,
    SUITE,
    SWEEP,
    TrackedRun,
    Tracking,
    Unreachable,
    pending_folders,
    send_run,
    spool_run,
)
from tests.tracking.postgres import Postgres
from tests.tracking.recorded import assert_recorded, search_runs
from tests.tracking.servers import ADMIN, MlflowServer

pytestmark = pytest.mark.server
MEMBER = ("member", "member-only-for-tests")
PAIRS, TABLES = 6, 20
SWEEPER = """
import sys
from pathlib import Path
from shiftbench.tracking import SWEEP, Tracking, send_run
tracking = Tracking(sys.argv[1], "shiftbench")
tracking.check()
parent = tracking.open_suite("core", {SWEEP: "0123", "suite": "core"})
for folder in sorted(Path(sys.argv[2]).iterdir()):
    print(send_run(tracking, folder, parent), flush=True)
if parent:
    tracking.close_suite(parent, "FINISHED")
"""


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pause between MLflow's retries: these servers are down because they were killed."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_JITTER", "0.1")


def log_in(monkeypatch: pytest.MonkeyPatch, account: tuple[str, str]) -> None:
    """Set the environment's user name and password."""
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", account[0])
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", account[1])


@pytest.fixture
def member(guarded: MlflowServer, monkeypatch: pytest.MonkeyPatch) -> Tracking:
    """The server, used by an account without special rights; the administrator owns the experiment."""
    log_in(monkeypatch, ADMIN)
    tracking = Tracking(guarded.address, "shiftbench")
    tracking.check()
    users = get_app_client("basic-auth", guarded.address)
    with suppress(MlflowException):  # an earlier test has created this user
        users.create_user(*MEMBER)
    log_in(monkeypatch, MEMBER)
    return tracking


@pytest.fixture
def swept(run: TrackedRun, tmp_path: Path) -> list[TrackedRun]:
    """Results of the pairs of a sweep, spooled and not sent, each with tables and a figure of one MiB."""
    runs = []
    for i in range(PAIRS):
        folder = tmp_path / "swept" / f"pair {i}"
        shutil.copytree(run.artifacts, folder)
        for table in range(TABLES):
            (folder / "tables" / f"{table}.csv").write_text(f"{i},{table}\n" * 500)
        (folder / "figures").mkdir()
        (folder / "figures" / "heads.png").write_bytes(os.urandom(2**20))
        tags = {**run.tags, KIND: PAIR, SWEEP: "0123", "suite": "core"}
        runs.append(replace(run, name=f"pair {i}", tags=tags, artifacts=folder))
        spool_run(folder, runs[-1])
    return runs


def test_missing_credentials_are_refused_before_work(
    guarded: MlflowServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_PASSWORD", raising=False)
    tracking = Tracking(guarded.address, "shiftbench")
    with pytest.raises(InputError, match="asks for a user name: set MLFLOW_TRACKING_USERNAME"):
        tracking.check()
    command = [
        sys.executable,
        "-m",
        "shiftbench",
        "score",
        "pair=demo",
        "suite=demo",
        f"tracking.uri={guarded.address}",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and "asks for a user name" in done.stderr and len(done.stderr.splitlines()) == 1
    log_in(monkeypatch, ("admin", "tell-nobody-else"))
    with pytest.raises(InputError, match="refuses the user and password in MLFLOW_TRACKING_USERNAME") as raised:
        tracking.check()
    assert "tell-nobody" not in str(raised.value)


def test_a_user_who_may_not_write_is_refused_before_work(member: Tracking, monkeypatch: pytest.MonkeyPatch) -> None:
    member.check()
    log_in(monkeypatch, ADMIN)
    closed = Tracking(member.address, "closed")
    experiment = closed.get_experiment(closed.client()).experiment_id
    get_app_client("basic-auth", member.address).grant_user_permission(MEMBER[0], "experiment", experiment, "DENY")
    log_in(monkeypatch, MEMBER)
    with pytest.raises(InputError, match=r"user 'member' may not write to experiment 'closed' \(403\)"):
        closed.check()


def test_a_host_name_that_the_server_does_not_serve_is_refused(
    guarded: MlflowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_in(monkeypatch, ADMIN)
    guarded.kill()
    elsewhere = replace(guarded, options=(*guarded.options, "--allowed-hosts", "runs.example.org")).start()
    with pytest.raises(InputError, match="does not serve this host name"):
        Tracking(elsewhere.address, "shiftbench").check()
    elsewhere.kill()


def test_a_database_of_a_newer_mlflow_is_refused_directly_and_pending_through_its_server(
    guarded: MlflowServer, databases: Postgres, run: TrackedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_in(monkeypatch, ADMIN)
    guarded.kill()
    right = databases.sql("SELECT version_num FROM alembic_version", guarded.backend).strip()
    databases.sql("UPDATE alembic_version SET version_num = 'ffffffffffff'", guarded.backend)
    with pytest.raises(InputError, match=r"newer MLflow than .* install that MLflow") as raised:
        Tracking(guarded.backend, "shiftbench").check()
    assert "only-for-tests" not in str(raised.value)
    with pytest.raises(RuntimeError, match="found version ffffffffffff"):
        guarded.start()
    with pytest.raises(Unreachable):
        Tracking(guarded.address, "shiftbench").reach()
    spool_run(run.artifacts, run)
    assert send_run(Tracking(guarded.address, "shiftbench"), run.artifacts, None) is None
    assert pending_folders(run.artifacts, Tracking(guarded.address, "shiftbench")) == [run.artifacts]
    databases.sql(f"UPDATE alembic_version SET version_num = '{right}'", guarded.backend)


def wait_for(kept: Path, files: int) -> None:
    """Wait until the server has this number of files."""
    until = time.monotonic() + 120
    while sum(1 for path in kept.rglob("*") if path.is_file()) < files:
        assert time.monotonic() < until, f"{files} files did not arrive"
        time.sleep(0.01)


def started(*arguments: str) -> subprocess.Popen[str]:
    """A new Python process with these arguments."""
    command = [sys.executable, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_server_killed_twice_during_a_sweep_gets_each_result_once(
    guarded: MlflowServer, member: Tracking, swept: list[TrackedRun], tmp_path: Path
) -> None:
    """Killed during the sweep, and then during a sync, which is killed too. The user may delete nothing."""
    kept, each, root = guarded.folder / "kept", TABLES + 4, tmp_path / "swept"
    sweep = started("-c", SWEEPER, member.address, str(root))
    wait_for(kept, int(2.5 * each))
    guarded.kill()
    out, err = sweep.communicate(timeout=300)
    assert sweep.returncode == 0 and out.split()[2:] == ["None"] * 4 and "were not sent" in err
    assert all((folder.artifacts / "scores.json").exists() for folder in swept)
    assert len(pending_folders(root, member)) == 4

    guarded.start()
    arguments = ("-m", "shiftbench", "sync", f"root={root}", f"tracking.uri={member.address}")
    sync = started(*arguments)
    wait_for(kept, int(3.5 * each))
    os.kill(sync.pid, signal.SIGKILL)
    guarded.kill()
    sync.communicate()

    guarded.start()
    last = started(*arguments)
    out, err = last.communicate(timeout=300)
    assert last.returncode == 0, err
    client = MlflowClient(member.address)
    found = {item.info.run_name: item for item in search_runs(client, f"tags.`{KIND}` = '{PAIR}'")}
    everything = search_runs(client)
    assert len(everything) == PAIRS + 1 and all(item.info.status == "FINISHED" for item in everything)
    assert len({item.data.tags[RESULT] for item in found.values()}) == PAIRS
    [parent] = search_runs(client, f"tags.`{KIND}` = '{SUITE}'")
    for run in swept:
        assert found[run.name].data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert_recorded(found[run.name], run, client)
    assert pending_folders(root, member) == []
