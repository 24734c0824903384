"""The precision of float32 matrix products on a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

# The largest relative error of a float32 number that is cut to TF32, which keeps 10 bits of the number's fraction.
TF32_ERROR = 2.0**-10


@contextmanager
def float32_products(tf32: bool) -> Iterator[None]:
    """A context in which torch computes float32 matrix products on a GPU in TF32 if `tf32`, else in full float32.

    Both of torch's settings for this are restored at the end.
    """
    matmul: Any = torch.backends.cuda.matmul
    newer = getattr(matmul, "fp32_precision", None)  # the newer setting, which torch has since 2.9
    try:
        older = torch.get_float32_matmul_precision()
    except RuntimeError:  # torch refuses to read the older setting where a caller has set the newer one
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
