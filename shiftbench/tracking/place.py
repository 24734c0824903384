"""A place that runs are recorded in: sqlite, another database or a server.

Results on disk are the record and MLflow is a view of them: what cannot be sent is a warning, never a lost job.
Every call names its run, experiment and store, so MLFLOW_RUN_ID and MLFLOW_TRACKING_URI change nothing.
"""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from shiftbench.errors import InputError
from shiftbench.tracking import suites, transport
from shiftbench.tracking.address import (
    DATABASES,
    OFF,
    SERVERS,
    SQLITE,
    absolute,
    reason,
    runs_folder,
    scheme,
    without_secrets,
)
from shiftbench.tracking.artifacts import Artifacts, Refused
from shiftbench.tracking.refusal import OTHER, Unreachable, refusal, try_local
from shiftbench.tracking.sending import new_run
from shiftbench.tracking.tracked import KIND, TrackedRun

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

ENVIRONMENT = {  # defaults of ours; what the user set stays
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # the URL may hold a password
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # MLflow's own 7 wait for minutes on a server that is down
    # A server would hand out addresses elsewhere, signed for these transfers; files go through the server itself.
    "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
    "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "false",
}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tracking:
    """A place that runs are recorded in.

    uri: None: sqlite in ./shiftbench-runs; sqlite:///PATH; a server's or another database's; 'none': nowhere.
    timeout: seconds in which a server must have given a whole answer, repetitions included (transport.py).
    """

    uri: str | None
    experiment: str
    timeout: float = 20.0

    def __post_init__(self) -> None:
        if isinstance(self.timeout, bool) or not isinstance(self.timeout, int | float) or not 0 < self.timeout < 1e6:
            raise InputError(f"tracking.timeout={self.timeout!r} must be a number of seconds above 0")

    @cached_property
    def address(self) -> str:
        """The tracking URI, absolute; 'none' where nothing is tracked. Raises InputError for one MLflow cannot use."""
        return absolute(self.uri)

    @property
    def shown(self) -> str:
        """The address without secrets."""
        return without_secrets(self.address)

    @property
    def database(self) -> Path | None:
        """The sqlite file, None where runs go elsewhere."""
        return Path(self.address.removeprefix(SQLITE)) if self.address.startswith(SQLITE) else None

    @property
    def artifacts(self) -> Path | None:
        """The folder of artifacts, beside the sqlite file; None where a server keeps them."""
        if scheme(self.address) not in DATABASES:
            return None
        return (self.database.parent if self.database else runs_folder()) / "mlflow-artifacts"

    @property
    def own(self) -> set[Path]:
        """What MLflow itself keeps on this machine's disk."""
        return {place for place in (self.database, self.artifacts) if place}

    def check(self) -> None:
        """Connect before long work. Raises InputError where runs could not be written, now or later.

        A server that does not answer is a warning: it may be back when there is something to send.
        """
        if self.address == OFF:
            return
        try:
            self.reach()
        except Unreachable as error:
            log.warning("%s; results are still written to disk, and `shiftbench sync` sends them later", error)

    def reach(self) -> None:
        """Connect and see that runs can be written. Raises InputError, and Unreachable where it may help to wait."""
        try:
            try_local(self.database, self.artifacts)
            client = self.client()
            experiment = self.found(client)
            self.files(client).check(experiment)
            if scheme(self.address) in SERVERS:  # who may read an experiment may not always write to it
                client.set_experiment_tag(experiment.experiment_id, KIND, "experiment")
        except InputError:
            raise
        except Refused as error:
            raise InputError(f"tracking.uri={self.shown}: {error}") from None
        except Exception as error:
            refused = refusal(error, self.shown, self.experiment)
            if refused:
                raise refused from None
            why = f"tracking.uri={self.shown}: {reason(error)}"
            if self.database:
                raise InputError(f"{why}; {OTHER}") from None
            raise Unreachable(why) from None
        if self.artifacts and experiment.artifact_location != self.artifacts.as_uri():
            log.warning("MLflow's experiment %r keeps artifacts in %s, not beside its database (was it moved?)",
                        self.experiment, without_secrets(experiment.artifact_location))  # fmt: skip

    def record(self, run: TrackedRun) -> str | None:
        """The id of the new run; None where tracking is off, or, with a warning, where not all of it could be sent.

        For runs that nobody would send again; a pair's go by way of `spool`, which sends each exactly once.
        """
        if self.address == OFF:
            return None
        try:
            client = self.client()
            return new_run(client, self.files(client), self.found(client).experiment_id, run, self.own)
        except Exception as error:  # whatever it is, the results are on disk and the job has done its work
            log.warning("run %s was not recorded in %s: %s; its results are in %s",
                        run.name, self.shown, reason(error), run.artifacts)  # fmt: skip
            return None

    def open_suite(self, name: str, tags: Mapping[str, str]) -> str | None:
        """The id of the run that a sweep's pairs are shown under; None, with a warning, where it cannot be had.

        The same shiftbench.sweep in tags is the same run, so a sweep that is started again goes on under its own.
        """
        if self.address == OFF:
            return None
        try:
            client = self.client()
            return suites.open_run(client, self.found(client).experiment_id, name, tags)
        except Exception as error:
            log.warning("suite %s has no run in %s yet: %s; `shiftbench sync` makes it with the first of its pairs",
                        name, self.shown, reason(error))  # fmt: skip
            return None

    def close_suite(self, run_id: str, status: str) -> None:
        """Say that a sweep is over: FINISHED, or FAILED where a job failed. A warning where that cannot be said."""
        try:
            self.client().set_terminated(run_id, status)
        except Exception as error:
            log.warning("suite's run %s in %s was not closed: %s", run_id, self.shown, reason(error))

    def ui_command(self) -> str:
        """What to type, or the address to open, to look at the runs; empty where nothing is tracked."""
        if self.address == OFF:
            return ""
        if self.artifacts is None:
            return self.shown
        program = "mlflow" if shutil.which("mlflow") else str(Path(sys.executable).with_name("mlflow"))
        return shlex.join([program, "ui", "--backend-store-uri", self.shown])

    def client(self) -> MlflowClient:
        """MLflow's client for this place. Raises what MLflow raises where its database cannot be used."""
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient  # takes seconds, so not before it is needed

        if scheme(self.address) in ("http", "https"):
            transport.limited(self.address, self.timeout)
        elif scheme(self.address) == "databricks":  # its own client, whose limits are these two
            os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(max(1, round(self.timeout))))
            os.environ.setdefault("MLFLOW_DATABRICKS_ENDPOINT_HTTP_RETRY_TIMEOUT", str(max(1, round(self.timeout))))
        return MlflowClient(tracking_uri=self.address)

    def files(self, client: MlflowClient) -> Artifacts:
        """The files of the runs that are kept here."""
        return Artifacts(client, self.address, self.artifacts)

    def found(self, client: MlflowClient) -> Experiment:
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
        if found.lifecycle_stage not in ("active", "deleted") or not found.experiment_id:
            raise ValueError(f"the answer about experiment {self.experiment!r} is none that MLflow would give")
        if found.lifecycle_stage == "deleted":
            raise InputError(
                f"MLflow's experiment {self.experiment!r} was deleted; restore it (mlflow experiments restore) or "
                f"choose another with tracking.experiment=NAME"
            )
        return found
