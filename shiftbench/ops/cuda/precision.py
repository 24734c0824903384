"""The precision of float32 matrix products on a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

# Of a float32 that becomes TF32 this much is lost at most, relatively: 10 bits of its fraction stay.
TF32 = 2.0**-10


@contextmanager
def float32_products(tf32: bool) -> Iterator[None]:
    """Whether torch makes float32 products of TF32 ones on a GPU, in the block."""
    matmul: Any = torch.backends.cuda.matmul
    newer = getattr(matmul, "fp32_precision", None)  # torch has it from 2.9 on, beside the other
    try:
        older = torch.get_float32_matmul_precision()
    except RuntimeError:  # where a caller has set the newer, the older may not be read
        older = None
    try:
        if older is None:
            matmul.fp32_precision = "tf32" if tf32 else "ieee"
        else:
            torch.set_float32_matmul_precision("high" if tf32 else "highest")
        yield
    finally:
        if older is not None:
            torch.set_float32_matmul_precision(older)
        if newer is not None:
            matmul.fp32_precision = newer
