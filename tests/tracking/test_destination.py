"""Runs arrive complete in MLflow, in sqlite and on a server on loopback; nothing else is written or lost."""

from __future__ import annotations

import os
import shlex
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from hydra.utils import instantiate
from mlflow import MlflowClient
from omegaconf import OmegaConf

from shiftbench.contracts.result import Score
from shiftbench.errors import InputError
from shiftbench.tracking import OFF, TrackedRun, Tracking, select_metrics, without_secrets
from tests.tracking.recorded import artifact_names, assert_recorded, experiment_id
from tests.tracking.servers import free_port

pytestmark = pytest.mark.whole

CONF = Path(__file__).parents[2] / "conf" / "tracking"


# sqlite


def test_a_run_is_recorded_in_sqlite_and_nothing_else_is_touched(
    here: Path, run: TrackedRun, capfd: pytest.CaptureFixture[str]
) -> None:
    tracking = Tracking(None, "shiftbench")
    tracking.check()
    first, second = tracking.record(run), tracking.record(run)
    assert first and second and first != second
    client = MlflowClient(tracking_uri=f"sqlite:///{here}/shiftbench-runs/mlflow.db")
    for run_id in (first, second):
        assert_recorded(client.get_run(run_id), run, client)
    assert sorted(path.name for path in here.iterdir()) == ["shiftbench-runs"]
    assert sorted(path.name for path in (here / "shiftbench-runs").iterdir()) == ["mlflow-artifacts", "mlflow.db"]
    assert capfd.readouterr() == ("", "")


def test_the_first_run_creates_the_database_without_output(tmp_path: Path, run: TrackedRun) -> None:
    """Runs in a new process, in which nothing has imported mlflow or set its environment variables."""
    code = f"""
import sys
from pathlib import Path
from shiftbench.tracking import TrackedRun, Tracking
assert "mlflow" not in sys.modules
tracking = Tracking(None, "shiftbench")
tracking.check()
print(tracking.record(TrackedRun("demo", {{}}, {{}}, {{}}, Path({str(run.artifacts)!r}), None)))
"""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    client = MlflowClient(tracking_uri=f"sqlite:///{folder}/shiftbench-runs/mlflow.db")
    assert client.get_run(done.stdout.strip()).info.status == "FINISHED"
    assert [path.name for path in folder.iterdir()] == ["shiftbench-runs"]


def test_a_child_is_shown_under_its_parent(here: Path, run: TrackedRun) -> None:
    tracking = Tracking(None, "shiftbench")
    parent = tracking.record(run)
    child = tracking.record(TrackedRun("child", {}, {}, {}, run.artifacts, parent))
    client = MlflowClient(tracking_uri=tracking.address)
    found = client.search_runs([experiment_id(client)], f"tags.mlflow.parentRunId = '{parent}'")
    assert [item.info.run_id for item in found] == [child]


def test_odd_names_and_long_values_arrive(here: Path, run: TrackedRun) -> None:
    names = ["a+b", "a*b", "a/../b", "..", "", "x" * 400, "größe \U0001f600", "50% of p<0.05 [n=3]"]
    odd = TrackedRun(
        name="odd \udcff \U0001f600",
        params={name: "v" * 9000 for name in names},
        tags={name: name for name in [*names, *(f"tag {i}" for i in range(230))]},
        metrics={name: float(i) for i, name in enumerate(names)},
        artifacts=run.artifacts,
        parent=None,
    )
    tracking = Tracking(None, "shiftbench")
    run_id = tracking.record(odd)
    assert run_id
    found = MlflowClient(tracking_uri=tracking.address).get_run(run_id)
    assert sorted(found.data.metrics.values()) == [float(i) for i in range(len(names))]
    assert {"a_b", "a_b_2", "größe _"} <= found.data.metrics.keys()
    assert len(found.data.params) == len(names)
    assert all(value.endswith(" [cut]") for value in found.data.params.values())
    assert {f"tag {i}" for i in range(230)} <= found.data.tags.keys()


def test_a_run_that_could_not_be_completed_is_marked_failed(
    here: Path, run: TrackedRun, caplog: pytest.LogCaptureFixture
) -> None:
    tracking = Tracking(None, "shiftbench")
    tracking.check()
    artifacts = here / "shiftbench-runs" / "mlflow-artifacts"
    artifacts.rmdir()
    artifacts.write_text("in the way")
    assert tracking.record(run) is None
    assert "run demo was not recorded" in caplog.text and str(run.artifacts) in caplog.text
    client = MlflowClient(tracking_uri=tracking.address)
    found = client.search_runs([experiment_id(client)])
    assert [item.info.status for item in found] == ["FAILED"]


def test_a_database_in_the_results_folder_is_not_sent_as_an_artifact(here: Path, run: TrackedRun) -> None:
    tracking = Tracking(None, "shiftbench")
    runs = here / "shiftbench-runs"
    for name in ("scores.json", "report.html", "tables"):
        (run.artifacts / name).rename(runs / name)
    client = MlflowClient(tracking_uri=tracking.address)
    for _ in range(2):
        run_id = tracking.record(TrackedRun("demo", {}, {}, {}, runs, None))
        assert run_id and artifact_names(client, run_id) == {"scores.json", "report.html", "tables/table 2, ü.csv"}
    run_id = tracking.record(TrackedRun("demo", {}, {}, {}, runs, None, only=("scores.json", "tables")))
    assert run_id and artifact_names(client, run_id) == {"scores.json", "tables/table 2, ü.csv"}


def test_a_relative_sqlite_path_is_made_absolute(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracking = Tracking("sqlite:///kept/runs.db", "shiftbench")
    assert tracking.address == f"sqlite:///{here}/kept/runs.db"
    assert tracking.artifact_folder == here / "kept" / "mlflow-artifacts"
    monkeypatch.chdir("/")
    assert tracking.address == f"sqlite:///{here}/kept/runs.db"


def test_a_database_that_was_moved_is_a_warning(here: Path, run: TrackedRun, caplog: pytest.LogCaptureFixture) -> None:
    Tracking(None, "shiftbench").check()
    moved = here.parent / "moved"
    (here / "shiftbench-runs").rename(moved)
    Tracking(f"sqlite:///{moved}/mlflow.db", "shiftbench").check()
    assert "keeps artifacts in" in caplog.text and "was it moved?" in caplog.text


def test_a_deleted_experiment_is_refused_before_work(here: Path) -> None:
    tracking = Tracking(None, "shiftbench")
    tracking.check()
    client = MlflowClient(tracking_uri=tracking.address)
    client.delete_experiment(experiment_id(client))
    with pytest.raises(InputError, match=r"experiment 'shiftbench' was deleted.*tracking\.experiment=NAME"):
        tracking.check()


@pytest.mark.parametrize(
    "uri",
    [
        *("file:///tmp/x", "./mlruns", "mlruns", "", "ftp://h/x", "sqlite://", "sqlite:///:memory:"),
        *("http://[x", "http://h:99999", "http://h:port"),
    ],
)
def test_a_uri_that_mlflow_cannot_write_to_is_refused(here: Path, uri: str) -> None:
    with pytest.raises(InputError, match=r"tracking\.uri="):
        Tracking(uri, "shiftbench").check()
    assert sorted(path.name for path in here.iterdir()) == ["shiftbench-runs"]


def test_a_path_that_mlflow_would_misread_is_refused(here: Path) -> None:
    with pytest.raises(InputError, match=r"% or \?"):
        Tracking("sqlite:///50%41/x.db", "shiftbench").check()


def test_a_local_database_that_cannot_be_written_is_refused_without_retries(here: Path) -> None:
    (here / "file").write_text("not a folder")
    for uri in ("sqlite:///file/x.db", "sqlite:///file", "sqlite:////proc/none/x.db"):
        began = time.monotonic()
        with pytest.raises(InputError, match=r"tracking\.uri=sqlite:///.*choose another"):
            Tracking(uri, "shiftbench").check()
        assert time.monotonic() - began < 30  # MLflow without our check retries for more than a minute


@pytest.mark.parametrize(
    ("revision", "expected"),
    [("ffffffffffff", "made by a newer MLflow than .* install that MLflow"), ("0a8213491aaa", "mlflow db upgrade")],
)
def test_a_database_of_another_schema_is_refused(here: Path, revision: str, expected: str) -> None:
    with closing(sqlite3.connect(here / "shiftbench-runs" / "mlflow.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = ?", [revision])
    with pytest.raises(InputError, match=f"tracking.uri=sqlite:///.*{expected}.*choose another"):
        Tracking(None, "shiftbench").check()


def test_a_password_in_a_servers_address_is_refused_and_not_shown(here: Path) -> None:
    with pytest.raises(InputError, match="MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD") as raised:
        Tracking("http://user:tell-nobody@127.0.0.1:5000", "shiftbench").check()
    assert "tell-nobody" not in str(raised.value)


@pytest.mark.parametrize(
    "uri", ["http://me:tell/nobody@host", "http://me:tell#nobody@host", "http://me:tell\u2100@host"]
)
def test_the_refusal_of_an_address_quotes_no_part_of_its_password(here: Path, uri: str) -> None:
    with pytest.raises(InputError, match=r"http://me:\*\*\*@\w+' is no URI: give") as raised:
        Tracking(uri, "shiftbench").check()
    assert "tell" not in str(raised.value)


# No tracking


def test_the_config_files_build_the_destinations_that_they_name(here: Path, run: TrackedRun) -> None:
    off = instantiate(OmegaConf.load(CONF / "none.yaml"))
    off.check()
    assert off == Tracking(OFF, "shiftbench") and off.record(run) is None and off.ui_command() == ""
    on = instantiate(OmegaConf.load(CONF / "mlflow.yaml"))
    assert on == Tracking(None, "shiftbench")
    assert shlex.split(on.ui_command())[1:] == ["ui", "--backend-store-uri", on.address]
    assert on.address == f"sqlite:///{here}/shiftbench-runs/mlflow.db"


# A server


def test_a_run_is_recorded_on_a_server(
    here: Path, run: TrackedRun, server: str, capfd: pytest.CaptureFixture[str]
) -> None:
    tracking = Tracking(server, "shiftbench")
    tracking.check()
    run_id = tracking.record(run)
    assert run_id
    client = MlflowClient(tracking_uri=server)
    assert_recorded(client.get_run(run_id), run, client)
    assert tracking.ui_command() == server
    assert sorted(path.name for path in here.iterdir()) == ["shiftbench-runs"]
    assert not (here / "shiftbench-runs" / "mlflow-artifacts").exists()
    assert capfd.readouterr() == ("", "")


def test_a_dead_server_is_a_warning_and_nothing_is_lost(
    here: Path, run: TrackedRun, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    before = sorted(run.artifacts.rglob("*"))
    port = free_port()
    tracking = Tracking(f"http://127.0.0.1:{port}", "shiftbench")
    tracking.check()
    assert tracking.record(run) is None
    expected = [record.getMessage() for record in caplog.records if record.name.startswith("shiftbench.tracking")]
    assert len(expected) == 2 and all(f"127.0.0.1:{port}" in line for line in expected)
    assert "results are still written" in expected[0] and str(run.artifacts) in expected[1]
    assert capfd.readouterr().out == ""
    assert sorted(run.artifacts.rglob("*")) == before


# What is sent


def test_metrics_are_named_by_finding_and_score() -> None:
    scores = [Score("recognition", "recognition", 0.25, 0.125, 0.5, 1e-6, 60)]
    assert select_metrics(scores) == {
        "recognition.recognition.value": 0.25,
        "recognition.recognition.low": 0.125,
        "recognition.recognition.high": 0.5,
        "recognition.recognition.n": 60.0,
    }


def test_metrics_that_are_not_finite_are_left_out() -> None:
    scores = [Score("f", "s", 1.0, float("nan"), float("inf"), None, 0)]
    assert select_metrics(scores) == {"f.s.value": 1.0, "f.s.n": 0.0}
    assert select_metrics([]) == {}


def test_there_are_fewer_than_sixty_metrics_and_first_scores_come_first() -> None:
    sizes = {"recognition": 4, "verbs": 5, "rotation": 15}
    scores = [Score(f, f"s{i}", float(i), 0.0, 1.0, None, 9) for f, size in sizes.items() for i in range(size)]
    found = select_metrics(scores)
    assert len(found) < 60
    assert all(f"{score.finding}.{score.name}.value" in found for score in scores)
    assert all(f"{finding}.s0.{part}" in found for finding in sizes for part in ("low", "high", "n"))
    for score in scores:  # an interval is complete or absent
        assert sum(f"{score.finding}.{score.name}.{part}" in found for part in ("low", "high", "n")) in (0, 3)
    many = [Score("f", f"s{i}", float(i), 0.0, 1.0, None, 9) for i in range(500)]
    assert list(select_metrics(many)) == [f"f.s{i}.value" for i in range(59)]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://host:5000/x", "http://host:5000/x"),
        ("http://me:pw@host:5000", "http://me:***@host:5000"),
        ("at http://me:p@w@host:5000/a and http://h/@b", "at http://me:***@host:5000/a and http://h/@b"),
        ("postgresql+psycopg://me:p%40:w@host/db?sslmode=x", "postgresql+psycopg://me:***@host/db?sslmode=x"),
        ("postgresql://me:p/w@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:p#w?x@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:p@w/x@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:p://w:@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me@cloud:pw@host/db", "postgresql://me@cloud:***@host/db"),
        ("postgresql://:p/w@host/db", "postgresql://:***@host/db"),
        ("uri: postgresql://me:p/w@host/db\nout: /a@b", "uri: postgresql://me:***@host/db\nout: /a@b"),
        ("tracking.uri='mssql+pyodbc://me:p/w@host/db'", "tracking.uri='mssql+pyodbc://me:***@host/db'"),
        ("http://me@host:5000/a and http://host:5000/b", "http://me@host:5000/a and http://host:5000/b"),
        ("uri='mysql://h/db?password=p'w' x=1", "uri='mysql://h/db?password=***' x=1"),
        ("mysql://h/db?token=&password=pw\n", "mysql://h/db?token=***&password=***\n"),
        ("mysql://h/db?user=me&password=pw&x=1", "mysql://h/db?user=me&password=***&x=1"),
        ("sqlite:////home/me@here:1/mlflow.db", "sqlite:////home/me@here:1/mlflow.db"),
    ],
)
def test_secrets_are_hidden(text: str, shown: str) -> None:
    assert without_secrets(text) == shown
