"""`reading`: the context manager around code that reads something from outside.

It raises an InputError in the place of an exception of that code, so that the user sees one line. `reading` says which
exceptions pass unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from shiftbench.errors import InputError

SHOWN = 600  # most characters of a library's message that an InputError repeats


def one_line(error: BaseException) -> str:
    """An error's message as one line of at most SHOWN characters.

    All lines are joined, because a library's first line often says only that something failed and the reason is below
    it. Of an OSError with a description (strerror), the line is the description, followed by the file where the error
    names one. If the message is empty or a single word, as that of a KeyError usually is, the name of the error's type
    comes first. A line that would be longer than SHOWN is cut and ends in "[cut]".
    """
    message = " ".join(str(error).split())
    if isinstance(error, OSError) and error.strerror and not isinstance(error, UnicodeError):
        message = error.strerror if error.filename is None else f"{error.strerror}: {error.filename}"
    if " " not in message:
        message = f"{type(error).__name__}: {message}" if message else type(error).__name__
    return message if len(message) <= SHOWN else f"{message[: SHOWN - 6]} [cut]"


@contextmanager
def reading(what: str, remedy: str = "", reason: Callable[[BaseException], str] = one_line) -> Iterator[None]:
    """Turn a failure of the block into an InputError: "{what}: {reason}; {remedy}", or "{what}: {reason}".

    what: the file or address that is read, and the option that named it. remedy: what to type instead; "" leaves it
    out. reason: turns the exception into words.

    Libraries raise all kinds of errors on a malformed file (TypeError, AttributeError, IndexError, a Rust panic), and
    all are taken for faults of the input. So the block must hold nothing but the reading: a bug of ours in it would be
    reported as bad input. The original exception is the `__cause__`. InputError and torch.OutOfMemoryError pass
    unchanged. So does what is no Exception, such as KeyboardInterrupt and SystemExit, except a Rust panic, which is no
    Exception but becomes an InputError.
    """
    try:
        yield
    except (InputError, torch.OutOfMemoryError):
        raise
    except BaseException as error:
        # A bug in tokenizers or safetensors raises pyo3's PanicException, a BaseException that cannot be imported.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise InputError(f"{what}: {reason(error)}{'; ' if remedy else ''}{remedy}") from error


def check_text(text: str, what: str) -> None:
    """Raise InputError for a text that has a NUL character or cannot be encoded as UTF-8.

    No path can have the first, and no result file the second. what: the option that gave the text; the message begins
    with it.
    """
    if "\0" in text:
        raise InputError(f"{what} holds a NUL character, which no path and no name can have")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise InputError(
            f"{what} is not valid UTF-8: results are written as UTF-8 and could not name it; rename the file, or give "
            "another name"
        ) from None
