"""What every op has in common: its torch operator, the checks of its arguments, and the choice of CPU or GPU.

Each op is a torch operator, torch.ops.shiftbench.<name>, so that torch.compile and torch.export see one node whose
results' shapes they know without running it. An op's module defines a checked public function, a function that checks
shapes and allocates results (all that there is to do where torch only traces), and the operator that calls the core.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from shiftbench import _C
from shiftbench.errors import InputError
from shiftbench.ops import cuda

FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def set_threads(count: int) -> None:
    """Let the core use `count` threads (at first: as many as the machine runs at once). No result depends on it."""
    if count < 1:
        raise InputError(f"set_threads: count must be at least 1, got {count}")
    _C.set_threads(count)


def get_threads() -> int:
    """The number of threads the core uses."""
    return _C.get_threads()


def to_supported_device(tensor: Tensor) -> Tensor:
    """The tensor where these functions can compute on it: where it is, or on the CPU."""
    return tensor if cuda.serves(tensor) else tensor.cpu()


_library = torch.library.Library("shiftbench", "DEF")
IMPLEMENTATIONS: dict[str, Callable[..., Any]] = {}  # the function that each operator calls, by the operator's name


def call(op: str, *numbers: float | list[int], **tensors: Tensor) -> Any:
    """The torch operator, on tensors of one device without their graphs."""
    devices: dict[torch.device, str] = {}
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise InputError(f"{op}: {name} must be a tensor, got {type(tensor).__name__}")
        devices.setdefault(tensor.device, name)
        if tensor.device.type != "cpu" and not cuda.serves(tensor):
            raise InputError(f"{op}: {name} is on {tensor.device}, and {_why_not(tensor)}; pass {name}.cpu()")
    if len(devices) > 1:
        places = ", ".join(f"{name} on {device}" for device, name in devices.items())
        raise InputError(f"{op}: the tensors must be on one device, got {places}")
    return getattr(torch.ops.shiftbench, op)(*(tensor.detach() for tensor in tensors.values()), *numbers)


def _why_not(tensor: Tensor) -> str:
    if tensor.is_cuda:
        return "this build of shiftbench has no CUDA (build it with SHIFTBENCH_CUDA=ON, which needs nvcc)"
    return "shiftbench computes on CPUs and on CUDA devices"


def core_of(tensor: Tensor) -> ModuleType:
    """The core that computes where the tensor is."""
    return cuda if tensor.is_cuda else _C


def operator(schema: str, empty: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Makes the decorated function a torch operator. `empty` checks its arguments and allocates its results; where
    torch only traces, that is all there is to do."""

    def register(compute: Callable[..., Any]) -> Callable[..., Any]:
        _library.define(schema, tags=torch.Tag.pt2_compliant_tag)
        name = schema.partition("(")[0]
        for device in ("CPU", "CUDA"):
            _library.impl(name, compute, device)
        torch.library.register_fake(f"shiftbench::{name}", empty, lib=_library)
        IMPLEMENTATIONS[name] = compute
        return compute

    return register


def result_dtype(tensor: Tensor) -> torch.dtype:
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def check_tensor(op: str, name: str, tensor: Tensor, dimensions: str, dtypes: tuple[torch.dtype, ...] = FLOATS) -> None:
    count = dimensions.count(",") + 1
    if tensor.dim() != count:
        raise InputError(f"{op}: {name} must have {count} dimensions ({dimensions}), got shape {tuple(tensor.shape)}")
    if tensor.dtype not in dtypes:
        known = ", ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
        raise InputError(f"{op}: {name} must be one of {known}, got {tensor.dtype}")


def contiguous_rows(tensor: Tensor) -> Tensor:
    """The tensor as the core reads it: each row contiguous."""
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()
