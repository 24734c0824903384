"""A run goes to MLflow: into a new one, or into one that an earlier sender left half done."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shiftbench.tracking.artifacts import Artifacts
from shiftbench.tracking.tracked import RESULT, TrackedRun, files_of

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

BATCH, KEY_LENGTH, VALUE_LENGTH = 100, 250, 5000  # MLflow's limits; it cuts longer values with no error


def new_run(client: MlflowClient, files: Artifacts, experiment: str, run: TrackedRun, own: set[Path]) -> str:
    """The id of a new run with all that `run` has. A run that breaks half way stays, marked FAILED."""
    made = client.create_run(experiment, run_name=short(run.name), tags=_under(run.parent))
    _complete(client, files, str(made.info.run_id), run, own, int(time.time() * 1000))
    return str(made.info.run_id)


def only_run(
    client: MlflowClient, files: Artifacts, experiment: str, run: TrackedRun, own: set[Path], result: str, when: int
) -> str:
    """The id of the one finished run of a result, whatever earlier senders came to.

    result: the id that these results carry; when: milliseconds since 1970 at which they were written.
    An unfinished run is completed rather than replaced: who may write to an experiment may not always delete from it,
    and everything sent is the same each time, so sending a part again changes nothing.
    """
    tags = {RESULT: result, **_under(run.parent)}
    found = _runs_of(client, experiment, result)
    finished = [item for item in found if item.info.status == "FINISHED"]
    if finished:
        return str(finished[0].info.run_id)
    started = found[0] if found else client.create_run(experiment, when, tags, short(run.name))
    run_id = str(started.info.run_id)
    for name, value in tags.items():
        if started.data.tags.get(name) != value:
            client.set_tag(run_id, name, value)
    _complete(client, files, run_id, run, own, when)
    for other in found[1:]:  # a request that was repeated while the server went down
        client.set_terminated(other.info.run_id, "KILLED")
    return run_id


def short(text: str) -> str:
    """A value that MLflow takes whole; one that is cut says so."""
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= VALUE_LENGTH else text[: VALUE_LENGTH - 6] + " [cut]"


def _runs_of(client: MlflowClient, experiment: str, result: str) -> list[Run]:
    found = client.search_runs([experiment], f"tags.`{RESULT}` = '{result}'", order_by=["attributes.start_time ASC"])
    return list(found)


def _under(parent: str | None) -> dict[str, str]:
    return {"mlflow.parentRunId": parent} if parent else {}


def _complete(client: MlflowClient, files: Artifacts, run_id: str, run: TrackedRun, own: set[Path], when: int) -> None:
    try:
        _log_values(client, run_id, run, when)
        for path in files_of(run, own):
            folder = path.parent.relative_to(run.artifacts).as_posix()
            files.write(run_id, path, None if folder == "." else folder)
        client.set_terminated(run_id, "FINISHED", when)
    except BaseException:
        with suppress(Exception):  # the first reason is the one to tell
            client.set_terminated(run_id, "FAILED")
        raise


def _log_values(client: MlflowClient, run_id: str, run: TrackedRun, when: int) -> None:
    from mlflow.entities import Metric, Param, RunTag

    client.log_batch(run_id, metrics=[Metric(k, v, when, 0) for k, v in _keyed(run.metrics)])
    for params in _batches([Param(k, short(v)) for k, v in _keyed(run.params)]):
        client.log_batch(run_id, params=params)
    for tags in _batches([RunTag(k, short(v)) for k, v in _keyed(run.tags)]):
        client.log_batch(run_id, tags=tags)


def _keyed(named: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Values under names that MLflow takes; names that become the same are numbered."""
    taken: set[str] = set()
    for name, value in named.items():
        plain = re.sub(r"[^\w. -]", "_", name)[: KEY_LENGTH - 5].strip(". ") or "_"
        key, number = plain, 2
        while key in taken:
            key, number = f"{plain}_{number}", number + 1
        taken.add(key)
        yield key, value


def _batches(items: list[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(items), BATCH):
        yield items[start : start + BATCH]
