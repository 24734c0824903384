"""Importance of prompt tokens on a GPU; shiftbench/ops/importance.py says what the functions compute.

The functions that return an int return the lowest flat index p * R + r of an importance or level that they refuse, or
-1 if there is none. If there is one, their results are undefined.
"""

from __future__ import annotations

import torch
from torch import Tensor

from shiftbench import _C
from shiftbench.ops.cuda.launch import device_and_stream, refusal_counters


def grad_x_input(grad_RPD: Tensor, embedding_PD: Tensor, importance_PR: Tensor) -> None:
    """Fills importance_PR with gradient times input, summed over D: the same bytes as _C.grad_x_input."""
    _C.cuda.grad_x_input(grad_RPD, embedding_PD, importance_PR, None, None, *device_and_stream(grad_RPD))


def importance_levels(importance_PR: Tensor, level_PR: Tensor, levels: int) -> int:
    """Fills level_PR with the same bytes as _C.importance_levels. Refuses an importance that is not finite."""
    largest_R = torch.zeros(importance_PR.shape[1], dtype=torch.int64, device=importance_PR.device)
    refused = refusal_counters(importance_PR)
    _C.cuda.importance_levels(
        importance_PR, level_PR, levels, largest_R, refused, False, *device_and_stream(importance_PR)
    )
    return int(refused)


def importance_density(level_PR: Tensor, density_P: Tensor, cutoff: int, p: float) -> int:
    """Fills density_P as _C.importance_density does, except that levels and their powers are summed in another order.

    Refuses a level that is negative or not finite.
    """
    ratio_P = torch.empty(len(level_PR), dtype=torch.float64, device=level_PR.device)
    refused = refusal_counters(level_PR)
    _C.cuda.importance_density(level_PR, ratio_P, density_P, cutoff, p, refused, *device_and_stream(level_PR))
    return int(refused)


def importance_density_from_grad(
    grad_RPD: Tensor, embedding_PD: Tensor, importance_PR: Tensor, level_PR: Tensor, density_P: Tensor,
    levels: int, cutoff: int, p: float,
) -> int:  # fmt: skip
    """Fills importance_PR, level_PR and density_P as the three functions above do one after another.

    The kernel of gradient times input also finds the largest importance of each response token, so the importances need
    not be read once more for it. Refuses an importance that is not finite.
    """
    largest_R = torch.zeros(len(grad_RPD), dtype=torch.int64, device=grad_RPD.device)
    refused, launch = refusal_counters(grad_RPD), device_and_stream(grad_RPD)
    ratio_P = torch.empty(len(density_P), dtype=torch.float64, device=grad_RPD.device)
    _C.cuda.grad_x_input(grad_RPD, embedding_PD, importance_PR, largest_R, refused, *launch)
    _C.cuda.importance_levels(importance_PR, level_PR, levels, largest_R, refused, True, *launch)
    _C.cuda.importance_density(level_PR, ratio_P, density_P, cutoff, p, refusal_counters(grad_RPD), *launch)
    return int(refused)
