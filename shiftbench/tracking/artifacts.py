"""The files of a run, read and written only in locations that MLflow may safely name.

MLflow stores with each run the URI of its files, and MLflow's client goes to that URI, whatever it is. A hostile server
could thereby make the client read or fill any folder of the client's disk, or call any host. Therefore:

- The files of a server's runs (http, https) are moved through that server alone: by `mlflow-artifacts:`, or by http(s)
  with the server's own scheme, host and port. The files of Databricks' runs are moved by `dbfs:`. A location with `..`
  in its path, or with a query or a fragment, is refused.
- The files of a database's runs lie in LOCATION/RUN_ID/artifacts, which is MLflow's layout. LOCATION is either the one
  that the database gives for the experiment, or `Tracking.artifact_folder`, which is where new files are put. A
  database that was moved still names its old folder, so the two can differ. A RUN_ID must have 32 hexadecimal digits,
  which MLflow draws at random. A database that a stranger sent can therefore name an existing folder only where the
  stranger knows its digits. A LOCATION that a sqlite file gives must be a folder of this machine.

Every other location is refused. The location is requested once, checked, and then used, so a server cannot pass the
check with one location and have another one used. See docs/security.md.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, unquote, urlsplit

from shiftbench.readers import file_bytes
from shiftbench.tracking.address import DATABASE_SCHEMES, SERVER_SCHEMES, reason, scheme, without_secrets
from shiftbench.tracking.transport import limit_file_size, origin

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

LOCAL_SCHEMES = {"", "file"}
SHOWN_CHARACTERS = 200  # the length at which a message cuts a URI


class RefusedLocation(Exception):
    """The location that MLflow gives for files is not safe, or a file is a link out of it. The message says why."""


class Artifacts:
    """The files of the runs in one database or on one server."""

    def __init__(self, client: MlflowClient, address: str, local_folder: Path | None) -> None:
        """client: MLflow's client for the database or server. address: its absolute tracking URI.

        local_folder: the folder in which, besides the experiment's own location, the files of a database's runs may
        lie; None for a server.
        """
        self._client, self._address = client, address
        self._local_folder = local_folder
        self._repositories: dict[str, ArtifactRepository] = {}
        self._locations: dict[str, str] = {}

    def check(self, experiment: Experiment) -> None:
        """Raise RefusedLocation where new runs of the experiment would keep their files in an unsafe location.

        The location is checked for servers and for sqlite files. For other databases, `write` and `read` check the
        location of each run.
        """
        location = str(experiment.artifact_location)
        if scheme(self._address) in SERVER_SCHEMES:
            self._check_of_server(location, f"experiment {experiment.name!r}")
        elif scheme(self._address) == "sqlite" and scheme(location) not in LOCAL_SCHEMES:
            raise RefusedLocation(
                f"experiment {experiment.name!r} keeps its files in {_shown(location)}, and {LOCAL_FOLDERS_ONLY}"
            )

    def write(self, run_id: str, path: Path, folder: str | None) -> None:
        """Copy the file `path` to the files of a run, into the subfolder `folder` or, where folder is None, to the top.

        Raises RefusedLocation where the location of the run's files is not safe, and what MLflow raises where the file
        cannot be copied.
        """
        if run_id not in self._repositories:
            self._repositories[run_id] = self._repository(self._checked_location(run_id))
        self._repositories[run_id].log_artifact(str(path), folder)

    def read(self, run_id: str, name: str, most: int) -> bytes:
        """The content of the file of this name at the top of a run's files.

        Raises RefusedLocation where the location is not safe or the file is a link that leads out of it, InputError or
        TooLarge where the file has more than `most` bytes, and what MLflow or the operating system raises where the
        file cannot be read.
        """
        location = self._checked_location(run_id)
        if scheme(location) in LOCAL_SCHEMES:
            return _read_local(location, name, most)
        repository = self._repository(location)
        with tempfile.TemporaryDirectory(prefix="shiftbench-artifact-") as folder, limit_file_size(most):
            path = Path(folder) / "file"  # a fixed name: no text from a server is part of a local path
            repository._download_file(name, str(path))
            return file_bytes(path, name, most)

    def _checked_location(self, run_id: str) -> str:
        """The URI of the location of a run's files. Raises RefusedLocation where this location is not safe."""
        run = self._client.get_run(run_id)
        location = str(run.info.artifact_uri)
        if scheme(self._address) in SERVER_SCHEMES:
            self._check_of_server(location, f"run {run_id}")
        elif scheme(self._address) in DATABASE_SCHEMES:
            self._check_of_database(location, run_id, str(run.info.experiment_id))
        return location

    def _check_of_server(self, location: str, owner: str) -> None:
        parts, kind = _split(location), scheme(self._address)
        segments = unquote(unquote(parts.path)).replace("\\", "/").split("/")
        plain = ".." not in segments and not parts.query and not parts.fragment and location.isprintable()
        if kind == "databricks":
            on_server = parts.scheme == "dbfs" and not parts.netloc
        elif parts.scheme == "mlflow-artifacts":
            on_server = not parts.netloc or _same_origin(f"{kind}://{parts.netloc}", self._address)
        else:
            on_server = parts.scheme == kind and _same_origin(location, self._address)
        if not (plain and on_server):
            raise RefusedLocation(
                f"the server says that {owner} keeps its files in {_shown(location)}, which is not on the server; "
                f"nothing is read or written there. An administrator has to start it with --serve-artifacts and "
                f"without --default-artifact-root; files of a new experiment (tracking.experiment=NAME) then go "
                f"through it"
            )

    def _check_of_database(self, location: str, run_id: str, experiment: str) -> None:
        if scheme(self._address) == "sqlite" and scheme(location) not in LOCAL_SCHEMES:
            raise RefusedLocation(f"run {run_id} keeps its files in {_shown(location)}, and {LOCAL_FOLDERS_ONLY}")
        if experiment not in self._locations:
            self._locations[experiment] = str(self._client.get_experiment(experiment).artifact_location)
        local = [self._local_folder.as_uri()] if self._local_folder else []
        allowed = {f"{folder.rstrip('/')}/{run_id}/artifacts" for folder in (self._locations[experiment], *local)}
        if not re.fullmatch("[0-9a-f]{32}", run_id) or location not in allowed:
            raise RefusedLocation(
                f"run {run_id} keeps its files in {_shown(location)}, which is not where MLflow puts them in its "
                f"experiment ({_shown(self._locations[experiment])}); nothing is read or written there"
            )

    def _repository(self, location: str) -> ArtifactRepository:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
        from mlflow.utils.uri import add_databricks_profile_info_to_artifact_uri

        return get_artifact_repository(
            add_databricks_profile_info_to_artifact_uri(location, self._address), tracking_uri=self._address
        )


LOCAL_FOLDERS_ONLY = (
    "a sqlite file may name folders of this machine only; score again into another database (tracking.uri=URI)"
)


def _same_origin(location: str, address: str) -> bool:
    """Whether `location`, a URI that a server gave, has the scheme, host and port of `address`, the tracking URI.

    False also where `location` contains an @, as before the host in USER@HOST, and where it cannot be parsed, as with
    an invalid port.
    """
    try:
        return "@" not in location and origin(location) == origin(address)
    except ValueError:
        return False


def _split(uri: str) -> SplitResult:
    try:
        return urlsplit(uri)
    except ValueError as error:
        raise RefusedLocation(f"{_shown(uri)} is no URI{reason(error, uri)}") from None


def _shown(uri: str) -> str:
    shown = without_secrets(uri)
    return repr(shown if len(shown) <= SHOWN_CHARACTERS else f"{shown[:SHOWN_CHARACTERS]} [cut]")


def _read_local(location: str, name: str, most: int) -> bytes:
    from mlflow.utils.file_utils import local_file_uri_to_path

    folder = Path(local_file_uri_to_path(location)).resolve()
    path = (folder / name).resolve()
    if folder not in path.parents:
        raise RefusedLocation(f"{name} is a link that leads out of the folder of its run {str(folder)!r}")
    return file_bytes(path, name, most)
