"""Reading back from MLflow what was recorded."""

from __future__ import annotations

from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run

from shiftbench.tracking import TrackedRun


def artifact_names(client: MlflowClient, run_id: str, folder: str = "") -> set[str]:
    """The paths of a run's artifacts below a folder, relative to the run's files."""
    found: set[str] = set()
    for item in client.list_artifacts(run_id, folder):
        found |= artifact_names(client, run_id, item.path) if item.is_dir else {item.path}
    return found


def experiment_id(client: MlflowClient) -> str:
    experiment = client.get_experiment_by_name("shiftbench")
    assert experiment is not None
    return str(experiment.experiment_id)


def search_runs(client: MlflowClient, query: str = "") -> list[Run]:
    """The runs of the experiment shiftbench that match a query of MLflow's."""
    return list(client.search_runs([experiment_id(client)], query))


def assert_recorded(found: Run, run: TrackedRun, client: MlflowClient) -> None:
    """Assert that MLflow's run `found` has all parameters, metrics, tags and files of `run`."""
    assert found.info.status == "FINISHED" and found.info.run_name == run.name
    assert found.data.params == run.params and found.data.metrics == run.metrics
    assert run.tags.items() <= found.data.tags.items()
    names = {str(path.relative_to(run.artifacts)) for path in run.artifacts.rglob("*") if path.is_file()}
    names = {name for name in names if not name.startswith(".")}
    assert "scores.json" in names and artifact_names(client, found.info.run_id) == names
    for name in names:
        copy = client.download_artifacts(found.info.run_id, name)
        assert Path(copy).read_bytes() == (run.artifacts / name).read_bytes()
