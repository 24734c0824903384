"""Files on the Hugging Face hub, and the output and failures of transformers.

`quiet` silences the output of transformers. `as_input_error` also turns failures into an InputError of one line.
"""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import is_offline_mode
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled
from transformers.utils import cached_file, logging

from shiftbench.readers import one_line, reading

OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")  # environment variables that forbid requests to the hub


@contextmanager
def quiet() -> Iterator[None]:
    """Silence log lines, warnings and loading bars of transformers for the block; the hub's download bars stay."""
    level, bars = logging.get_verbosity(), logging._tqdm_active
    logging.set_verbosity(logging.CRITICAL)  # no error is lost: transformers raises the errors that it logs
    logging._tqdm_active = False  # set here, because disable_progress_bar() would turn off the hub's bars too
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        logging._tqdm_active = bars


@contextmanager
def as_input_error(what: str, replacement: Path | None = None, instead: str = "") -> Iterator[None]:
    """Turn any failure of the block into an InputError of one line that starts with `what`, and silence transformers.

    The exceptions that readers.reading passes unchanged, such as an InputError, pass unchanged here too.
    replacement: the path of the temporary folder that a library got instead of the model's own. Where a message names
    that path, `instead` is written in its place. None: messages stay as they are.
    """

    def in_words(error: BaseException) -> str:
        words = reason(error)
        return words if replacement is None else words.replace(str(replacement), instead)

    with reading(what, reason=in_words), quiet():
        yield


@contextmanager
def without_panics() -> Iterator[None]:
    """Drop what Rust prints on standard error when it panics, because the exception says the same.

    Everything that the process writes to standard error in the block is held back until the block ends, so the block
    must be short. It is printed then, unless the block ended by a panic: all of it is dropped in that case.
    """
    if sys.stderr is not None:
        sys.stderr.flush()
    with tempfile.TemporaryFile() as held_back:
        try:
            own = os.dup(2)
        except OSError:  # there is no standard error to hold back
            yield
            return
        panicked = False
        os.dup2(held_back.fileno(), 2)
        try:
            yield
        except BaseException as error:
            panicked = type(error).__name__ == "PanicException"
            raise
        finally:
            if sys.stderr is not None:
                sys.stderr.flush()
            os.dup2(own, 2)
            os.close(own)
            held_back.seek(0)
            if not panicked:
                os.write(2, held_back.read())


def hub_file(model: str, name: str, revision: str | None) -> Path | None:
    """A file of a model on the hub, downloaded where the cache lacks it; None where the model has no such file.

    model: the hub id. name: the file's path in the model's repository. revision: None is the main branch. Raises
    OSError where the cache lacks the file and the hub cannot be reached or refuses, so that the answer is unknown.
    """
    try:
        found = cached_file(model, name, revision=revision)
    except OSError as error:
        if error.__cause__ is not None or error.errno is not None:  # cached_file gives neither for a missing file
            raise
        found = None
    return None if found is None else Path(found)


def optional_file(model: str, name: str, revision: str | None) -> Path | None:
    """A file of a model on the hub, downloaded where the cache lacks it; None where it cannot be had.

    It cannot be had where the model has no such file, and where the cache lacks it and the hub cannot be reached or
    demands a permission for the model. hub_file raises OSError in the last two cases.
    """
    found = cached_file(
        model,
        name,
        revision=revision,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
        _raise_exceptions_for_gated_repo=False,
    )
    return None if found is None else Path(found)


def cached(model: str, names: Sequence[str], revision: str | None) -> bool:
    """Whether the hub's cache on this machine holds all of the named files of a model."""
    return all(
        cached_file(
            model,
            name,
            revision=revision,
            local_files_only=True,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
        for name in names
    )


def reason(error: BaseException) -> str:
    """What went wrong, in one line.

    It is the hub's own message where the hub refused. Where a missing file may not be downloaded (OFFLINE), or where
    the model needs code of its own, it says what to change. For all other errors it is the library's message, as
    one_line gives it.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, HfHubHTTPError):
            return cause.server_message or one_line(cause)
        if isinstance(cause, LocalEntryNotFoundError | OfflineModeIsEnabled) and is_offline_mode():
            set_to = next((f"{name}={os.environ[name]}" for name in OFFLINE if os.environ.get(name)), OFFLINE[0])
            return f"it is not in the hub's cache, and {set_to} forbids to download it; unset that, or give a folder"
        cause = cause.__cause__ or cause.__context__
    if "trust_remote_code" in str(error):
        return "it needs code that comes with it; read that code, then trust_remote_code=true runs it"
    return one_line(error)
