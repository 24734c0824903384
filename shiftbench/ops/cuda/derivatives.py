"""The engine's derivatives of norms, rotary embeddings and activations on a GPU.

Each function has the parameters of the function of `_C` with its name and writes its result into the same tensors.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from shiftbench import _C
from shiftbench.ops.cuda.launch import device_and_stream


def norm_derivative(d: Tensor, *rest: Any) -> None:
    """Writes the derivative of a norm into `out`, one of `rest`, for the tangents or cotangents in d's rows."""
    _C.cuda.norm_derivative(d, *rest, *device_and_stream(d))


def rotary_derivative(x: Tensor, *rest: Any) -> None:
    """Rotates the tangents or cotangents x in place, each row by the angles of its position or by their negatives.

    They are the negatives where `inverse`, the last of `rest`, is True.
    """
    _C.cuda.rotary_derivative(x, *rest, *device_and_stream(x))


def activation_derivative(up: Tensor, *rest: Any) -> None:
    """Writes the derivative of a feed-forward network's activation over `up`, and for cotangents also over `gate`.

    `gate` is the first of `rest`; it is None where the network has no gate.
    """
    _C.cuda.activation_derivative(up, *rest, *device_and_stream(up))
