"""What all ops share: how they become torch operators, the checks of arguments, and the choice of CPU or GPU.

Each op is a torch operator, torch.ops.shiftbench.<name>. So torch.compile and torch.export see an op as one node of
their graph, and know the shapes of its results without running it; a size that depends on values is a symbol there.
The module of an op defines three functions (some have a shorter NAME after the underscore):

    NAME         the public function: checks the devices and calls the torch operator
    _empty_NAME  checks shapes and dtypes, and allocates the results; torch calls it alone where it only traces
                 (_fake_NAME where the size of the results depends on the values; only torch calls that)
    _NAME        what the operator runs: allocates the results and calls the compiled core
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
    """Let the functions of shiftbench.ops use up to `count` threads on a CPU, in the whole process.

    Before the first call the number is that of the threads that the machine runs at once. No result depends on it.
    The engine uses it for decoding only; its other steps use torch's number of threads, or one. Raises InputError where
    count is below 1.
    """
    if count < 1:
        raise InputError(f"set_threads: count must be at least 1, got {count}")
    _C.set_threads(count)


def get_threads() -> int:
    """The most threads that a function of shiftbench.ops uses on a CPU (`set_threads`)."""
    return _C.get_threads()


def to_supported_device(tensor: Tensor) -> Tensor:
    """The tensor itself if it is on the CPU, or on a GPU and the core was built with CUDA; else a copy on the CPU."""
    return tensor if cuda.serves(tensor) else tensor.cpu()


_library = torch.library.Library("shiftbench", "DEF")
IMPLEMENTATIONS: dict[str, Callable[..., Any]] = {}  # the function that each operator runs, by the operator's name


def call(op: str, *numbers: float | list[int], **tensors: Tensor) -> Any:
    """What the torch operator torch.ops.shiftbench.<op> returns: a tensor, or a tuple of tensors.

    tensors: the operator's tensor arguments by the names of its parameters, in their order; the operator gets them
    detached from autograd's graph. numbers: the operator's other arguments, which come after its tensors. Raises
    InputError where one of `tensors` is no tensor, where they are not all on one device, or where the core does not
    compute on that device.
    """
    devices: dict[torch.device, str] = {}
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise InputError(f"{op}: {name} must be a tensor, got {type(tensor).__name__}")
        devices.setdefault(tensor.device, name)
        if tensor.device.type != "cpu" and not cuda.serves(tensor):
            raise InputError(f"{op}: {name} is on {tensor.device}, and {_why_unsupported(tensor)}; pass {name}.cpu()")
    if len(devices) > 1:
        places = ", ".join(f"{name} on {device}" for device, name in devices.items())
        raise InputError(f"{op}: the tensors must be on one device, got {places}")
    return getattr(torch.ops.shiftbench, op)(*(tensor.detach() for tensor in tensors.values()), *numbers)


def _why_unsupported(tensor: Tensor) -> str:
    """Why the core does not compute on the tensor's device, as part of a message."""
    if tensor.is_cuda:
        return "this build of shiftbench has no CUDA (build it with SHIFTBENCH_CUDA=ON, which needs nvcc)"
    return "shiftbench computes on CPUs and on CUDA devices"


def core_of(tensor: Tensor) -> ModuleType:
    """The module whose functions compute on the tensor's device: `_C` on a CPU, shiftbench.ops.cuda on a GPU.

    The functions that ops call have the same names and arguments in both modules.
    """
    return cuda if tensor.is_cuda else _C


def operator(schema: str, empty: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator that registers a function as a torch operator for CPU and CUDA, and returns the function unchanged.

    schema: the operator's name, parameters and results, in torch's notation. empty: a function of the same arguments
    that checks them and allocates the results; torch calls it in place of the operator where it only traces.
    """

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
    """The dtype of an op's floating-point results where this argument decides it: float64 for float64, else float32."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def check_tensor(op: str, name: str, tensor: Tensor, dimensions: str, dtypes: tuple[torch.dtype, ...] = FLOATS) -> None:
    """Raise InputError where a tensor's number of dimensions or its dtype is wrong.

    op, name: the names of the op and of its parameter, for the message. dimensions: what each dimension counts, with
    commas between, as "words, model width" for a tensor that must have two. dtypes: those that are allowed.
    """
    count = dimensions.count(",") + 1
    if tensor.dim() != count:
        raise InputError(f"{op}: {name} must have {count} dimensions ({dimensions}), got shape {tuple(tensor.shape)}")
    if tensor.dtype not in dtypes:
        known = ", ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
        raise InputError(f"{op}: {name} must be one of {known}, got {tensor.dtype}")


def contiguous_rows(tensor: Tensor) -> Tensor:
    """The tensor itself if the stride of its last dimension is 1, which the core needs; else a contiguous copy."""
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()
