"""What transformers and the hub say, made quiet while all is well and one line when it is not."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from huggingface_hub.errors import HfHubHTTPError
from safetensors import SafetensorError
from transformers.utils import logging

from shiftbench.errors import InputError


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
    """Turn a library's refusal to read something into an InputError of one line that starts with `what`."""
    try:
        with quiet():
            yield
    except (InputError, torch.OutOfMemoryError):
        raise
    except (OSError, ValueError, RuntimeError, ImportError, KeyError, SafetensorError) as error:
        raise InputError(f"{what}: {reason(error)}") from error


def reason(error: BaseException) -> str:
    """What went wrong, in one line: the hub's own words where it refused, else the first line of the message."""
    cause: BaseException | None = error
    message = str(error)
    while cause is not None:
        if isinstance(cause, HfHubHTTPError):
            message = cause.server_message or str(cause)
            break
        cause = cause.__cause__ or cause.__context__
    if "trust_remote_code" in message:
        return "it needs code that comes with it; read that code, then trust_remote_code=true runs it"
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
