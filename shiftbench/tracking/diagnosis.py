"""Why runs cannot be recorded, in words that say what the user can do."""

from __future__ import annotations

import os
import re
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from shiftbench.errors import InputError
from shiftbench.tracking.address import describe, without_secrets
from shiftbench.tracking.transport import RedirectedElsewhere

# How many of the first characters of an error's text are searched; the text may hold a whole answer of a server.
SEARCHED_CHARACTERS = 20_000
CHOOSE_ANOTHER = "choose another with tracking.uri=URI, or tracking=none"


class Unreachable(Exception):
    """Runs cannot be recorded now; the reason may pass, as where a server does not answer. The message says why."""


def check_local_writes(database: Path | None, artifacts: Path | None) -> None:
    """Test whether the sqlite file, the folder that it lies in, and the folder of artifacts can be written.

    A folder or sqlite file that is missing is created and stays; an existing sqlite file is not changed. An argument
    that is None is left out. Waits up to 20 seconds while another process writes to the database. Raises OSError or
    sqlite3.Error where writing fails. MLflow itself would retry for more
    than a minute on a database that cannot be opened.
    """
    for folder in (database and database.parent, artifacts):
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
    if database:
        with closing(sqlite3.connect(database, timeout=20)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.rollback()


def diagnose(error: Exception, shown_uri: str, experiment: str) -> InputError | None:
    """An InputError that says what the user can do about an error of MLflow's; None where the error is not known here.

    Known are: a redirection to another server, the HTTP status 401 or 403, a database of another MLflow version, and a
    database driver that is not installed. shown_uri: the tracking URI without secrets. experiment: the experiment's
    name, for the message.
    """
    text, status = str(error)[:SEARCHED_CHARACTERS], _http_status(error)
    where = f"tracking.uri={shown_uri}"
    if elsewhere := cause_of(error, RedirectedElsewhere):
        return InputError(f"{where}: {without_secrets(str(elsewhere))}")
    if status == 401:
        return InputError(f"{where}: {_credentials_message()} (401); {CHOOSE_ANOTHER}")
    if status == 403 and "host header" in text.lower():
        return InputError(
            f"{where}: the server does not serve this host name (403); its option --allowed-hosts must list it"
        )
    if status == 403:
        return InputError(
            f"{where}: user {os.environ.get('MLFLOW_TRACKING_USERNAME')!r} may not write to experiment "
            f"{experiment!r} (403); ask for the permission EDIT, or choose another with tracking.experiment=NAME"
        )
    found = re.search(r"database schema \(found version (\w+)", text)
    if found:
        return InputError(f"{where}: {_schema_message(found[1])}; {CHOOSE_ANOTHER}")
    if isinstance(error, ImportError):
        return InputError(f"{where}: {describe(error)}; install the database's driver, for example psycopg2-binary")
    return None


def cause_of(error: BaseException | None, kind: type[Exception]) -> BaseException | None:
    """The first error of type `kind` among `error`, its cause, the cause of that, and so on; None where there is none.

    Where an error has no explicit cause, the error that was being handled when it was raised counts as its cause. The
    causes have to be searched because MLflow catches the errors of its requests and raises its own type instead.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen and not isinstance(error, kind):
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return error if isinstance(error, kind) else None


def _credentials_message() -> str:
    if os.environ.get("MLFLOW_TRACKING_USERNAME"):
        return "the server refuses the user and password in MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
    return "the server asks for a user name: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"


def _schema_message(revision: str) -> str:
    import mlflow.store.db_migrations as migrations
    from mlflow import __version__

    known = Path(str(migrations.__file__)).parent / "versions"
    if any(known.glob(f"{revision}_*.py")):
        return f"its database was made by an older MLflow than {__version__}: back it up, then `mlflow db upgrade URI`"
    return f"its database was made by a newer MLflow than {__version__} (schema {revision}): install that MLflow"


def _http_status(error: Exception) -> int | None:
    """The HTTP status code that an exception of MLflow's carries; None where it carries none that is a number."""
    try:
        return int(error.get_http_status_code())  # type: ignore[attr-defined]
    except Exception:
        return None
