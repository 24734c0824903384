"""Resampled means on a GPU (shiftbench/ops/resampling.py)."""

from __future__ import annotations

import torch
from torch import Tensor

from shiftbench import _C
from shiftbench.ops.cuda.launch import device_and_stream


def bootstrap(value_N: Tensor, length_G: list[int], seed: int, mean_SG: Tensor) -> None:
    """Fills mean_SG with the mean of each stratum in each resample: the same bytes as _C.bootstrap."""
    _C.cuda.bootstrap(
        value_N, torch.tensor(length_G, device=value_N.device), seed, mean_SG, *device_and_stream(value_N)
    )
