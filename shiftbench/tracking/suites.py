"""The parent runs that the pairs of a sweep are shown under in MLflow, one for each suite.

A sweep has one parent run for each of its suites, however often it is started again. The run's name says what is swept
and on which day, in UTC, the parent run began, for example "sweep suite=core, 10 pairs, 2026-11-28".
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from shiftbench.tracking.sending import shorten
from shiftbench.tracking.tracked import KIND, SUITE, SWEEP

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


def open_run(client: MlflowClient, experiment: str, name: str, tags: Mapping[str, str]) -> str:
    """The id of a sweep's parent run, which gets the status RUNNING, and as its name `name` and the day it began.

    It is the oldest parent run whose tag shiftbench.sweep has the value that `tags` has for it. Where there is none, or
    `tags` lacks this tag, it is a new run with `tags` and the tag KIND, and begins now. The tags of a run that is found
    stay as they are. experiment: the id of the experiment.
    """
    tags = {**{key: shorten(value) for key, value in tags.items()}, KIND: SUITE}
    found = _find(client, experiment, tags[SWEEP]) if SWEEP in tags else None
    if found is None:
        now = int(time.time() * 1000)
        return str(client.create_run(experiment, now, tags, _dated(name, now)).info.run_id)
    run_id = str(found.info.run_id)
    client.update_run(run_id, "RUNNING", _dated(name, found.info.start_time))
    return run_id


def get_finished_run(client: MlflowClient, experiment: str, suite: str, sweep: str) -> str:
    """The id of the parent run of a sweep that is over.

    A parent run that is still RUNNING becomes FINISHED; another status stays. Where the server did not answer during
    the whole sweep, there is no parent run yet, and it is created here. experiment: the id of the experiment. suite:
    the name of the suite. sweep: the value of the tag shiftbench.sweep.
    """
    found = _find(client, experiment, sweep)
    if found is not None and found.info.status != "RUNNING":
        return str(found.info.run_id)
    if found is not None:
        run_id = str(found.info.run_id)
    else:
        run_id = open_run(client, experiment, f"sweep suite={suite}", {SWEEP: sweep, "suite": suite})
    client.set_terminated(run_id, "FINISHED")
    return run_id


def _find(client: MlflowClient, experiment: str, sweep: str) -> Run | None:
    """The oldest parent run whose tag shiftbench.sweep is `sweep`; None where there is none yet."""
    query = f"tags.`{SWEEP}` = '{sweep}' and tags.`{KIND}` = '{SUITE}'"
    found = client.search_runs([experiment], query, order_by=["attributes.start_time ASC"], max_results=1)
    return found[0] if found else None


def _dated(name: str, started_ms: int) -> str:
    """The name and the day, in UTC, as one text. started_ms: in milliseconds since 1970."""
    return shorten(f"{name}, {datetime.fromtimestamp(started_ms / 1000, timezone.utc):%Y-%m-%d}")
