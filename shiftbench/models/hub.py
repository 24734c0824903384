"""What transformers and the hub say, made quiet while all is well and one line when it is not."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub.errors import HfHubHTTPError
from transformers.utils import logging

from shiftbench.readers import one_line, reading


@contextmanager
def quiet() -> Iterator[None]:
    """No log lines, warnings or loading bars of transformers; the hub's download bars stay."""
    level, bars = logging.get_verbosity(), logging._tqdm_active
    logging.set_verbosity_error()
    logging._tqdm_active = False  # its own switch turns off the hub's bars too
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        logging._tqdm_active = bars


@contextmanager
def refusing(what: str) -> Iterator[None]:
    """Turn any failure to read a part of a model into an InputError of one line that starts with `what`, quietly."""
    with reading(what, reason=reason), quiet():
        yield


def reason(error: BaseException) -> str:
    """What went wrong, in one line: the hub's own words where it refused, else the library's whole message."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, HfHubHTTPError):
            return cause.server_message or one_line(cause)
        cause = cause.__cause__ or cause.__context__
    if "trust_remote_code" in str(error):
        return "it needs code that comes with it; read that code, then trust_remote_code=true runs it"
    return one_line(error)
