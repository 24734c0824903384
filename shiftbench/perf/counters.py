"""Counts what a call computes while it runs on one thread.

Counted are the layers that forward passes go through, the operations of matrix products, and the bytes of the
activations that are kept or of the results that are allocated. The counts do not depend on time or on the CPU, so they
are equal on all machines with the same versions of libraries.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from shiftbench.engine import core_calls, segmented_forward
from shiftbench.engine.forward import forward
from shiftbench.engine.forward_cache import LayerCache
from shiftbench.engine.schedule import threads_each
from shiftbench.ops.operators import IMPLEMENTATIONS

Counts = Mapping[str, int]


class Products(TorchDispatchMode):
    """Counts the FLOPs of torch's matrix products on this thread, including those inside our own operators."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch gives this method no types
        self.flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # Torch shows an operator of ours as one call, without the products inside. So its function is called here.
        if func.namespace == "shiftbench":
            with self:
                return IMPLEMENTATIONS[func._schema.name.split("::")[1]](*args, **(kwargs or {}))
        out = func(*args, **(kwargs or {}))
        packet = func._overloadpacket
        if packet in flop_registry:
            self.flops += int(flop_registry[packet](*args, **(kwargs or {}), out_val=out))
        elif func._schema.name == "mkldnn::_linear_pointwise":  # the engine's product, computed by oneDNN
            self.flops += 2 * args[0].numel() * args[1].shape[0]
        return out


def flops(call: Callable[[], Any]) -> Counts:
    """{"flops": N}, the floating-point operations of matrix products in the call.

    Counted are torch's products, and the products with merged gate and up-projections that the engine computes in the
    core; the core's other products are not. A multiplication with an addition counts as two operations.
    """
    merged = 0

    def gate_up_derivative(cache: Any, inner: Any, x: Tensor, *given: Any, **options: Any) -> Tensor:
        nonlocal merged
        merged += 2 * len(x) * inner.up.weight_IO.numel()
        return original(cache, inner, x, *given, **options)

    original = core_calls.gate_up_derivative
    with threads_each(1), patch.object(core_calls, "gate_up_derivative", gate_up_derivative), Products() as products:
        call()
    return {"flops": products.flops + merged}


def attribution(call: Callable[[], Any]) -> Counts:
    """{"layers_forward", "flops", "bytes_kept"} of a call of the engine.

    layers_forward: the number of layers that forward passes went through. A layer that is computed again, because not
    all activations fit into memory, counts again. flops: as `flops` counts them. bytes_kept: the bytes of activations
    that the forward pass keeps of a segment, for the segment with the most.
    """
    with _segments() as runs:
        counted = flops(call)
    return {
        "layers_forward": sum(count for count, _ in runs),
        **counted,
        "bytes_kept": max((kept for _, kept in runs), default=0),
    }


@contextmanager
def _segments() -> Iterator[list[tuple[int, int]]]:
    """Gives the block a list, to which each segment that the engine runs forward adds an element.

    The element is (number of layers of the segment, bytes of the forward cache that is kept of them, which may be 0).
    """
    runs: list[tuple[int, int]] = []

    def counted(model: Any, x_TD: Tensor, blocks: Any, keep: bool = True) -> tuple[list[LayerCache], Tensor]:
        found = forward(model, x_TD, blocks, keep)
        runs.append((len(blocks), _bytes(found[0])))
        return found

    with patch.object(segmented_forward, "forward", counted):
        yield runs


def _bytes(kept: list[LayerCache]) -> int:
    """The bytes of the distinct storages of the kept tensors, without the model's weights."""
    found: dict[int, int] = {}
    for block in kept:
        for field in dataclasses.fields(block):
            if field.name != "block":
                _collect(getattr(block, field.name), found)
    return sum(found.values())


def _collect(part: Any, found: dict[int, int]) -> None:
    """Add the storages of all tensors in `part`, but those of weights, to `found`: address -> bytes."""
    if isinstance(part, Tensor):
        found[part.untyped_storage().data_ptr()] = part.untyped_storage().nbytes()
    elif isinstance(part, tuple):
        for each in part:
            _collect(each, found)
    elif dataclasses.is_dataclass(part):
        for field in dataclasses.fields(part):
            if field.name not in ("spec", "norm"):
                _collect(getattr(part, field.name), found)


class Allocations(Products):
    """Counts FLOPs as Products does, and the bytes that torch allocates for results.

    A result that shares its memory with an argument, such as a view, needs no allocation and does not count.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = super().__torch_dispatch__(func, types, args, kwargs)
        if func.namespace != "shiftbench":
            given = {_storage_address(each) for each in torch.utils._pytree.tree_leaves((args, kwargs))} - {None}
            for each in torch.utils._pytree.tree_leaves(out):
                if isinstance(each, Tensor) and _storage_address(each) not in given:
                    self.bytes += each.untyped_storage().nbytes()
        return out


def _storage_address(each: Any) -> int | None:
    return each.untyped_storage().data_ptr() if isinstance(each, Tensor) else None


def allocations(call: Callable[[], Any]) -> Counts:
    """{"flops", "bytes_allocated"} of a call. Results of its steps count in the bytes too, also if they are freed."""
    with threads_each(1), Allocations() as counted:
        call()
    return {"flops": counted.flops, "bytes_allocated": counted.bytes}
