"""The address of a place that runs are kept in: made absolute, and shown without its secrets."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

from shiftbench.errors import InputError
from shiftbench.readers import path_of

RUNS = "shiftbench-runs"
OFF = "none"
SQLITE = "sqlite:///"
SERVERS = {"http", "https", "databricks"}  # these keep artifacts themselves
DATABASES = {"sqlite", "postgresql", "mysql", "mssql"}


def absolute(uri: str | None) -> str:
    """The tracking URI, absolute; None means sqlite in ./shiftbench-runs. InputError for one MLflow cannot use."""
    if uri is None:
        return _sqlite_uri(runs_folder() / "mlflow.db")
    kind = scheme(uri) or uri
    if kind not in {OFF, *SERVERS, *DATABASES}:
        raise InputError(
            f"tracking.uri={without_secrets(uri)!r} is no place MLflow can write: give sqlite:///PATH, "
            f"http://HOST:PORT, another database's URI, or none"
        )
    if kind in SERVERS and urlsplit(uri).password is not None:
        raise InputError(
            f"tracking.uri={without_secrets(uri)!r} holds a password, which other users of this machine can read: "
            f"give it in the environment, as MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        )
    if kind == "sqlite":
        path = uri.removeprefix(SQLITE)
        if path in ("", ":memory:", uri):
            raise InputError(f"tracking.uri={uri!r} names no file; give sqlite:///PATH")
        return _sqlite_uri(path_of(path, "tracking.uri").absolute())
    return uri


def scheme(uri: str) -> str:
    """The kind of place: http, postgresql and so on, without the driver; empty where there is none."""
    return urlsplit(uri).scheme.split("+")[0]


def runs_folder() -> Path:
    """Where runs and their database are kept unless something else is asked for."""
    return Path(RUNS).absolute()


def without_secrets(text: str) -> str:
    """The text with the passwords of the URIs in it hidden."""
    text = re.sub(r"(://[^/:@\s]*):[^/\s]*@", r"\1:***@", text)
    return re.sub(r"([?&](?:password|passwd|pwd|token|secret)=)[^&\s]*", r"\1***", text, flags=re.IGNORECASE)


def reason(error: BaseException) -> str:
    """The first line of what went wrong, without secrets, of at most 500 characters, each of which can be printed.

    Servers write some of these messages, and a terminal obeys control characters.
    """
    first = f"{type(error).__name__}: {str(error)[:20_000]}".splitlines()[0]
    return "".join(each if each.isprintable() else "\ufffd" for each in without_secrets(first)[:500])


def _sqlite_uri(path: Path) -> str:
    if any(character in str(path) for character in "%?"):
        raise InputError(f"tracking: MLflow cannot use a path with % or ? in it, {str(path)!r}; set tracking.uri")
    return f"{SQLITE}{path}"
