"""Runs in MLflow: one per pair, few scalars, the run's folder as artifacts. The only file that imports mlflow.

Results on disk are the record and MLflow is a view of them: what cannot be sent is a warning, never a lost job.
Every call names its run, experiment and store, so MLFLOW_RUN_ID and MLFLOW_TRACKING_URI change nothing.
"""

from __future__ import annotations

import logging
import math
import os
import re
import shlex
import shutil
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from shiftbench.errors import InputError
from shiftbench.findings.result import Score

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

RUNS = "shiftbench-runs"
OFF = "none"
SQLITE = "sqlite:///"
SERVERS = {"http", "https", "databricks"}  # these keep artifacts themselves
DATABASES = {"sqlite", "postgresql", "mysql", "mssql"}
METRICS = 59  # MLflow's pages grow slow with the number of columns
BATCH, KEY_LENGTH, VALUE_LENGTH = 100, 250, 5000  # MLflow's limits; it cuts longer values with no error
PARTS = ("value", "low", "high", "n")
ENVIRONMENT = {  # defaults of ours; what the user set stays
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # the URL may hold a password
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # MLflow's own 7 wait for minutes on a server that is down
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrackedRun:
    """One run as MLflow gets it.

    artifacts: a folder, logged whole but for hidden files and MLflow's own; only: names at its top, all if empty.
    parent: id of the run that this one is shown under.
    """

    name: str
    params: Mapping[str, str]
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    artifacts: Path
    parent: str | None
    only: Sequence[str] = ()


@dataclass(frozen=True)
class Tracking:
    """A place that runs are recorded in.

    uri: None: sqlite in ./shiftbench-runs; sqlite:///PATH; a server's or another database's; 'none': nowhere.
    """

    uri: str | None
    experiment: str

    @cached_property
    def address(self) -> str:
        """The tracking URI, absolute; 'none' where nothing is tracked. Raises InputError for one MLflow cannot use."""
        if self.uri is None:
            return _sqlite_uri(_folder() / "mlflow.db")
        scheme = urlsplit(self.uri).scheme.split("+")[0] or self.uri
        if scheme not in {OFF, *SERVERS, *DATABASES}:
            raise InputError(
                f"tracking.uri={without_secrets(self.uri)!r} is no place MLflow can write: give sqlite:///PATH, "
                f"http://HOST:PORT, another database's URI, or none"
            )
        if scheme == "sqlite":
            path = self.uri.removeprefix(SQLITE)
            if path in ("", ":memory:", self.uri):
                raise InputError(f"tracking.uri={self.uri!r} names no file; give sqlite:///PATH")
            return _sqlite_uri(Path(path).expanduser().absolute())
        return self.uri

    @property
    def database(self) -> Path | None:
        """The sqlite file, None where runs go elsewhere."""
        return Path(self.address.removeprefix(SQLITE)) if self.address.startswith(SQLITE) else None

    @property
    def artifacts(self) -> Path | None:
        """The folder of artifacts, beside the sqlite file; None where a server keeps them."""
        if urlsplit(self.address).scheme.split("+")[0] not in DATABASES:
            return None
        return (self.database.parent if self.database else _folder()) / "mlflow-artifacts"

    def check(self) -> None:
        """Connect before long work. Raises InputError for a local place that cannot be written.

        A server that does not answer is a warning: it may be back when there is something to send.
        """
        if self.address == OFF:
            return
        try:
            _check_local(self.database, self.artifacts)
            experiment = self._experiment(self._client())
        except InputError:
            raise
        except Exception as error:
            reason = f"tracking.uri={without_secrets(self.address)}: {_reason(error)}"
            if self.database:
                raise InputError(f"{reason}; choose another with tracking.uri=URI, or tracking=none") from None
            log.warning("%s; results are still written to disk", reason)
            return
        if self.artifacts and experiment.artifact_location != self.artifacts.as_uri():
            log.warning("MLflow's experiment %r keeps artifacts in %s, not beside its database (was it moved?)",
                        self.experiment, without_secrets(experiment.artifact_location))  # fmt: skip

    def record(self, run: TrackedRun) -> str | None:
        """The id of the new run; None where tracking is off, or, with a warning, where not all of it could be sent.

        A run that broke half way stays, marked FAILED.
        """
        if self.address == OFF:
            return None
        try:
            client = self._client()
            tags = {"mlflow.parentRunId": run.parent} if run.parent else {}
            experiment = self._experiment(client)
            made = client.create_run(experiment.experiment_id, run_name=_short(run.name), tags=tags)
            self._log(client, made.info.run_id, run)
        except Exception as error:  # whatever it is, the results are on disk and the job has done its work
            where = without_secrets(self.address)
            log.warning("run %s was not recorded in %s: %s; its results are in %s",
                        run.name, where, _reason(error), run.artifacts)  # fmt: skip
            return None
        return str(made.info.run_id)

    def ui_command(self) -> str:
        """What to type, or the address to open, to look at the runs; empty where nothing is tracked."""
        if self.address == OFF:
            return ""
        if self.artifacts is None:
            return without_secrets(self.address)
        program = "mlflow" if shutil.which("mlflow") else str(Path(sys.executable).with_name("mlflow"))
        return shlex.join([program, "ui", "--backend-store-uri", without_secrets(self.address)])

    def _client(self) -> MlflowClient:
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient  # takes seconds, so not before it is needed

        return MlflowClient(tracking_uri=self.address)

    def _experiment(self, client: MlflowClient) -> Experiment:
        """The experiment, made where missing with an explicit place for artifacts: the default is ./mlruns."""
        found = client.get_experiment_by_name(self.experiment)
        if found is None:
            place = self.artifacts.as_uri() if self.artifacts else None
            try:
                return client.get_experiment(client.create_experiment(self.experiment, place))
            except Exception:
                found = client.get_experiment_by_name(self.experiment)
                if found is None:  # so it was not another process that made it just now
                    raise
        if found.lifecycle_stage != "active":
            raise InputError(
                f"MLflow's experiment {self.experiment!r} was deleted; restore it (mlflow experiments restore) or "
                f"choose another with tracking.experiment=NAME"
            )
        return found

    def _log(self, client: MlflowClient, run_id: str, run: TrackedRun) -> None:
        state = "FAILED"
        try:
            _log_values(client, run_id, run)
            own = {place for place in (self.database, self.artifacts) if place}
            for path in _files(run, own):
                folder = path.parent.relative_to(run.artifacts).as_posix()
                client.log_artifact(run_id, str(path), None if folder == "." else folder)
            state = "FINISHED"
        finally:
            client.set_terminated(run_id, state)


def metrics_of(scores: Sequence[Score]) -> dict[str, float]:
    """Metrics of a run: '<finding>.<name>.value', '.low', '.high' and '.n', fewer than 60 of them.

    Every score's value comes first, then the intervals, each finding's first scores before another's second; the rest
    stays in scores.json. A number that is not finite is left out.
    """
    seen: Counter[str] = Counter()
    ranked = []
    for score in scores:
        ranked.append((seen[score.finding], score))
        seen[score.finding] += 1
    ordered = [score for _, score in sorted(ranked, key=lambda both: both[0])]
    values = [_parts(score, PARTS[:1]) for score in ordered]
    intervals = [_parts(score, PARTS[1:]) for score in ordered]
    kept: dict[str, float] = {}
    for part in (*values, *intervals):
        if len(kept) + len(part) > METRICS:
            break
        kept.update(part)
    return kept


def without_secrets(text: str) -> str:
    """The text with the passwords of the URIs in it hidden."""
    text = re.sub(r"(://[^/:@\s]*):[^/\s]*@", r"\1:***@", text)
    return re.sub(r"([?&](?:password|passwd|pwd|token|secret)=)[^&\s]*", r"\1***", text, flags=re.IGNORECASE)


def _parts(score: Score, parts: Sequence[str]) -> dict[str, float]:
    found = {f"{score.finding}.{score.name}.{part}": getattr(score, part) for part in parts}
    return {name: float(value) for name, value in found.items() if value is not None and math.isfinite(value)}


def _folder() -> Path:
    return Path(RUNS).absolute()


def _sqlite_uri(path: Path) -> str:
    if any(character in str(path) for character in "%?"):
        raise InputError(f"tracking: MLflow cannot use a path with % or ? in it, {str(path)!r}; set tracking.uri")
    return f"{SQLITE}{path}"


def _check_local(database: Path | None, artifacts: Path | None) -> None:
    """Try what will be written later. MLflow itself would retry for minutes on a database that cannot be opened."""
    for folder in (database and database.parent, artifacts):
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
    if database:
        with closing(sqlite3.connect(database, timeout=20)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.rollback()


def _log_values(client: MlflowClient, run_id: str, run: TrackedRun) -> None:
    from mlflow.entities import Metric, Param, RunTag

    now = int(time.time() * 1000)
    client.log_batch(run_id, metrics=[Metric(k, v, now, 0) for k, v in _keyed(run.metrics)])
    for params in _batches([Param(k, _short(v)) for k, v in _keyed(run.params)]):
        client.log_batch(run_id, params=params)
    for tags in _batches([RunTag(k, _short(v)) for k, v in _keyed(run.tags)]):
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


def _short(text: str) -> str:
    """A value that MLflow takes whole; one that is cut says so."""
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= VALUE_LENGTH else text[: VALUE_LENGTH - 6] + " [cut]"


def _files(run: TrackedRun, own: set[Path]) -> Iterator[Path]:
    """The run's files; nothing hidden, and nothing that MLflow itself keeps where both share a folder."""
    for top in sorted(run.artifacts.iterdir()):
        if top.name.startswith(".") or top.absolute() in own or (run.only and top.name not in run.only):
            continue
        for path in [top] if top.is_file() else sorted(top.rglob("*")):
            hidden = any(part.startswith(".") for part in path.relative_to(run.artifacts).parts)
            if path.is_file() and not hidden and not own & {path, *path.parents}:
                yield path


def _reason(error: Exception) -> str:
    """The first line of what went wrong, without secrets."""
    return without_secrets(f"{type(error).__name__}: {error}".splitlines()[0])[:500]
