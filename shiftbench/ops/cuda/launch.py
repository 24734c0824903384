"""The device and stream of a kernel, and the counters in which kernels report what they refuse."""

from __future__ import annotations

import torch
from torch import Tensor

from shiftbench import _C

# What a counter holds if no index is refused. A kernel sets a counter to the minimum of it and each index that it
# refuses, as unsigned numbers. -1 has all bits set, so it is the largest of them.
NO_INDEX = -1


def serves(tensor: Tensor) -> bool:
    """Whether the functions of ops.cuda compute on the tensor: it is on a GPU, and the core was built with CUDA."""
    return tensor.is_cuda and _C.has_cuda


def device_and_stream(tensor: Tensor) -> tuple[int, int]:
    """(the index of the tensor's GPU, the address of the stream that torch uses there): the last arguments of a kernel.

    (0, 0) for a tensor on the CPU, which only the tests' emulated kernels get.
    """
    if not tensor.is_cuda:
        return 0, 0
    return tensor.device.index, torch.cuda.current_stream(tensor.device).cuda_stream


def refusal_counters(like: Tensor, count: int = 1) -> Tensor:
    """int64 [count] of -1, on the device of `like`, in which a kernel reports the lowest index that it refuses.

    There is one counter for each kind of index. A counter that is still -1 after the kernel says that no index of its
    kind was refused.
    """
    return torch.full((count,), NO_INDEX, dtype=torch.int64, device=like.device)
