"""The run that a sweep's pairs are shown under: one a sweep, however often the sweep is started again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from shiftbench.tracking.sending import short
from shiftbench.tracking.tracked import KIND, SUITE, SWEEP

if TYPE_CHECKING:
    from mlflow import MlflowClient


def open_run(client: MlflowClient, experiment: str, name: str, tags: Mapping[str, str]) -> str:
    """The id of the sweep's run, running: the one with the same shiftbench.sweep among its tags, else a new one."""
    tags = {**{key: short(value) for key, value in tags.items()}, KIND: SUITE}
    run_id = find(client, experiment, tags[SWEEP]) if SWEEP in tags else None
    if run_id is None:
        return str(client.create_run(experiment, run_name=short(name), tags=tags).info.run_id)
    client.update_run(run_id, status="RUNNING")
    return run_id


def late_run(client: MlflowClient, experiment: str, name: str, sweep: str) -> str:
    """The id of the run of a sweep that is over, made where the server was down all the while."""
    run_id = find(client, experiment, sweep) or open_run(client, experiment, name, {SWEEP: sweep, "suite": name})
    if client.get_run(run_id).info.status == "RUNNING":
        client.set_terminated(run_id, "FINISHED")
    return run_id


def find(client: MlflowClient, experiment: str, sweep: str) -> str | None:
    """The id of a sweep's run, None where there is none yet."""
    wanted = f"tags.`{SWEEP}` = '{sweep}' and tags.`{KIND}` = '{SUITE}'"
    found = client.search_runs([experiment], wanted, order_by=["attributes.start_time ASC"], max_results=1)
    return str(found[0].info.run_id) if found else None
