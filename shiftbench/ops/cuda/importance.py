"""Importance of prompt tokens, on a GPU."""

from __future__ import annotations

import torch
from torch import Tensor

from shiftbench import _C
from shiftbench.ops.cuda.launch import launch_place, no_refusal


def grad_x_input(grad_RPD: Tensor, embedding_PD: Tensor, importance_PR: Tensor) -> None:
    """As _C.grad_x_input, to the last bit."""
    _C.cuda.grad_x_input(grad_RPD, embedding_PD, importance_PR, None, None, *launch_place(grad_RPD))


def importance_levels(importance_PR: Tensor, level_PR: Tensor, levels: int) -> int:
    """As _C.importance_levels, to the last bit."""
    largest_R = torch.zeros(importance_PR.shape[1], dtype=torch.int64, device=importance_PR.device)
    bad = no_refusal(importance_PR)
    _C.cuda.importance_levels(importance_PR, level_PR, levels, largest_R, bad, False, *launch_place(importance_PR))
    return int(bad)


def importance_density(level_PR: Tensor, density_P: Tensor, cutoff: int, p: float) -> int:
    """As _C.importance_density; powers are summed in another order."""
    ratio_P = torch.empty(len(level_PR), dtype=torch.float64, device=level_PR.device)
    bad = no_refusal(level_PR)
    _C.cuda.importance_density(level_PR, ratio_P, density_P, cutoff, p, bad, *launch_place(level_PR))
    return int(bad)


def importance_density_from_grad(
    grad_RPD: Tensor, embedding_PD: Tensor, importance_PR: Tensor, level_PR: Tensor, density_P: Tensor,
    levels: int, cutoff: int, p: float,
) -> int:  # fmt: skip
    """As _C.importance_density_from_grad. Each column's largest is noted while the gradients pass by, once."""
    largest_R = torch.zeros(len(grad_RPD), dtype=torch.int64, device=grad_RPD.device)
    bad, on = no_refusal(grad_RPD), launch_place(grad_RPD)
    ratio_P = torch.empty(len(density_P), dtype=torch.float64, device=grad_RPD.device)
    _C.cuda.grad_x_input(grad_RPD, embedding_PD, importance_PR, largest_R, bad, *on)
    _C.cuda.importance_levels(importance_PR, level_PR, levels, largest_R, bad, True, *on)
    _C.cuda.importance_density(level_PR, ratio_P, density_P, cutoff, p, no_refusal(grad_RPD), *on)
    return int(bad)
