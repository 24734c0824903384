"""The engine's matrix products: which of torch's libraries computes them, and in which precision.

On a CPU torch.mm calls MKL, which leaves AVX-512 unused where the CPU is not Intel's. oneDNN uses it on any CPU that
has it.
Shape suffixes: see shiftbench/engine/__init__.py.
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

# Texts and the matrices of derivatives are padded to a multiple of STEP rows. oneDNN compiles a kernel for each number
# of rows, which takes milliseconds, and keeps the kernel; with padding there are fewer different numbers of rows.
STEP = 16


class Precision(Enum):
    """Precision of the products of derivatives. Everything else is computed in the model's own dtype.

    FLOAT32: operands are multiplied as they are. TF32: inside `torch_setting` a GPU rounds the operands of all float32
    products, those of attention included, to 10 bits of their fraction; outside it, it is FLOAT32. BFLOAT16: the
    operands of products with weights are rounded to bfloat16 (7 bits of their fraction), and the sums are float32;
    where torch cannot return these (`_has_float32_output`), and on a CPU, they are rounded to bfloat16 once more.
    """

    FLOAT32 = "float32"
    TF32 = "tf32"
    BFLOAT16 = "bfloat16"

    @contextmanager
    def torch_setting(self) -> Iterator[None]:
        """Switches torch's own TF32 setting on within the block if this is TF32, and restores it afterwards.

        The other precisions leave the setting alone.
        """
        if self is not Precision.TF32:
            yield
            return
        with cuda.float32_products(tf32=True):
            yield

    def linear_jvp(self, x_NI: Tensor, linear: Linear) -> Tensor:
        """Tangents [N, O] of a linear map's output: x_NI @ weight_IO."""
        return (
            _bfloat16_product(x_NI, linear.bfloat16_IO)
            if self is Precision.BFLOAT16
            else product(x_NI, linear.weight_IO)
        )

    def linear_vjp(self, x_NO: Tensor, linear: Linear) -> Tensor:
        """Cotangents [N, I] of a linear map's input: x_NO @ weight_IO.T."""
        if self is Precision.BFLOAT16:
            return _bfloat16_product(x_NO, linear.bfloat16_IO.T)
        return product(x_NO, linear.weight_IO.T)

    def add_linear_jvp(self, out_NO: Tensor, x_NI: Tensor, linear: Linear) -> Tensor:
        """out_NO, to which the tangents of `linear_jvp` are added in place."""
        if self is Precision.BFLOAT16:
            return out_NO.add_(self.linear_jvp(x_NI, linear))
        return add_product(out_NO, x_NI, linear.weight_IO)

    def add_linear_vjp(self, out_NI: Tensor, x_NO: Tensor, linear: Linear) -> Tensor:
        """out_NI, to which the cotangents of `linear_vjp` are added in place."""
        if self is Precision.BFLOAT16:
            return out_NI.add_(self.linear_vjp(x_NO, linear))
        return add_product(out_NI, x_NO, linear.weight_IO.T)


def pad_rows(x_ND: Tensor, step: int = STEP) -> Tensor:
    """x_ND with rows of zeros appended until their number is a multiple of `step`."""
    return torch.nn.functional.pad(x_ND, (0, 0, 0, -len(x_ND) % step))


def product(x_NI: Tensor, weight_IO: Tensor) -> Tensor:
    """x_NI @ weight_IO, for the dtypes and devices that torch.mm supports.

    oneDNN computes it in float32 on a CPU where that is faster (`_has_onednn`), torch.mm everywhere else.
    """
    if _uses_onednn(x_NI):
        out_NO: Tensor = torch.ops.mkldnn._linear_pointwise(x_NI, weight_IO.T, None, "none", [], "")
        return out_NO
    return x_NI @ weight_IO


def add_product(out_NO: Tensor, x_NI: Tensor, weight_IO: Tensor) -> Tensor:
    """out_NO, to which x_NI @ weight_IO is added in place."""
    if x_NI.is_cuda:
        return out_NO.addmm_(x_NI, weight_IO)
    return out_NO.add_(product(x_NI, weight_IO))


@contextmanager
def fast_linears(module: torch.nn.Module) -> Iterator[None]:
    """Within the block the module's torch.nn.Linear layers multiply by oneDNN, if they are float32 and on a CPU.

    Layers of a class that is derived from torch.nn.Linear are left alone. A decoding step with one token is limited by
    reading the weights, and oneDNN reads them nearly twice as fast as MKL on the machines that we measured. On CPUs
    where `_has_onednn` is false nothing is changed.
    """
    linears = [part for part in module.modules() if type(part) is torch.nn.Linear and _uses_onednn(part.weight)]
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


def _bfloat16_product(x_NI: Tensor, weight_IO: Tensor) -> Tensor:
    """x_NI @ weight_IO as float32, with x_NI rounded to bfloat16. weight_IO: bfloat16."""
    x_NI = x_NI.to(torch.bfloat16)
    if x_NI.is_cuda and _has_float32_output():
        return torch.mm(x_NI, weight_IO, out_dtype=torch.float32)
    return torch.mm(x_NI, weight_IO).float()  # this product returns bfloat16, so its result is rounded once more


@cache
def _has_float32_output() -> bool:
    """Whether torch can return the float32 sums of a bfloat16 product; on CUDA it can since torch 2.8."""
    return "dtype" in torch.ops.aten.mm.overloads()


def _uses_onednn(x: Tensor) -> bool:
    return x.dtype == torch.float32 and x.device.type == "cpu" and _has_onednn()


@cache
def _has_onednn() -> bool:
    """Whether torch has oneDNN's product (by a name that is not public) and can use it, and the CPU is not Intel's.

    On CPUs of Intel MKL is taken, which uses AVX-512 there.
    """
    named = hasattr(torch.ops, "mkldnn") and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return named and torch.backends.mkldnn.is_available() and not _C.is_intel()
