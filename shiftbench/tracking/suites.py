"""The parent run that the pairs of a sweep are shown under in MLflow.

A sweep has one parent run for each of its suites, however often it is started again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from shiftbench.tracking.sending import shorten
from shiftbench.tracking.tracked import KIND, SUITE, SWEEP

if TYPE_CHECKING:
    from mlflow import MlflowClient


def open_run(client: MlflowClient, experiment: str, name: str, tags: Mapping[str, str]) -> str:
    """The id of a sweep's parent run, which gets the status RUNNING.

    It is the parent run whose tag shiftbench.sweep has the value that `tags` has for it. Where there is none, it is a
    new run with these tags and this name. experiment: the id of the experiment.
    """
    tags = {**{key: shorten(value) for key, value in tags.items()}, KIND: SUITE}
    run_id = find_run(client, experiment, tags[SWEEP]) if SWEEP in tags else None
    if run_id is None:
        return str(client.create_run(experiment, run_name=shorten(name), tags=tags).info.run_id)
    client.update_run(run_id, status="RUNNING")
    return run_id


def get_finished_run(client: MlflowClient, experiment: str, name: str, sweep: str) -> str:
    """The id of the parent run of a sweep that is over.

    A parent run that is still RUNNING becomes FINISHED; another status stays. Where the server did not answer during
    the whole sweep, there is no parent run yet, and it is created here. experiment: the id of the experiment. name: the
    name of the suite. sweep: the value of the tag shiftbench.sweep.
    """
    run_id = find_run(client, experiment, sweep) or open_run(client, experiment, name, {SWEEP: sweep, "suite": name})
    if client.get_run(run_id).info.status == "RUNNING":
        client.set_terminated(run_id, "FINISHED")
    return run_id


def find_run(client: MlflowClient, experiment: str, sweep: str) -> str | None:
    """The id of the oldest parent run whose tag shiftbench.sweep is `sweep`; None where there is none yet."""
    query = f"tags.`{SWEEP}` = '{sweep}' and tags.`{KIND}` = '{SUITE}'"
    found = client.search_runs([experiment], query, order_by=["attributes.start_time ASC"], max_results=1)
    return str(found[0].info.run_id) if found else None
