"""Importance of prompt tokens on a GPU; shiftbench/ops/importance.py says what the functions compute.

Those that return a number return the flat index of the first element that they refuse, or -1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from shiftbench import _C
from shiftbench.ops.cuda.launch import device_and_stream, refusal_counters


def grad_x_input(grad_RPD: Tensor, embedding_PD: Tensor, importance_PR: Tensor) -> None:
    """Fills importance_PR with the same bytes as _C.grad_x_input."""
    _C.cuda.grad_x_input(grad_RPD, embedding_PD, importance_PR, None, None, *device_and_stream(grad_RPD))


def importance_levels(importance_PR: Tensor, level_PR: Tensor, levels: int) -> int:
    """Fills level_PR with the same bytes as _C.importance_levels."""
    largest_R = torch.zeros(importance_PR.shape[1], dtype=torch.int64, device=importance_PR.device)
    refused = refusal_counters(importance_PR)
    _C.cuda.importance_levels(
        importance_PR, level_PR, levels, largest_R, refused, False, *device_and_stream(importance_PR)
    )
    return int(refused)


def importance_density(level_PR: Tensor, density_P: Tensor, cutoff: int, p: float) -> int:
    """Fills density_P as _C.importance_density does, except that powers are summed in another order."""
    ratio_P = torch.empty(len(level_PR), dtype=torch.float64, device=level_PR.device)
    refused = refusal_counters(level_PR)
    _C.cuda.importance_density(level_PR, ratio_P, density_P, cutoff, p, refused, *device_and_stream(level_PR))
    return int(refused)


def importance_density_from_grad(
    grad_RPD: Tensor, embedding_PD: Tensor, importance_PR: Tensor, level_PR: Tensor, density_P: Tensor,
    levels: int, cutoff: int, p: float,
) -> int:  # fmt: skip
    """Fills the three results as _C.importance_density_from_grad does.

    The kernel of gradient times input also finds the largest importance of each response token, so the kernel of levels
    need not read all importances for it.
    """
    largest_R = torch.zeros(len(grad_RPD), dtype=torch.int64, device=grad_RPD.device)
    refused, launch = refusal_counters(grad_RPD), device_and_stream(grad_RPD)
    ratio_P = torch.empty(len(density_P), dtype=torch.float64, device=grad_RPD.device)
    _C.cuda.grad_x_input(grad_RPD, embedding_PD, importance_PR, largest_R, refused, *launch)
    _C.cuda.importance_levels(importance_PR, level_PR, levels, largest_R, refused, True, *launch)
    _C.cuda.importance_density(level_PR, ratio_P, density_P, cutoff, p, refusal_counters(grad_RPD), *launch)
    return int(refused)
