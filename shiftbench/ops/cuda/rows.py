"""Element-wise steps of the engine's rows, on a GPU."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from shiftbench import _C
from shiftbench.ops.cuda.launch import launch_place

Rows = tuple[Tensor, Tensor]


def norm_rows(d: Tensor, *rest: Any) -> None:
    """As _C.norm_rows."""
    _C.cuda.norm_rows(d, *rest, *launch_place(d))


def rotate_rows(x: Tensor, *rest: Any) -> None:
    """As _C.rotate_rows."""
    _C.cuda.rotate_rows(x, *rest, *launch_place(x))


def gate_rows(up: Tensor, *rest: Any) -> None:
    """As _C.gate_rows."""
    _C.cuda.gate_rows(up, *rest, *launch_place(up))
