"""Resampled means, on a GPU."""

from __future__ import annotations

import torch
from torch import Tensor

from shiftbench import _C
from shiftbench.ops.cuda.launch import launch_place


def bootstrap(value_N: Tensor, length_G: list[int], seed: int, mean_SG: Tensor) -> None:
    """As _C.bootstrap, to the last bit."""
    _C.cuda.bootstrap(value_N, torch.tensor(length_G, device=value_N.device), seed, mean_SG, *launch_place(value_N))
