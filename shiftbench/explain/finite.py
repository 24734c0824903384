"""Numbers of a model that are not finite: an error that says in which dtype the model would give finite ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from shiftbench.engine.probability import NotFinite
from shiftbench.errors import InputError
from shiftbench.models import Model

# Of a dtype: what to type instead. Half precision overflows at 65,504; bfloat16 has the range of float32.
REMEDIES = {
    "float16": "float16 overflows at 65,504; use dtype=bfloat16 or dtype=float32",
    "bfloat16": "use dtype=float32",
    "float32": "use dtype=float64; if that gives NaN or inf too, its weights or its config.json are damaged",
}
DAMAGED = "its weights or its config.json are damaged"


@contextmanager
def finite(model: Model, text: str) -> Iterator[None]:
    """Turn NotFinite, raised by the engine or by autograd, into an InputError that names the model and its dtype.

    text: what the model reads, as "prompt 'a'" or "these prompts".
    """
    try:
        yield
    except NotFinite as error:
        raise not_finite(model, f"{error}, on {text}") from error


def check_importance(importance: Tensor, model: Model, prompt: str) -> None:
    """Raise InputError unless all importance is finite: gradients overflow where the logits still do not."""
    if not torch.isfinite(importance).all():
        raise not_finite(model, f"the importance of prompt {prompt!r} is not finite (NaN or inf)")


def not_finite(model: Model, what: str) -> InputError:
    """The error: which model, in which dtype, what was not finite and what to type."""
    return InputError(f"{model.name} in {model.dtype}: {what}; {REMEDIES.get(model.dtype, DAMAGED)}")
