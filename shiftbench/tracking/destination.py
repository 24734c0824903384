"""Where runs are recorded: in a sqlite file, in another database or on an MLflow server.

The results on disk are the record, and MLflow shows a copy of them. Once results are written, a run that cannot be sent
is therefore only a warning. Every call to MLflow names the run or the experiment that it is about, and the tracking
URI. The environment's MLFLOW_RUN_ID and MLFLOW_TRACKING_URI have no effect.
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
    DATABASE_SCHEMES,
    OFF,
    SERVER_SCHEMES,
    SQLITE_PREFIX,
    absolute_uri,
    describe,
    runs_folder,
    scheme,
    without_secrets,
)
from shiftbench.tracking.artifacts import Artifacts, RefusedLocation
from shiftbench.tracking.diagnosis import CHOOSE_ANOTHER, Unreachable, check_local_writes, diagnose
from shiftbench.tracking.sending import send_new_run
from shiftbench.tracking.tracked import KIND, TrackedRun

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

ENVIRONMENT = {  # our defaults for MLflow; a variable that the user has set keeps its value
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # the URL may hold a password
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # MLflow's default of 7 waits minutes for a server that is down
    # If these were true, a server could direct a transfer to another host by a signed URL. As they are false, files go
    # through the server itself.
    "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
    "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "false",
}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tracking:
    """Where runs are recorded; the fields are the options tracking.uri, tracking.experiment and tracking.timeout.

    uri: None for sqlite in ./shiftbench-runs; sqlite:///PATH; the URI of a server or of another database; 'none' for no
    tracking. experiment: the name of the MLflow experiment that runs are put into. timeout: the most seconds for a
    whole answer of a server; with an HTTP server, retries count. Files have another limit, see transport.py. For a
    database there is no limit.
    """

    uri: str | None
    experiment: str
    timeout: float = 20.0

    def __post_init__(self) -> None:
        if isinstance(self.timeout, bool) or not isinstance(self.timeout, int | float) or not 0 < self.timeout < 1e6:
            raise InputError(f"tracking.timeout={self.timeout!r} must be a number of seconds above 0")

    @cached_property
    def address(self) -> str:
        """The absolute tracking URI, or 'none' where nothing is tracked.

        Raises InputError for a URI that `absolute_uri` refuses.
        """
        return absolute_uri(self.uri)

    @property
    def shown(self) -> str:
        """The address with its secrets hidden, for messages."""
        return without_secrets(self.address)

    @property
    def database(self) -> Path | None:
        """The sqlite file; None where runs are not recorded in one."""
        return Path(self.address.removeprefix(SQLITE_PREFIX)) if self.address.startswith(SQLITE_PREFIX) else None

    @property
    def artifact_folder(self) -> Path | None:
        """The folder mlflow-artifacts, into which the runs of a new experiment put their files.

        It lies beside the sqlite file, and in ./shiftbench-runs for any other database. None where a server keeps the
        files, and where nothing is tracked.
        """
        if scheme(self.address) not in DATABASE_SCHEMES:
            return None
        return (self.database.parent if self.database else runs_folder()) / "mlflow-artifacts"

    @property
    def mlflow_paths(self) -> set[Path]:
        """The sqlite file and the folder of artifacts, without those that are None.

        MLflow itself keeps them on this machine's disk. Where they lie among a run's results, they are not sent.
        """
        return {path for path in (self.database, self.artifact_folder) if path}

    def check(self) -> bool:
        """Connect before long work begins. Returns whether runs can be recorded now; False where tracking is off.

        Raises InputError where runs cannot be written and waiting does not help. Any other failure is a warning,
        and False is returned, because a server may answer by the time there is something to send.
        """
        if self.address == OFF:
            return False
        try:
            self.reach()
            return True
        except Unreachable as error:
            log.warning("%s; results are still written to disk, and `shiftbench sync` sends them later", error)
            return False

    def reach(self) -> None:
        """Connect, create the experiment if it is missing, and try to write. Only for `address` other than 'none'.

        What is tried: the sqlite file, the folder of artifacts, and a tag of the experiment on a server. Where this
        fails, raises Unreachable if waiting may help, and otherwise InputError. Raises InputError too where the files
        of new runs would lie in an unsafe location (`Artifacts.check`). Warns where the experiment of a database keeps
        its files in another folder than `artifact_folder`.
        """
        try:
            check_local_writes(self.database, self.artifact_folder)
            client = self.client()
            experiment = self.get_experiment(client)
            self.open_artifacts(client).check(experiment)
            if scheme(self.address) in SERVER_SCHEMES:
                # A user who may read an experiment may not be allowed to write to it; setting a tag tests that.
                client.set_experiment_tag(experiment.experiment_id, KIND, "experiment")
        except InputError:
            raise
        except RefusedLocation as error:
            raise InputError(f"tracking.uri={self.shown}: {error}") from None
        except Exception as error:
            diagnosis = diagnose(error, self.shown, self.experiment)
            if diagnosis:
                raise diagnosis from None
            message = f"tracking.uri={self.shown}: {describe(error)}"
            if self.database:
                raise InputError(f"{message}; {CHOOSE_ANOTHER}") from None
            raise Unreachable(message) from None
        if self.artifact_folder and experiment.artifact_location != self.artifact_folder.as_uri():
            log.warning("MLflow's experiment %r keeps artifacts in %s, not beside its database (was it moved?)",
                        self.experiment, without_secrets(experiment.artifact_location))  # fmt: skip

    def record(self, run: TrackedRun) -> str | None:
        """Record `run` as a new MLflow run and return the id of that run; None where tracking is off.

        Also returns None, with a warning, where the run could not be sent completely; nothing sends it again later. The
        runs of pairs are sent by `spool.send_run` instead, which sends each of them exactly once.
        """
        if self.address == OFF:
            return None
        try:
            client = self.client()
            return send_new_run(
                client, self.open_artifacts(client), self.get_experiment(client).experiment_id, run, self.mlflow_paths
            )
        except Exception as error:  # whatever the error, the results are on disk and the job has succeeded
            log.warning("run %s was not recorded in %s: %s; its results are in %s",
                        run.name, self.shown, describe(error), run.artifacts)  # fmt: skip
            return None

    def open_suite(self, name: str, tags: Mapping[str, str]) -> str | None:
        """The id of the parent run of one suite of a sweep, which is set to running; None without tracking.

        name: what is swept, as 'sweep suite=core, 10 pairs'; the run's name is this and the day on which it began.
        tags: those of a new parent run, among them shiftbench.sweep, by which a sweep that is started again finds its
        earlier parent run. Returns None, with a warning, where the parent run could be neither found nor created.
        """
        if self.address == OFF:
            return None
        try:
            client = self.client()
            return suites.open_run(client, self.get_experiment(client).experiment_id, name, tags)
        except Exception as error:
            log.warning("%s has no run in %s yet: %s; `shiftbench sync` creates it when it sends the first pair",
                        name, self.shown, describe(error))  # fmt: skip
            return None

    def close_suite(self, run_id: str, status: str) -> None:
        """Set the status of a sweep's parent run to FINISHED, FAILED or KILLED. Any error is only a warning."""
        try:
            self.client().set_terminated(run_id, status)
        except Exception as error:
            log.warning("the parent run %s in %s was not closed: %s", run_id, self.shown, describe(error))

    def ui_command(self) -> str:
        """What shows the runs: for a database the command `mlflow ui ...`, for a server its tracking URI.

        Secrets of the URI are hidden in it. Empty where nothing is tracked.
        """
        if self.address == OFF:
            return ""
        if self.artifact_folder is None:
            return self.shown
        program = "mlflow" if shutil.which("mlflow") else str(Path(sys.executable).with_name("mlflow"))
        return shlex.join([program, "ui", "--backend-store-uri", self.shown])

    def client(self) -> MlflowClient:
        """MLflow's client for this destination. Raises what MLflow raises where its database cannot be used.

        First sets the variables of ENVIRONMENT that the user has not set, and limits the requests to a server: to an
        HTTP server as transport.py says, to Databricks by two variables that Databricks' client reads.
        """
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient  # this import takes seconds

        if scheme(self.address) in ("http", "https"):
            transport.limit_requests(self.address, self.timeout)
        elif scheme(self.address) == "databricks":  # Databricks has a client of its own, which reads these two limits
            os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(max(1, round(self.timeout))))
            os.environ.setdefault("MLFLOW_DATABRICKS_ENDPOINT_HTTP_RETRY_TIMEOUT", str(max(1, round(self.timeout))))
        return MlflowClient(tracking_uri=self.address)

    def open_artifacts(self, client: MlflowClient) -> Artifacts:
        """Access to the files of the runs that are recorded here."""
        return Artifacts(client, self.address, self.artifact_folder)

    def get_experiment(self, client: MlflowClient) -> Experiment:
        """MLflow's record of the experiment with the name `experiment`, which is created if it is missing.

        A new experiment of a database gets `artifact_folder` as its artifact location, because MLflow's default is
        ./mlruns; a server chooses the location itself. Raises InputError for a deleted experiment, ValueError for an
        answer that MLflow would not give, and what MLflow raises where it cannot read or create the experiment.
        """
        found = client.get_experiment_by_name(self.experiment)
        if found is None:
            location = self.artifact_folder.as_uri() if self.artifact_folder else None
            try:
                return client.get_experiment(client.create_experiment(self.experiment, location))
            except Exception:
                found = client.get_experiment_by_name(self.experiment)
                if found is None:  # so the error was not that another process has just created it
                    raise
        if found.lifecycle_stage not in ("active", "deleted") or not found.experiment_id:
            raise ValueError(
                f"the server's answer about experiment {self.experiment!r} is not one that MLflow would give"
            )
        if found.lifecycle_stage == "deleted":
            raise InputError(
                f"MLflow's experiment {self.experiment!r} was deleted; restore it (mlflow experiments restore) or "
                f"choose another with tracking.experiment=NAME"
            )
        return found
