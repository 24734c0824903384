"""Random changes of a weight tensor, as large as the change that tuning made (docs/controls.md)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from shiftbench.stats import random_orthonormal

# Called with (tuning's change of one tensor in float64, random generator, Frobenius norm of the rounding errors in that
# change), it returns a random change of the same shape and, up to those rounding errors, the same Frobenius norm.
Drawing = Callable[[Tensor, torch.Generator, float], Tensor]

# Columns of the first sketch of a change. They are doubled until the sketch spans the change. An adapter's change
# mostly has a rank of 8 to 64.
FIRST_RANK = 16


def permuted(change: Tensor, generator: torch.Generator, rounding: float) -> Tensor:
    """The values of the change, in random places."""
    order = torch.randperm(change.numel(), generator=generator).to(change.device)
    return change.flatten()[order].view_as(change)


def gaussian(change: Tensor, generator: torch.Generator, rounding: float) -> Tensor:
    """Normally distributed numbers, scaled to the Frobenius norm of the change."""
    noise = torch.randn(change.shape, generator=generator, dtype=torch.float64).to(change.device)
    size = noise.norm()
    return noise * (change.norm() / size) if size > 0 else noise


def rotated(change: Tensor, generator: torch.Generator, rounding: float) -> Tensor:
    """The change U S V^T with U and V replaced by random orthonormal ones; a vector is permuted.

    The singular values S stay, each up to an error of `rounding`. The new U and V are uniformly distributed (Haar). A
    tensor with more than two dimensions is taken as a matrix with a row for each index of its first dimension.

    The singular value decomposition is not computed. A change U S V^T equals A C B^T for orthonormal A and B and a
    K x K matrix C with the same singular values (`core`), and random orthonormal A and B make random U and V.
    """
    if change.ndim < 2:
        return permuted(change, generator, rounding)
    matrix = change.flatten(1)
    core_KK = core(matrix, rounding)
    left, right = (random_orthonormal(size, len(core_KK), generator).to(matrix) for size in matrix.shape)
    return (left @ core_KK @ right.T).view_as(change)


def core(matrix: Tensor, rounding: float) -> Tensor:
    """core_KK: a square matrix with the K largest singular values of `matrix`, each up to an error of `rounding`.

    The singular values of `matrix` that core_KK lacks are at most `rounding`. matrix: float64. K: the first of
    FIRST_RANK, twice that, four times that and so on with which the product of `matrix` and K random vectors spans it
    up to a remainder of Frobenius norm `rounding` (Halko, Martinsson and Tropp 2011, algorithm 4.2). Where that takes
    more than half of the smaller side, K is the smaller side and all singular values are kept.
    """
    tall = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
    width = FIRST_RANK
    while width <= tall.shape[1] // 2:
        # The singular values depend on the sketch by at most `rounding`, so that all draws can use the same one.
        sketch = torch.randn(tall.shape[1], width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        basis = torch.linalg.qr(tall @ sketch.to(tall)).Q
        rows = basis.T @ tall
        if float((tall - basis @ rows).norm()) <= rounding:
            return _triangle(rows.T)
        width *= 2
    return _triangle(tall)


def _triangle(tall: Tensor) -> Tensor:
    """The square matrix R of the QR decomposition of a matrix that is at least as high as wide."""
    found: Tensor = torch.linalg.qr(tall, mode="r").R
    return found


DRAWINGS: dict[str, Drawing] = {"permuted": permuted, "gaussian": gaussian, "rotated": rotated}
