"""The engine's element-wise steps on rows, on a GPU. Parameters and results are those of the same function of `_C`."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from shiftbench import _C
from shiftbench.ops.cuda.launch import device_and_stream


def norm_rows(d: Tensor, *rest: Any) -> None:
    """Derivative of a norm, of each row (_C.norm_rows)."""
    _C.cuda.norm_rows(d, *rest, *device_and_stream(d))


def rotate_rows(x: Tensor, *rest: Any) -> None:
    """Rotary position embedding of each row, in place (_C.rotate_rows)."""
    _C.cuda.rotate_rows(x, *rest, *device_and_stream(x))


def gate_rows(up: Tensor, *rest: Any) -> None:
    """Derivative of a gated activation, of each row, in place (_C.gate_rows)."""
    _C.cuda.gate_rows(up, *rest, *device_and_stream(up))
