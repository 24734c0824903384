"""Finding runs again in MLflow, and reading the files and metrics that were recorded with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import requests

from shiftbench.errors import InputError
from shiftbench.tracking.address import OFF, describe, without_secrets
from shiftbench.tracking.destination import Tracking
from shiftbench.tracking.diagnosis import cause_of, diagnose
from shiftbench.tracking.tracked import KIND, PAIR
from shiftbench.tracking.transport import TooSlow

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

PAGE_SIZE = 1000  # runs that one request asks for
MAX_PAGES = 1000  # requests after which a list of runs counts as endless
SCORES = 4 * 2**20  # bytes; the default limit of `read_artifact`; a scores.json usually has about 30 kB
LATEST_MS = 253_402_300_799_999  # milliseconds since 1970, at the end of the year 9999


@dataclass(frozen=True)
class FoundRun:
    """The run of one pair as MLflow lists it.

    run_id: MLflow's id of the run. pair: the pair's name, from the run's tag `pair`. started_ms: when the work
    began, in milliseconds since 1970; -1 where MLflow gives no usable time. status: MLflow's status of the run,
    which is FINISHED where the run was sent completely. tags: all tags of the run.
    """

    run_id: str
    pair: str
    started_ms: int
    status: str
    tags: Mapping[str, str]


def find_runs(tracking: Tracking) -> list[FoundRun]:
    """The runs of all pairs in the experiment, newest first, whatever their status; runs at the same time by id.

    Raises InputError where tracking is off, where the sqlite file or the experiment does not exist, and where the
    database or server cannot be reached or read.
    """
    where = f"tracking.uri={tracking.shown}"
    if tracking.address == OFF:
        raise InputError(
            "tracking.uri=none keeps no runs; name the database or server that has them with tracking.uri=URI"
        )
    if tracking.database and not tracking.database.is_file():
        raise InputError(
            f"{where}: there is no such file, so no run was tracked there; score a pair first (shiftbench score "
            f"pair=demo), or name the database or server that has runs with tracking.uri=URI"
        )
    try:
        client = tracking.client()
        experiment = client.get_experiment_by_name(tracking.experiment)
        runs = [] if experiment is None else _list_runs(client, experiment.experiment_id)
    except Exception as error:
        diagnosis = diagnose(error, tracking.shown, tracking.experiment)
        raise diagnosis or InputError(f"{where} cannot be read: {describe(error)}") from None
    if experiment is None:
        raise InputError(f"{where} has no experiment {tracking.experiment!r}; choose with tracking.experiment=NAME")
    return sorted(runs, key=lambda run: (-run.started_ms, run.run_id))


class NoAnswerInTime(LookupError):
    """A file could not be read because the server did not answer in time or at all, or sent the file too slowly."""


def read_artifact(tracking: Tracking, run_id: str, name: str, most: int = SCORES) -> bytes:
    """The content of the file of this name at the top of a run's files.

    most: the largest size that is read, in bytes. Raises LookupError, with the reason, where the file cannot be read;
    NoAnswerInTime, which is a LookupError, where the server was too slow or could not be reached.
    """
    try:
        return tracking.open_artifacts(tracking.client()).read(run_id, name, most)
    except Exception as error:
        unanswered = cause_of(error, TooSlow) or cause_of(error, requests.exceptions.ConnectionError)
        kind = NoAnswerInTime if unanswered else LookupError
        raise kind(f"{name} cannot be read: {describe(error)}") from None


def artifact(tracking: Tracking, run_id: str, name: str) -> bytes:
    """The content of the file `name`, of at most SCORES bytes, at the top of the files of a run that the user named.

    Raises InputError where tracking is off, where the sqlite file does not exist, and in every case in which
    `read_artifact` raises LookupError.
    """
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
    """The metrics, by name, of the at most `most` newest runs with KIND `kind` and these tags, oldest first.

    One dict for each run. Empty where nothing is tracked, where the experiment does not exist, and where the runs
    cannot be read: a missing history stops no command.
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


def _list_runs(client: MlflowClient, experiment_id: str) -> list[FoundRun]:
    runs: list[FoundRun] = []
    token: Any = None
    for _ in range(MAX_PAGES):
        page = client.search_runs([experiment_id], "tags.pair LIKE '%'", max_results=PAGE_SIZE, page_token=token)
        # The query is for runs with the tag `pair`. A server may answer with other runs all the same, so they are left
        # out here, and so are runs of another kind than PAIR. A run without the tag KIND counts as one of kind PAIR.
        runs += [_found_run(run) for run in page if PAIR in run.data.tags and run.data.tags.get(KIND, PAIR) == PAIR]
        token = page.token
        if not token:
            return runs
    raise ValueError(f"its list of runs has no end: each of {MAX_PAGES:,} pages announced another page")


def _found_run(run: Run) -> FoundRun:
    tags = {str(name): str(value) for name, value in run.data.tags.items()}
    started = run.info.start_time
    usable = isinstance(started, int) and 0 <= started <= LATEST_MS
    return FoundRun(str(run.info.run_id), tags[PAIR], started if usable else -1, str(run.info.status), tags)
