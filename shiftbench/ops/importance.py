"""Importance of prompt tokens: gradient times input, levels and densities.

docs/mathematics.md, 'Attribution of a response to its prompt'.
"""

from __future__ import annotations

import torch
from torch import Tensor

from shiftbench.errors import InputError
from shiftbench.ops import operators
from shiftbench.ops.operators import FLOATS


def grad_x_input(grad_RPD: Tensor, embedding_PD: Tensor) -> Tensor:
    """importance_PR: the importance of each prompt token for each response token, gradient times input summed over D.

    grad_RPD: the gradient of each response token's probability by the prompt's embeddings. embedding_PD: these
    embeddings. Both have one dtype: float32, float64, bfloat16 or float16. importance_PR is in units of probability; it
    is float64 for float64 arguments, else float32, and summed in that dtype.
    Raises InputError where shapes, dtypes or devices do not match.
    """
    importance_PR: Tensor = operators.call("grad_x_input", grad_RPD=grad_RPD, embedding_PD=embedding_PD)
    return importance_PR


def importance_levels(importance_PR: Tensor, levels: int) -> Tensor:
    """level_PR, uint8: each importance clipped at 0, scaled by its response token's maximum, rounded up to 0..levels.

    level = ceil(levels * (a / (max over prompt tokens of a + 1e-7))) with a = max(0, importance), computed in float64.
    importance_PR: float32, float64, bfloat16 or float16. levels: the highest level, 1 to 255. Low levels are not set to
    0 here; `importance_density` has a cutoff. Raises InputError where an importance is not finite, `levels` is out of
    range, or importance_PR has another dtype or number of dimensions.
    """
    level_PR: Tensor = operators.call("importance_levels", levels, importance_PR=importance_PR)
    return level_PR


def importance_density(level_PR: Tensor, cutoff: int, p: float) -> Tensor:
    """density_P, the importance density of each prompt token: the l1 norm of its levels over their lp norm, scaled.

    ratio = l1 / (lp + 1e-9), where levels at or below `cutoff` count as 0; density = ratio / (the largest ratio of the
    prompt's tokens + 1e-9). level_PR: uint8, float32, float64, bfloat16 or float16, not negative. p: the order of the
    norm, at least 1 and finite. density_P lies between 0 and 1, and is 0 for a token without a level above the cutoff.
    It is computed in float64 and returned as float64 for float64 levels, else as float32. Raises InputError where a
    level is negative or not finite, p is out of range, or level_PR has another dtype or number of dimensions.
    """
    density_P: Tensor = operators.call("importance_density", cutoff, p, level_PR=level_PR)
    return density_P


def importance_density_from_grad(
    grad_RPD: Tensor, embedding_PD: Tensor, levels: int, cutoff: int, p: float
) -> tuple[Tensor, Tensor, Tensor]:
    """(importance_PR, level_PR, density_P): what `grad_x_input` returns, its levels, and the density of these levels.

    The numbers are those of `grad_x_input`, `importance_levels` and `importance_density`, called one after another, but
    density_P has the dtype of importance_PR. The gradients are read once. Arguments and errors are those of the three
    functions.
    """
    results: tuple[Tensor, Tensor, Tensor] = operators.call(
        "importance_density_from_grad", levels, cutoff, p, grad_RPD=grad_RPD, embedding_PD=embedding_PD
    )
    return results


def _empty_importance(grad_RPD: Tensor, embedding_PD: Tensor, op: str = "grad_x_input") -> Tensor:
    """importance_PR, allocated and not computed, after the checks of shapes and dtypes.

    op: the name of the op, for the messages of the checks.
    """
    operators.check_tensor(op, "grad_RPD", grad_RPD, "response tokens, prompt tokens, model width")
    operators.check_tensor(op, "embedding_PD", embedding_PD, "prompt tokens, model width")
    if grad_RPD.shape[1:] != embedding_PD.shape:
        raise InputError(
            f"{op}: grad_RPD has shape {tuple(grad_RPD.shape)}, so embedding_PD must have shape "
            f"{tuple(grad_RPD.shape[1:])}, got {tuple(embedding_PD.shape)}"
        )
    if grad_RPD.dtype != embedding_PD.dtype:
        raise InputError(
            f"{op}: grad_RPD is {grad_RPD.dtype} and embedding_PD {embedding_PD.dtype}; give both in one dtype"
        )
    return grad_RPD.new_empty(grad_RPD.shape[1], grad_RPD.shape[0], dtype=operators.result_dtype(grad_RPD))


@operators.operator("grad_x_input(Tensor grad_RPD, Tensor embedding_PD) -> Tensor", _empty_importance)
def _grad_x_input(grad_RPD: Tensor, embedding_PD: Tensor) -> Tensor:
    importance_PR = _empty_importance(grad_RPD, embedding_PD)
    operators.core_of(grad_RPD).grad_x_input(
        operators.contiguous_rows(grad_RPD), operators.contiguous_rows(embedding_PD), importance_PR
    )
    return importance_PR


def _empty_levels(importance_PR: Tensor, levels: int) -> Tensor:
    operators.check_tensor("importance_levels", "importance_PR", importance_PR, "prompt tokens, response tokens")
    _check_levels("importance_levels", levels)
    return importance_PR.new_empty(importance_PR.shape, dtype=torch.uint8)


@operators.operator("importance_levels(Tensor importance_PR, int levels) -> Tensor", _empty_levels)
def _importance_levels(importance_PR: Tensor, levels: int) -> Tensor:
    level_PR = _empty_levels(importance_PR, levels)
    refused = operators.core_of(importance_PR).importance_levels(
        operators.contiguous_rows(importance_PR), level_PR, levels
    )
    _refuse_importance("importance_levels", refused, level_PR.shape[1])
    return level_PR


def _empty_density(level_PR: Tensor, cutoff: int, p: float) -> Tensor:
    op = "importance_density"
    operators.check_tensor(op, "level_PR", level_PR, "prompt tokens, response tokens", (torch.uint8, *FLOATS))
    _check_norm(op, p)
    return level_PR.new_empty(level_PR.shape[0], dtype=operators.result_dtype(level_PR))


@operators.operator("importance_density(Tensor level_PR, int cutoff, float p) -> Tensor", _empty_density)
def _importance_density(level_PR: Tensor, cutoff: int, p: float) -> Tensor:
    density_P = _empty_density(level_PR, cutoff, p)
    refused = operators.core_of(level_PR).importance_density(operators.contiguous_rows(level_PR), density_P, cutoff, p)
    if refused >= 0:
        prompt_token, response_token = divmod(refused, level_PR.shape[1])
        raise InputError(
            f"importance_density: level_PR[{prompt_token}, {response_token}] is "
            f"{level_PR[prompt_token, response_token].item()}; levels must be finite and not negative"
        )
    return density_P


def _empty_density_from_grad(
    grad_RPD: Tensor, embedding_PD: Tensor, levels: int, cutoff: int, p: float
) -> tuple[Tensor, Tensor, Tensor]:
    op = "importance_density_from_grad"
    importance_PR = _empty_importance(grad_RPD, embedding_PD, op)
    _check_levels(op, levels)
    _check_norm(op, p)
    level_PR = importance_PR.new_empty(importance_PR.shape, dtype=torch.uint8)
    return importance_PR, level_PR, importance_PR.new_empty(importance_PR.shape[0])


@operators.operator(
    "importance_density_from_grad(Tensor grad_RPD, Tensor embedding_PD, int levels, int cutoff, float p) "
    "-> (Tensor, Tensor, Tensor)",
    _empty_density_from_grad,
)
def _importance_density_from_grad(
    grad_RPD: Tensor, embedding_PD: Tensor, levels: int, cutoff: int, p: float
) -> tuple[Tensor, Tensor, Tensor]:
    results = _empty_density_from_grad(grad_RPD, embedding_PD, levels, cutoff, p)
    refused = operators.core_of(grad_RPD).importance_density_from_grad(
        operators.contiguous_rows(grad_RPD), operators.contiguous_rows(embedding_PD), *results, levels, cutoff, p
    )
    _refuse_importance("importance_density_from_grad", refused, grad_RPD.shape[0])
    return results


def _check_levels(op: str, levels: int) -> None:
    if not 1 <= levels <= 255:
        raise InputError(f"{op}: levels must be between 1 and 255 (a level is one byte), got {levels}")


def _check_norm(op: str, p: float) -> None:
    if not 1 <= p < float("inf"):
        raise InputError(f"{op}: p must be a finite number, at least 1, got {p}")


def _refuse_importance(op: str, refused: int, response_tokens: int) -> None:
    if refused >= 0:
        prompt_token, response_token = divmod(refused, response_tokens)
        raise InputError(
            f"{op}: the importance of prompt token {prompt_token} for response token {response_token} is not finite; "
            "look for nan or inf in the weights, or compute in a wider dtype"
        )
