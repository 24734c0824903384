"""Resampled means for bootstrap intervals (docs/mathematics.md, 'Scores')."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from shiftbench.errors import InputError
from shiftbench.ops import operators


def bootstrap(value_N: Tensor, length_G: Sequence[int], resamples: int, seed: int) -> Tensor:
    """mean_SG, float64: the mean of each stratum G in each resample S.

    A resample draws from each stratum as many values as the stratum has, with replacement.

    value_N: float64, the values of one stratum after those of another. length_G: how many values each stratum has, 1
    to 2 ** 32 - 1. resamples: how many resamples to draw, at least 1. seed: 0 to 2 ** 63 - 1. For equal values, lengths
    and seed, resample s is the same however many resamples are asked for.

    Raises InputError where an argument is outside these bounds, value_N has another dtype or number of dimensions, a
    value is not finite, or the lengths do not add up to the number of values.
    """
    if not 0 <= seed < 2**63:
        raise InputError(f"bootstrap: seed must be between 0 and 2 ** 63 - 1, got {seed}")
    mean_SG: Tensor = operators.call("bootstrap", list(length_G), resamples, seed, value_N=value_N)
    return mean_SG


def _empty_bootstrap(value_N: Tensor, length_G: list[int], resamples: int, seed: int) -> Tensor:
    operators.check_tensor("bootstrap", "value_N", value_N, "observations", (torch.float64,))
    if not all(0 < length < 2**32 for length in length_G):
        raise InputError(f"bootstrap: length_G must hold positive counts below 2 ** 32, got {list(length_G)}")
    if sum(length_G) != len(value_N):
        raise InputError(f"bootstrap: value_N has {len(value_N)} values, the strata {sum(length_G)}; they must agree")
    if resamples < 1:
        raise InputError(f"bootstrap: resamples must be at least 1, got {resamples}")
    return value_N.new_empty(resamples, len(length_G))


@operators.operator("bootstrap(Tensor value_N, int[] length_G, int resamples, int seed) -> Tensor", _empty_bootstrap)
def _bootstrap(value_N: Tensor, length_G: list[int], resamples: int, seed: int) -> Tensor:
    mean_SG = _empty_bootstrap(value_N, length_G, resamples, seed)
    if not_finite := torch.nonzero(~value_N.isfinite()).flatten().tolist():
        first = not_finite[0]
        raise InputError(f"bootstrap: value_N[{first}] is {value_N[first].item()}; look for nan or inf")
    operators.core_of(value_N).bootstrap(value_N.contiguous(), list(length_G), seed, mean_SG)
    return mean_SG
