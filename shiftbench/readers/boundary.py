"""One context around whatever reads something from outside: any failure in it becomes one InputError."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from shiftbench.errors import InputError

SHOWN = 600  # characters of a library's message that a refusal repeats


def one_line(error: BaseException) -> str:
    """What went wrong: every line of the error's message, joined into one line of at most SHOWN characters.

    A library's first line often says only that something failed, and the reason stands below it. An error without a
    message, or whose message is one bare word (as KeyError's), is led by the name of its type.
    """
    message = " ".join(str(error).split())
    if isinstance(error, OSError) and error.strerror and not isinstance(error, UnicodeError):
        message = error.strerror if error.filename is None else f"{error.strerror}: {error.filename}"
    if " " not in message:
        message = f"{type(error).__name__}: {message}" if message else type(error).__name__
    return message if len(message) <= SHOWN else f"{message[: SHOWN - 6]} [cut]"


@contextmanager
def reading(what: str, remedy: str = "", reason: Callable[[BaseException], str] = one_line) -> Iterator[None]:
    """Turn any failure of the block into an InputError: "{what}: {reason}; {remedy}".

    what: the file or place that is read, and the option that named it. remedy: what to type instead.
    reason: words for an error that is no InputError.

    Libraries that parse a malformed file raise whatever they stumble over (TypeError, AttributeError, IndexError, a
    Rust panic), so the block must hold the reading alone: an error of our own that is raised inside it is reported as
    the input's. The original exception stays the `__cause__`. An InputError, running out of a GPU's memory, a signal
    and an exit pass unchanged.
    """
    try:
        yield
    except (InputError, torch.OutOfMemoryError):
        raise
    except BaseException as error:
        # pyo3's PanicException, of a tokenizers or safetensors bug, derives from BaseException and cannot be imported.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise InputError(f"{what}: {reason(error)}{'; ' if remedy else ''}{remedy}") from error


def check_text(text: str, what: str) -> None:
    """Refuse, by InputError, a text that no path and no file of results can hold. what: how the user gave it."""
    if "\0" in text:
        raise InputError(f"{what} holds a NUL character, which no path and no name can have")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise InputError(
            f"{what} is not valid UTF-8: results are written as UTF-8 and could not name it; rename the file, or give "
            "another name"
        ) from None
