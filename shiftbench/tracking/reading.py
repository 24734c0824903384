"""Runs found again: what MLflow knows of each pair's runs, and the files that a run left there."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shiftbench.errors import InputError
from shiftbench.tracking.address import OFF, reason, without_secrets
from shiftbench.tracking.place import Tracking
from shiftbench.tracking.refusal import refusal
from shiftbench.tracking.tracked import KIND, PAIR

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

PAGE = 1000  # runs that one request brings


@dataclass(frozen=True)
class FoundRun:
    """A pair's run as MLflow lists it.

    pair: the pair's name. started_ms: when it was recorded, since 1970. status: FINISHED where all of it was sent.
    """

    run_id: str
    pair: str
    started_ms: int
    status: str
    tags: Mapping[str, str]


def find_runs(tracking: Tracking) -> list[FoundRun]:
    """Every pair's run of the experiment, the newest first.

    Raises InputError where nothing was ever tracked, and where the place cannot be reached or read.
    """
    where = f"tracking.uri={tracking.shown}"
    if tracking.address == OFF:
        raise InputError("tracking.uri=none keeps no runs; name the place that has them with tracking.uri=URI")
    if tracking.database and not tracking.database.is_file():
        raise InputError(
            f"{where}: there is no such file, so no run was tracked there; score a pair first (shiftbench score "
            f"pair=demo), or name the place that has runs with tracking.uri=URI"
        )
    try:
        client = tracking.client()
        experiment = client.get_experiment_by_name(tracking.experiment)
        runs = [] if experiment is None else _all(client, experiment.experiment_id)
    except Exception as error:
        refused = refusal(error, tracking.shown, tracking.experiment)
        raise refused or InputError(f"{where} cannot be read: {reason(error)}") from None
    if experiment is None:
        raise InputError(f"{where} has no experiment {tracking.experiment!r}; choose with tracking.experiment=NAME")
    found = [_found(run) for run in runs if run.data.tags.get(KIND, PAIR) == PAIR]
    return sorted(found, key=lambda run: (-run.started_ms, run.run_id))


def read_artifact(tracking: Tracking, run_id: str, name: str) -> bytes:
    """The content of a file at the top of a run's folder. Raises LookupError, with the reason, where there is none."""
    with tempfile.TemporaryDirectory(prefix="shiftbench-artifact-") as folder:
        try:
            return Path(tracking.client().download_artifacts(run_id, name, folder)).read_bytes()
        except Exception as error:
            raise LookupError(f"{name} cannot be read: {reason(error)}") from None


def artifact(tracking: Tracking, run_id: str, name: str) -> bytes:
    """As read_artifact, for a run that a user named: InputError where the place, the run or its file is not there."""
    where = without_secrets(tracking.address)
    if tracking.address == OFF:
        raise InputError(f"run {run_id} is in MLflow, and tracking is off; give tracking.uri=URI")
    if tracking.database and not tracking.database.is_file():
        raise InputError(f"run {run_id}: there is no database {tracking.database}; give tracking.uri=URI")
    try:
        return read_artifact(tracking, run_id, name)
    except LookupError as error:
        raise InputError(f"run {run_id} of {where}: {error}") from None


def past_metrics(tracking: Tracking, kind: str, tags: Mapping[str, str], most: int) -> list[dict[str, float]]:
    """Metrics of the newest runs whose tag KIND is `kind` and that have these tags, oldest first.

    Empty where nothing is tracked or the place cannot be read: a history is no reason to stop.
    """
    if tracking.address == OFF:
        return []
    clauses = [f"tags.`{name}` = '{value}'" for name, value in {KIND: kind, **tags}.items()]
    try:
        client = tracking.client()
        experiment = client.get_experiment_by_name(tracking.experiment)
        if experiment is None:
            return []
        found = client.search_runs(
            [experiment.experiment_id], " and ".join(clauses), max_results=most, order_by=["attributes.start_time DESC"]
        )
    except Exception:
        return []
    return [dict(run.data.metrics) for run in reversed(found)]


def _all(client: MlflowClient, experiment_id: str) -> list[Run]:
    runs: list[Run] = []
    token: Any = None
    while True:
        page = client.search_runs([experiment_id], "tags.pair LIKE '%'", max_results=PAGE, page_token=token)
        runs += page
        token = page.token
        if not token:
            return runs


def _found(run: Run) -> FoundRun:
    tags = dict(run.data.tags)
    return FoundRun(run.info.run_id, tags["pair"], run.info.start_time, run.info.status, tags)
