"""What MLflow has of a run, read back."""

from __future__ import annotations

from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run

from shiftbench.tracking import TrackedRun


def files_of(client: MlflowClient, run_id: str, folder: str = "") -> set[str]:
    found: set[str] = set()
    for item in client.list_artifacts(run_id, folder):
        found |= files_of(client, run_id, item.path) if item.is_dir else {item.path}
    return found


def experiment_id(client: MlflowClient) -> str:
    experiment = client.get_experiment_by_name("shiftbench")
    assert experiment is not None
    return str(experiment.experiment_id)


def runs_of(client: MlflowClient, wanted: str = "") -> list[Run]:
    return list(client.search_runs([experiment_id(client)], wanted))


def assert_recorded(found: Run, run: TrackedRun, client: MlflowClient) -> None:
    assert found.info.status == "FINISHED" and found.info.run_name == run.name
    assert found.data.params == run.params and found.data.metrics == run.metrics
    assert run.tags.items() <= found.data.tags.items()
    names = {str(path.relative_to(run.artifacts)) for path in run.artifacts.rglob("*") if path.is_file()}
    names = {name for name in names if not name.startswith(".")}
    assert "scores.json" in names and files_of(client, found.info.run_id) == names
    for name in names:
        copy = client.download_artifacts(found.info.run_id, name)
        assert Path(copy).read_bytes() == (run.artifacts / name).read_bytes()
