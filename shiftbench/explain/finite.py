"""What a model computes must be finite; where it is not, the error names the model and its dtype."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from shiftbench.engine.probability import NotFinite
from shiftbench.models import Model
from shiftbench.models.finite import not_finite_error


@contextmanager
def finite(model: Model, text: str) -> Iterator[None]:
    """Turn NotFinite, raised by the engine or by autograd, into an InputError that names the model and its dtype.

    text: what the model reads, as "prompt 'a'" or "one of the prompts".
    """
    try:
        yield
    except NotFinite as error:
        raise not_finite_error(model.name, model.dtype, f"{error}, on {text}") from error


def check_importance(importance: Tensor, model: Model, prompt: str) -> None:
    """Raise InputError unless all importance is finite: gradients overflow where the logits still do not."""
    if not torch.isfinite(importance).all():
        what = f"the importance of the tokens of prompt {prompt!r} is not finite (NaN or inf)"
        raise not_finite_error(model.name, model.dtype, what)
