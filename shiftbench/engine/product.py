"""The engine's matrix products: by the faster of the libraries that torch has for them, in the precision asked for.

torch.mm calls MKL, which leaves AVX-512 unused on a CPU that is not Intel's; oneDNN uses it on any.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from functools import cache, partial

import torch
from torch import Tensor

from shiftbench import _C
from shiftbench.models.block import Linear
from shiftbench.ops import cuda

# oneDNN makes a kernel for each number of rows that it meets, in milliseconds, and keeps it. Rows in multiples of this
# meet few.
STEP = 16


class Precision(Enum):
    """What the products of derivatives with weights are made from; all else is of the model's own dtype.

    FLOAT32: numbers as they are. TF32: those rounded to 10 bits by a GPU as it multiplies, inside `in_force`, and so in
    attention's own products of derivatives. BFLOAT16: those rounded to bfloat16, 7 bits, sums in float32.
    """

    FLOAT32 = "float32"
    TF32 = "tf32"
    BFLOAT16 = "bfloat16"

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """torch's own setting is as this precision wants it, in the block. On the CPU it means nothing to us."""
        if self is not Precision.TF32:
            yield
            return
        with cuda.float32_products(tf32=True):
            yield

    def along(self, x_NI: Tensor, linear: Linear) -> Tensor:
        """x_NI @ weight_IO: tangents of a linear map's output."""
        return _narrow(x_NI, linear.bfloat16_IO) if self is Precision.BFLOAT16 else product(x_NI, linear.weight_IO)

    def back(self, x_NO: Tensor, linear: Linear) -> Tensor:
        """x_NO @ weight_IO.T: cotangents of its input."""
        return _narrow(x_NO, linear.bfloat16_IO.T) if self is Precision.BFLOAT16 else product(x_NO, linear.weight_IO.T)

    def add_along(self, out_NO: Tensor, x_NI: Tensor, linear: Linear) -> Tensor:
        """out_NO, with `along` added in place."""
        if self is Precision.BFLOAT16:
            return out_NO.add_(self.along(x_NI, linear))
        return add_product(out_NO, x_NI, linear.weight_IO)

    def add_back(self, out_NI: Tensor, x_NO: Tensor, linear: Linear) -> Tensor:
        """out_NI, with `back` added in place."""
        if self is Precision.BFLOAT16:
            return out_NI.add_(self.back(x_NO, linear))
        return add_product(out_NI, x_NO, linear.weight_IO.T)


def padded(x_ND: Tensor, step: int = STEP) -> Tensor:
    """Rows of zeros behind the others, to a multiple of the step."""
    return torch.nn.functional.pad(x_ND, (0, 0, 0, -len(x_ND) % step))


def product(x_NI: Tensor, weight_IO: Tensor) -> Tensor:
    """x_NI @ weight_IO, on the dtypes and devices of torch.mm."""
    if _served(x_NI):
        out_NO: Tensor = torch.ops.mkldnn._linear_pointwise(x_NI, weight_IO.T, None, "none", [], "")
        return out_NO
    return x_NI @ weight_IO


def add_product(out_NO: Tensor, x_NI: Tensor, weight_IO: Tensor) -> Tensor:
    """out_NO, with x_NI @ weight_IO added in place."""
    if x_NI.is_cuda:
        return out_NO.addmm_(x_NI, weight_IO)
    return out_NO.add_(product(x_NI, weight_IO))


@contextmanager
def fast_linears(module: torch.nn.Module) -> Iterator[None]:
    """The module's linear layers multiply by the faster library too, in the block: a token at a time it reads weights
    nearly twice as fast here."""
    linears = [part for part in module.modules() if type(part) is torch.nn.Linear and _served(part.weight)]
    try:
        for linear in linears:
            linear.forward = partial(_linear, linear)  # type: ignore[method-assign]
        yield
    finally:
        for linear in linears:
            linear.__dict__.pop("forward", None)


def _linear(linear: torch.nn.Linear, x: Tensor) -> Tensor:
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, linear.weight, linear.bias, "none", [], "")
    return out


def _narrow(x_NI: Tensor, weight_IO: Tensor) -> Tensor:
    """Float32 of x_NI, rounded to the weight's bfloat16, times it."""
    x_NI = x_NI.to(torch.bfloat16)
    if x_NI.is_cuda and _has_wide_output():
        return torch.mm(x_NI, weight_IO, out_dtype=torch.float32)  # type: ignore[call-overload, no-any-return]
    return torch.mm(x_NI, weight_IO).float()  # rounded once more: the CPU's product returns what it is given


@cache
def _has_wide_output() -> bool:
    """Whether torch can return the sums of a narrow product as they are, which it does on CUDA from 2.8 on."""
    return "dtype" in torch.ops.aten.mm.overloads()


def _served(x: Tensor) -> bool:
    return x.dtype == torch.float32 and x.device.type == "cpu" and _onednn()


@cache
def _onednn() -> bool:
    """Whether torch has oneDNN's product, which is no public name of torch's, and it is the faster one here."""
    named = hasattr(torch.ops, "mkldnn") and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return named and torch.backends.mkldnn.is_available() and not _C.is_intel()
