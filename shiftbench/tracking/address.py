"""The tracking URI, which says where MLflow records runs: made absolute, and shown without its secrets."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

from shiftbench.errors import InputError
from shiftbench.readers import path_of

RUNS = "shiftbench-runs"
OFF = "none"
SQLITE_PREFIX = "sqlite:///"
SERVER_SCHEMES = {"http", "https", "databricks"}  # of servers; a server also keeps the files of its runs
DATABASE_SCHEMES = {"sqlite", "postgresql", "mysql", "mssql"}


def absolute_uri(uri: str | None) -> str:
    """The tracking URI that MLflow gets for the option tracking.uri: the path of a sqlite file becomes absolute.

    Every other accepted URI, and 'none', is returned as it is. uri=None stands for the sqlite file
    ./shiftbench-runs/mlflow.db. Raises InputError for a scheme that is neither a server's nor a database's, for the URI
    of a server with a password in it, for a sqlite URI that is not sqlite:///PATH or names no file, for a sqlite path
    with % or ? in it, and for text that is no URI, such as http://[x.
    """
    if uri is None:
        return _sqlite_uri(runs_folder() / "mlflow.db")
    try:
        kind = scheme(uri)
        if kind in SERVER_SCHEMES:
            _ = urlsplit(uri).port  # raises ValueError where the port is no port, as in http://host:99999
    except ValueError as error:
        raise InputError(
            f"tracking.uri={without_secrets(uri)!r} is no URI{reason(error, uri)}: give sqlite:///PATH, "
            "http://HOST:PORT, the URI of another database, or none"
        ) from None
    if uri != OFF and kind not in {*SERVER_SCHEMES, *DATABASE_SCHEMES}:
        raise InputError(
            f"tracking.uri={without_secrets(uri)!r} is no place MLflow can write to: give sqlite:///PATH, "
            f"http://HOST:PORT, the URI of another database, or none"
        )
    if kind in SERVER_SCHEMES and urlsplit(uri).password is not None:
        raise InputError(
            f"tracking.uri={without_secrets(uri)!r} holds a password, which other users of this machine can read: "
            f"give it in the environment, as MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        )
    if kind == "sqlite":
        path = uri.removeprefix(SQLITE_PREFIX)
        if path in ("", ":memory:", uri):
            raise InputError(f"tracking.uri={uri!r} names no file; give sqlite:///PATH")
        return _sqlite_uri(path_of(path, "tracking.uri").absolute())
    return uri


def scheme(uri: str) -> str:
    """The scheme of a URI without the driver: postgresql for postgresql+psycopg2://...; '' where it has no scheme."""
    return urlsplit(uri).scheme.split("+")[0]


def runs_folder() -> Path:
    """The default folder for results and for MLflow's database: ./shiftbench-runs, as an absolute path."""
    return Path(RUNS).absolute()


def without_secrets(text: str) -> str:
    """The text, with the secrets of URIs replaced by ***.

    These are the password of USER:PASSWORD@HOST, and the values of the query parameters password, passwd, pwd, token
    and secret. A password may have the characters / ? # and @ in it, which urlsplit and SQLAlchemy read differently.
    Therefore it is taken to reach to the last @ of its word, even where this @ is part of the path or of the query:
    then the host is hidden too. A word ends at white space. A quotation mark at a word's end stays.
    """
    text = re.sub(r"\S+", lambda word: _without_password(word[0]), text)
    return re.sub(
        r"([?&](?:password|passwd|pwd|token|secret)=)[^&\s]*?(?=['\"]?(?:[&\s]|$))", r"\1***", text, flags=re.IGNORECASE
    )


def reason(error: ValueError, uri: str) -> str:
    """' (MESSAGE)' of the error with which urlsplit refused a URI; empty where the URI has secrets.

    The message may quote a part of the URI, such as the text that stands in the place of the port.
    """
    return f" ({error})" if without_secrets(uri) == uri else ""


def describe(error: BaseException) -> str:
    """The type of an error and the first line of its message, in at most 500 printable characters, without secrets.

    A character that is not printable is replaced by U+FFFD: servers write some of these messages, and a terminal
    would obey control characters in them.
    """
    first = f"{type(error).__name__}: {str(error)[:20_000]}".splitlines()[0]
    return "".join(each if each.isprintable() else "\ufffd" for each in without_secrets(first)[:500])


def _without_password(word: str) -> str:
    """A text without white space, in which *** stands for what is between USER: and the last @."""
    before, _, after = word.rpartition("@")
    found = re.search("://[^/:]*:", before)
    return f"{before[: found.end()]}***@{after}" if found else word


def _sqlite_uri(path: Path) -> str:
    if any(character in str(path) for character in "%?"):
        raise InputError(
            f"tracking: MLflow cannot use a path that has % or ? in it, {str(path)!r}; set tracking.uri to another path"
        )
    return f"{SQLITE_PREFIX}{path}"
