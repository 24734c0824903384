"""Writing a run into MLflow: into a new MLflow run, or into one that an earlier sender left incomplete."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shiftbench.tracking.artifacts import Artifacts
from shiftbench.tracking.tracked import DESCRIPTION, RESULT, TrackedRun, files_to_send

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

# Within MLflow's limits. MAX_BATCH: params or tags in one request (all metrics are sent in one). MAX_NAME: characters
# of the name of a metric, param or tag. MAX_VALUE: characters of the value of a param or tag, and of a run's name.
MAX_BATCH, MAX_NAME, MAX_VALUE = 100, 250, 5000


def send_new_run(
    client: MlflowClient, files: Artifacts, experiment: str, run: TrackedRun, mlflow_paths: set[Path]
) -> str:
    """Write `run` into a new MLflow run of an experiment, and return the id of the MLflow run.

    experiment: the id of the experiment. mlflow_paths: files and folders that are not sent, because MLflow itself keeps
    them. Where writing fails, the error is raised, and the incomplete MLflow run stays, with the status FAILED if this
    can still be set.
    """
    created = client.create_run(experiment, run.started_ms, _parent_tag(run.parent), shorten(run.name))
    _write_run(client, files, created, run, mlflow_paths, int(time.time() * 1000))
    return str(created.info.run_id)


def send_once(
    client: MlflowClient,
    files: Artifacts,
    experiment: str,
    run: TrackedRun,
    mlflow_paths: set[Path],
    result: str,
    time_ms: int,
    before_sending: Callable[[str], None],
) -> str:
    """The id of the one finished MLflow run of a result, which is written now unless an earlier sender has finished it.

    experiment: the id of the experiment. mlflow_paths: files and folders that are not sent, because MLflow itself keeps
    them. result: the id of the results, which the MLflow run has as its tag `shiftbench.result`. time_ms: when the
    results were written, in milliseconds since 1970; the MLflow run gets it as its end, and as its start where
    run.started_ms is None. before_sending: called with the id of the MLflow run before the first file is sent, and also
    where an earlier sender has finished that run and nothing is sent.

    An unfinished MLflow run of the result is completed and not replaced, because a user who may write to an experiment
    may not be allowed to delete from it. Each attempt sends the same content, so sending a part again changes nothing.
    Where there are several unfinished ones, the one with the earliest start is completed, and after that the others get
    the status KILLED. Where writing fails, the error is raised, and the MLflow run stays, with the status FAILED if
    this can still be set.
    """
    tags = {RESULT: result, **_parent_tag(run.parent)}
    found = _find_runs(client, experiment, result)
    finished = [item for item in found if item.info.status == "FINISHED"]
    if finished:
        before_sending(str(finished[0].info.run_id))
        return str(finished[0].info.run_id)
    began = time_ms if run.started_ms is None else run.started_ms
    started = found[0] if found else client.create_run(experiment, began, tags, shorten(run.name))
    run_id = str(started.info.run_id)
    for name, value in tags.items():
        if started.data.tags.get(name) != value:
            client.set_tag(run_id, name, value)
    before_sending(run_id)
    _write_run(client, files, started, run, mlflow_paths, time_ms)
    for other in found[1:]:  # a second run can exist where a request was repeated while the server went down
        client.set_terminated(other.info.run_id, "KILLED")
    return run_id


def shorten(text: str) -> str:
    """The text, cut to MAX_VALUE characters, which MLflow stores whole; a text that was cut ends in " [cut]".

    Without this, MLflow would cut a longer value without a mark in it. A character that UTF-8 cannot encode is replaced
    by "?".
    """
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= MAX_VALUE else text[: MAX_VALUE - 6] + " [cut]"


def _find_runs(client: MlflowClient, experiment: str, result: str) -> list[Run]:
    found = client.search_runs([experiment], f"tags.`{RESULT}` = '{result}'", order_by=["attributes.start_time ASC"])
    return list(found)


def _parent_tag(parent: str | None) -> dict[str, str]:
    return {"mlflow.parentRunId": parent} if parent else {}


def _write_run(
    client: MlflowClient, files: Artifacts, started: Run, run: TrackedRun, mlflow_paths: set[Path], time_ms: int
) -> None:
    run_id = str(started.info.run_id)
    try:
        _log_values(client, started, run, time_ms)
        for path in files_to_send(run, mlflow_paths):
            folder = path.parent.relative_to(run.artifacts).as_posix()
            files.write(run_id, path, None if folder == "." else folder)
        client.set_terminated(run_id, "FINISHED", time_ms)
    except BaseException:
        with suppress(Exception):  # the first error is the one to raise
            client.set_terminated(run_id, "FAILED")
        raise


def _log_values(client: MlflowClient, started: Run, run: TrackedRun, time_ms: int) -> None:
    from mlflow.entities import Metric, Param, RunTag

    run_id, texts = str(started.info.run_id), dict(run.tags)
    if DESCRIPTION in texts:
        page = f"#/experiments/{started.info.experiment_id}/runs/{run_id}"
        texts[DESCRIPTION] = _with_links(texts[DESCRIPTION], f"{page}/artifacts/")
    client.log_batch(run_id, metrics=[Metric(k, v, time_ms, 0) for k, v in _valid_names(run.metrics)])
    for params in _batches([Param(k, shorten(v)) for k, v in _valid_names(run.params)]):
        client.log_batch(run_id, params=params)
    for tags in _batches([RunTag(k, shorten(v)) for k, v in _valid_names(texts)]):
        client.log_batch(run_id, tags=tags)


def _with_links(markdown: str, files: str) -> str:
    """The text, with each link to the name of a file changed to a link to this file on MLflow's page.

    files: the address that is put directly in front of a name; it ends in "/". A name of a file has only letters,
    digits, "_", "-" and "."; a link to anything else, as with a scheme, a slash or a "#" in it, stays as it is.
    """
    return re.sub(r"\]\(([\w.-]+)\)", rf"]({files}\1)", markdown)


def _valid_names(named: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The (name, value) items of `named`, in order, with each name changed to one that MLflow accepts.

    A character other than a letter, a digit, a space, "_", "." and "-" becomes "_". A long name is cut, and spaces and
    dots at both ends are removed; a name of which nothing is left becomes "_". Of names that thereby become equal, the
    second ends in "_2", the third in "_3", and so on; an ending that gives a taken name is skipped.
    """
    taken: set[str] = set()
    for name, value in named.items():
        base = re.sub(r"[^\w. -]", "_", name)[: MAX_NAME - 5].strip(". ") or "_"
        valid, number = base, 2
        while valid in taken:
            valid, number = f"{base}_{number}", number + 1
        taken.add(valid)
        yield valid, value


def _batches(items: list[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(items), MAX_BATCH):
        yield items[start : start + MAX_BATCH]
