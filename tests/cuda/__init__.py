"""Tests that need the GPU's kernels, on a GPU or emulated."""

import pytest
import torch

from shiftbench import _C

_missing = (
    "this core has no kernels for GPUs; make test-cuda builds them"
    if not hasattr(_C, "cuda")
    else "the core is built for GPUs and this machine has none"
)
needs_kernels = pytest.mark.skipif(
    not hasattr(_C, "cuda") or (_C.has_cuda and not torch.cuda.is_available()), reason=_missing
)
