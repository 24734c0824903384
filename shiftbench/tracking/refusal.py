"""Why a place cannot be used, in words that say what to do: tried before long work rather than met after it."""

from __future__ import annotations

import os
import re
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from shiftbench.errors import InputError
from shiftbench.tracking.address import reason, without_secrets
from shiftbench.tracking.transport import SentElsewhere

LONGEST = 20_000  # characters of an error that are searched: a server's whole answer may stand in it
OTHER = "choose another with tracking.uri=URI, or tracking=none"


class Unreachable(Exception):
    """A place that does not answer now and may be back later; the message says why."""


def try_local(database: Path | None, artifacts: Path | None) -> None:
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


def refusal(error: Exception, place: str, experiment: str) -> InputError | None:
    """What a user can do about an error; None where time or an administrator has to help.

    place: the tracking URI as shown to users.
    """
    text, status = str(error)[:LONGEST], _status(error)
    where = f"tracking.uri={place}"
    if elsewhere := cause_of(error, SentElsewhere):
        return InputError(f"{where}: {without_secrets(str(elsewhere))}")
    if status == 401:
        return InputError(f"{where}: {_who()} (401); {OTHER}")
    if status == 403 and "host header" in text.lower():
        return InputError(f"{where}: the server does not serve this name (403); it must be among its --allowed-hosts")
    if status == 403:
        return InputError(
            f"{where}: user {os.environ.get('MLFLOW_TRACKING_USERNAME')!r} may not write to experiment "
            f"{experiment!r} (403); ask for the permission EDIT, or choose another with tracking.experiment=NAME"
        )
    found = re.search(r"database schema \(found version (\w+)", text)
    if found:
        return InputError(f"{where}: {_schema(found[1])}; {OTHER}")
    if isinstance(error, ImportError):
        return InputError(f"{where}: {reason(error)}; install the database's driver, for example psycopg2-binary")
    return None


def cause_of(error: BaseException | None, kind: type[Exception]) -> BaseException | None:
    """The error itself, or the one it was raised for, that is of this kind: MLflow wraps what its requests raise."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen and not isinstance(error, kind):
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return error if isinstance(error, kind) else None


def _who() -> str:
    if os.environ.get("MLFLOW_TRACKING_USERNAME"):
        return "the server refuses the user and password in MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
    return "the server asks who you are: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"


def _schema(revision: str) -> str:
    import mlflow.store.db_migrations as migrations
    from mlflow import __version__

    known = Path(str(migrations.__file__)).parent / "versions"
    if any(known.glob(f"{revision}_*.py")):
        return f"its database was made by an older MLflow than {__version__}: back it up, then `mlflow db upgrade URI`"
    return f"its database was made by a newer MLflow than {__version__} (schema {revision}): install that MLflow"


def _status(error: Exception) -> int | None:
    """The HTTP status that MLflow's exceptions carry; None for one that a server made up."""
    try:
        return int(error.get_http_status_code())  # type: ignore[attr-defined]
    except Exception:
        return None
