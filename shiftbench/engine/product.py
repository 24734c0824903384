"""The engine's matrix products, by the faster of the libraries that torch has for them.

torch.mm calls MKL, which leaves AVX-512 unused on a CPU that is not Intel's; oneDNN uses it on any.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from shiftbench import _C

# oneDNN makes a kernel for each number of rows that it meets, in milliseconds, and keeps it. Rows in multiples of this
# meet few.
STEP = 16


def product(x_NI: Tensor, weight_IO: Tensor) -> Tensor:
    """x_NI @ weight_IO, on the dtypes and devices of torch.mm."""
    if x_NI.dtype == torch.float32 and x_NI.device.type == "cpu" and _onednn():
        out_NO: Tensor = torch.ops.mkldnn._linear_pointwise(x_NI, weight_IO.T, None, "none", [], "")
        return out_NO
    return x_NI @ weight_IO


def add_product(out_NO: Tensor, x_NI: Tensor, weight_IO: Tensor) -> Tensor:
    """out_NO, with x_NI @ weight_IO added in place."""
    if x_NI.is_cuda:
        return out_NO.addmm_(x_NI, weight_IO)
    return out_NO.add_(product(x_NI, weight_IO))


@cache
def _onednn() -> bool:
    """Whether torch has oneDNN's product, which is no public name of torch's, and it is the faster one here."""
    named = hasattr(torch.ops, "mkldnn") and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return named and torch.backends.mkldnn.is_available() and not _C.is_intel()
