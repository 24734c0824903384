"""Errors where a model computes NaN or inf: they name the model and its dtype."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from shiftbench.engine.probability import NotFinite
from shiftbench.models import Model
from shiftbench.models.finite import not_finite_error


@contextmanager
def not_finite_as_input_error(model: Model, text: str) -> Iterator[None]:
    """Turn NotFinite, raised by the engine or by autograd, into an InputError that names the model and its dtype.

    text: what the model reads, for the message, as "prompt 'a'" or "one of the prompts".
    """
    try:
        yield
    except NotFinite as error:
        raise not_finite_error(model.name, model.dtype, f"{error}, on {text}") from error


def check_importance(importance: Tensor, model: Model, prompt: str) -> None:
    """Raise InputError where an importance is not finite. prompt: the prompt's id, for the message.

    Gradients can overflow although the logits are finite.
    """
    if not torch.isfinite(importance).all():
        what = f"the importance of the tokens of prompt {prompt!r} is not finite (NaN or inf)"
        raise not_finite_error(model.name, model.dtype, what)
