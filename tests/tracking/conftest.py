"""Fixtures: databases to record in, a folder of results, and real MLflow servers on loopback."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from shiftbench.tracking import TrackedRun, Tracking
from tests.tracking.postgres import Postgres, postgres, programs
from tests.tracking.servers import MlflowServer, with_users


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sqlite file with MLflow's tables and no runs. Tests copy it, because creating the tables takes seconds."""
    path = tmp_path_factory.mktemp("empty") / "mlflow.db"
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    MlflowClient(tracking_uri=f"sqlite:///{path}")
    return path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_database: Path) -> Path:
    """The current folder, with an empty database at the default path.

    The environment names another run, experiment and server, which no test may use.
    """
    folder = tmp_path / "a place with spaces, # and ü"
    (folder / "shiftbench-runs").mkdir(parents=True)
    shutil.copy(empty_database, folder / "shiftbench-runs" / "mlflow.db")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "another experiment")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    return folder


@pytest.fixture
def local(here: Path) -> Tracking:
    """The default destination, a sqlite file below the current folder."""
    return Tracking(None, "shiftbench")


@pytest.fixture
def client(local: Tracking) -> MlflowClient:
    """MLflow's client of `local`."""
    return MlflowClient(tracking_uri=local.address)


@pytest.fixture
def run(tmp_path: Path) -> TrackedRun:
    """A run with a folder of results like those that a job writes."""
    folder = tmp_path / "results"
    (folder / "tables").mkdir(parents=True)
    (folder / "scores.json").write_text('{"schema": "shiftbench/scores/1"}')
    (folder / "report.html").write_text("<p>ü</p>" * 1000)
    (folder / "tables" / "table 2, ü.csv").write_text("a,b\n")
    (folder / ".part-left-behind").mkdir()
    (folder / ".part-left-behind" / "scores.json").write_text("half")
    metrics = {"recognition.recognition.value": 0.25, "recognition.recognition.n": 60.0}
    return TrackedRun("demo", {"dataset": "self_instruct"}, {"base": "b", "empty": ""}, metrics, folder, None)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Iterator[str]:
    """The address of a real `mlflow server` with a sqlite database and without user accounts."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(empty_database, folder / "mlflow.db")
    running = MlflowServer(folder, f"sqlite:///{folder}/mlflow.db").start()
    yield running.address
    running.kill()


@pytest.fixture(scope="session")
def databases() -> Iterator[Postgres]:
    """A PostgreSQL server on loopback. Skips the test where it, or what MLflow needs for it, is not installed."""
    folder = programs()
    if folder is None:
        pytest.skip("PostgreSQL is not installed: make test-server installs it")
    pytest.importorskip("psycopg2", reason="needs the extra 'server'")
    pytest.importorskip("flask_wtf", reason="needs the extra 'server'")
    with postgres(folder) as running:
        yield running


@pytest.fixture(scope="module")
def team(databases: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """An MLflow server on PostgreSQL with user accounts, which keeps artifacts itself; it is not running yet."""
    server = with_users(tmp_path_factory.mktemp("team"), databases)
    yield server
    server.kill()


@pytest.fixture
def guarded(team: MlflowServer) -> MlflowServer:
    """The server `team`, running."""
    return team if team.process is not None else team.start()
