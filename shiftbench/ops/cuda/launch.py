"""The device and stream of a kernel, and the counters in which kernels report what they refuse."""

from __future__ import annotations

import torch
from torch import Tensor

from shiftbench import _C

# A kernel lowers a counter to the smallest index that it refuses, compared as unsigned numbers. -1 is all ones, the
# largest.
NO_INDEX = -1


def serves(tensor: Tensor) -> bool:
    """Whether the functions of ops.cuda compute on the tensor: it is on a GPU, and the core was built with CUDA."""
    return tensor.is_cuda and _C.has_cuda


def device_and_stream(tensor: Tensor) -> tuple[int, int]:
    """(index of the tensor's device, handle of the stream that torch uses there).

    (0, 0) for a tensor on the CPU, which only the tests' emulated kernels get.
    """
    if not tensor.is_cuda:
        return 0, 0
    return tensor.device.index, torch.cuda.current_stream(tensor.device).cuda_stream


def refusal_counters(like: Tensor, count: int = 1) -> Tensor:
    """Counters for so many kinds of refused index, int64, on the device of `like`.

    One that is still -1 afterwards refused none.
    """
    return torch.full((count,), NO_INDEX, dtype=torch.int64, device=like.device)
