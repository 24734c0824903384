"""Times principal components of down-projections (docs/mathematics.md) beside torch's singular value decomposition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from shiftbench.explain.feedforward import principal_components
from shiftbench.perf.agreement import Agreement
from tests.perf.benchmark_rounds import alternate
from tests.perf.models import smollm, wide_llama
from tests.perf.rows import ratio_rows
from tests.perf.targets import LAYER, WIDE_LAYER

pytestmark = pytest.mark.perf
RANK = 300


def svd(down_FD: Tensor) -> Tensor:
    """Right singular vectors of the centred rows, as the paper takes them."""
    return torch.linalg.svd(down_FD - down_FD.mean(0), full_matrices=False).Vh[:RANK]


def test_smollm(benchmark: Any, record: Callable[..., None]) -> None:
    """Three rounds on each of six layers. One round takes a tenth of a second, and its time varies by half."""
    views = smollm().views
    layers = [views.down_FD(layer).contiguous() for layer in range(0, views.layers, 5)]
    _compare(benchmark, record, LAYER, 3 * layers)


def test_layer_of_7b(benchmark: Any, record: Callable[..., None]) -> None:
    _compare(benchmark, record, WIDE_LAYER, [wide_llama().views.down_FD(0).contiguous()])


def _compare(benchmark: Any, record: Callable[..., None], name: str, layers: list[Tensor]) -> None:
    small = torch.randn(64, 32)
    principal_components(small, RANK), svd(small)
    compared = alternate(benchmark, lambda down_FD: principal_components(down_FD, RANK)[0], {"torch svd": svd}, layers)
    found = zip(compared.ours.results, compared.peers["torch svd"].results, strict=True)
    error_C = torch.cat([direction_error(mine_CD, theirs_CD) for mine_CD, theirs_CD in found])
    agreement = Agreement(
        f"{float(error_C.median()):.0e} (worst vector {float(error_C.max()):.0e})", float(error_C.median()) < 1e-2
    )
    notes = {"torch svd": f"float32; {RANK} components a layer; vectors up to sign, the spectrum is flat"}
    record(*ratio_rows("components", name, compared, {"torch svd": agreement}, notes))


def direction_error(mine_CD: Tensor, theirs_CD: Tensor) -> Tensor:
    """error_C: the distance of two unit vectors, up to sign."""
    theirs_CD = theirs_CD[: len(mine_CD)].double()
    sign_C1 = (mine_CD * theirs_CD).sum(1, keepdim=True).sign()
    return (mine_CD - sign_C1 * theirs_CD).norm(dim=1)
