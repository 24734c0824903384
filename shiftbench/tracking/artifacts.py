"""The files of a run, kept where MLflow says, if that is a place where this process may read and write for it.

MLflow names a place for each run's files, and its client goes there, wherever that is. A server could so have the
client read or fill any folder of the client's disk, or call any host. Therefore:

- Of a server (http, https) the files come through that server alone: `mlflow-artifacts:`, or http(s) of its own host
  and port. Of Databricks they come by `dbfs:`.
- Of a database they lie beside it, where `Tracking` puts them, or in LOCATION/RUN_ID/artifacts of the experiment's own
  LOCATION, as MLflow lays them out: a database that was moved names its old folder. A run's RUN_ID is 32 random hex
  digits, so a database of a stranger can name no folder that it does not know. A sqlite file may name folders only.

Anything else is refused. The place is asked for once, judged, and then used: a server that names another one a moment
later is not asked again.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, unquote, urlsplit

from shiftbench.readers import file_bytes
from shiftbench.tracking.address import DATABASES, SERVERS, scheme, without_secrets
from shiftbench.tracking.transport import at_most, origin

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

LOCAL = {"", "file"}
SHOWN = 200  # characters of a URI that a message repeats


class Refused(Exception):
    """A place for a run's files that is not used; the message names it, and says what an administrator changes."""


class Artifacts:
    """The files of the runs of one place."""

    def __init__(self, client: MlflowClient, address: str, beside: Path | None) -> None:
        """address: the tracking URI, absolute. beside: the folder where files of a database's runs are put."""
        self._client, self._address = client, address
        self._beside = beside
        self._repositories: dict[str, ArtifactRepository] = {}
        self._locations: dict[str, str] = {}

    def check(self, experiment: Experiment) -> None:
        """Raise Refused where the files of the experiment's runs will lie where they may not be."""
        where = str(experiment.artifact_location)
        if scheme(self._address) in SERVERS:
            self._of_server(where, f"experiment {experiment.name!r}")
        elif scheme(self._address) == "sqlite" and scheme(where) not in LOCAL:
            raise Refused(f"experiment {experiment.name!r} keeps its files in {_shown(where)}, and {NO_FOLDER}")

    def write(self, run_id: str, path: Path, folder: str | None) -> None:
        """Put a file into a folder of the run's, None: at its top."""
        if run_id not in self._repositories:
            self._repositories[run_id] = self._repository(self._place(run_id))
        self._repositories[run_id].log_artifact(str(path), folder)

    def read(self, run_id: str, name: str, most: int) -> bytes:
        """The content of the file of that name at the top of a run's folder, of at most so many bytes."""
        place = self._place(run_id)
        if scheme(place) in LOCAL:
            return _read_local(place, name, most)
        repository = self._repository(place)
        with tempfile.TemporaryDirectory(prefix="shiftbench-artifact-") as folder, at_most(most):
            path = Path(folder) / "file"  # a name of ours: nothing that a server says becomes one
            repository._download_file(name, str(path))
            return file_bytes(path, name, most)

    def _place(self, run_id: str) -> str:
        """The URI of a run's files, judged."""
        run = self._client.get_run(run_id)
        where = str(run.info.artifact_uri)
        if scheme(self._address) in SERVERS:
            self._of_server(where, f"run {run_id}")
        elif scheme(self._address) in DATABASES:
            self._of_database(where, run_id, str(run.info.experiment_id))
        return where

    def _of_server(self, where: str, whose: str) -> None:
        parts, kind = _parts(where), scheme(self._address)
        steps = unquote(unquote(parts.path)).replace("\\", "/").split("/")
        plain = ".." not in steps and not parts.query and not parts.fragment and where.isprintable()
        if kind == "databricks":
            through = parts.scheme == "dbfs" and not parts.netloc
        elif parts.scheme == "mlflow-artifacts":
            through = not parts.netloc or _same(f"{kind}://{parts.netloc}", self._address)
        else:
            through = parts.scheme == kind and _same(where, self._address)
        if not (plain and through):
            raise Refused(
                f"{whose} keeps its files in {_shown(where)}, by the server's word, and not with the server; nothing "
                f"is read or written there. An administrator starts the server with --serve-artifacts and without "
                f"--default-artifact-root; runs of a new experiment (tracking.experiment=NAME) then go through it"
            )

    def _of_database(self, where: str, run_id: str, experiment: str) -> None:
        if scheme(self._address) == "sqlite" and scheme(where) not in LOCAL:
            raise Refused(f"run {run_id} keeps its files in {_shown(where)}, and {NO_FOLDER}")
        if experiment not in self._locations:
            self._locations[experiment] = str(self._client.get_experiment(experiment).artifact_location)
        beside = [self._beside.as_uri()] if self._beside else []
        laid_out = {f"{location.rstrip('/')}/{run_id}/artifacts" for location in (self._locations[experiment], *beside)}
        if not re.fullmatch("[0-9a-f]{32}", run_id) or where not in laid_out:
            raise Refused(
                f"run {run_id} keeps its files in {_shown(where)}, which is not where MLflow puts them in its "
                f"experiment ({_shown(self._locations[experiment])}); nothing is read or written there"
            )

    def _repository(self, where: str) -> ArtifactRepository:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
        from mlflow.utils.uri import add_databricks_profile_info_to_artifact_uri

        return get_artifact_repository(
            add_databricks_profile_info_to_artifact_uri(where, self._address), tracking_uri=self._address
        )


NO_FOLDER = "a sqlite file may name folders of this machine only; score again into another one (tracking.uri=URI)"


def _same(where: str, address: str) -> bool:
    """Whether an http(s) address that a server gave is of the server's own scheme, host and port, and names no user."""
    try:
        return "@" not in where and origin(where) == origin(address)
    except ValueError:
        return False


def _parts(uri: str) -> SplitResult:
    try:
        return urlsplit(uri)
    except ValueError as error:
        raise Refused(f"{_shown(uri)} is no address: {error}") from None


def _shown(uri: str) -> str:
    shown = without_secrets(uri)
    return repr(shown if len(shown) <= SHOWN else f"{shown[:SHOWN]} [cut]")


def _read_local(where: str, name: str, most: int) -> bytes:
    from mlflow.utils.file_utils import local_file_uri_to_path

    folder = Path(local_file_uri_to_path(where)).resolve()
    path = (folder / name).resolve()
    if folder not in path.parents:
        raise Refused(f"{name} is a link that leads out of its run's folder {str(folder)!r}")
    return file_bytes(path, name, most)
