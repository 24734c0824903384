"""The engine's element-wise steps on rows, on a GPU. Parameters and results are those of the same function of `_C`."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from shiftbench import _C
from shiftbench.ops.cuda.launch import device_and_stream


def norm_derivative(d: Tensor, *rest: Any) -> None:
    """Derivative of a norm, of each row (_C.norm_derivative)."""
    _C.cuda.norm_derivative(d, *rest, *device_and_stream(d))


def rotary_derivative(x: Tensor, *rest: Any) -> None:
    """Rotary position embedding of each row, in place (_C.rotary_derivative)."""
    _C.cuda.rotary_derivative(x, *rest, *device_and_stream(x))


def activation_derivative(up: Tensor, *rest: Any) -> None:
    """Derivative of a gated activation, of each row, in place (_C.activation_derivative)."""
    _C.cuda.activation_derivative(up, *rest, *device_and_stream(up))
