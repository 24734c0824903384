"""Where a kernel is launched, and the counters in which it reports what it refuses."""

from __future__ import annotations

import torch
from torch import Tensor

from shiftbench import _C

NOTHING = -1  # all ones: no index has been refused


def serves(tensor: Tensor) -> bool:
    """Whether these functions compute on the tensor."""
    return tensor.is_cuda and _C.has_cuda


def launch_place(tensor: Tensor) -> tuple[int, int]:
    """The tensor's device and the stream that torch uses there. Emulated kernels have neither."""
    if not tensor.is_cuda:
        return 0, 0
    return tensor.device.index, torch.cuda.current_stream(tensor.device).cuda_stream


def no_refusal(like: Tensor, count: int = 1) -> Tensor:
    return torch.full((count,), NOTHING, dtype=torch.int64, device=like.device)
