"""Resampled means for bootstrap intervals (docs/mathematics.md)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from shiftbench.errors import InputError
from shiftbench.ops import operators


def bootstrap(value_N: Tensor, length_G: Sequence[int], resamples: int, seed: int) -> Tensor:
    """mean_SG: the mean of each stratum G in each draw S of as many of its values, with replacement.

    value_N: float64, one stratum after another, as long as length_G says, none empty. What stands at a position of a
    draw depends on (seed, draw, position) alone: fewer resamples are the first of more. seed: 0 to 2 ** 63 - 1.
    Returns float64. Raises InputError where a value is not finite.
    """
    if not 0 <= seed < 2**63:
        raise InputError(f"bootstrap: seed must be between 0 and 2 ** 63 - 1, got {seed}")
    return operators.call("bootstrap", list(length_G), resamples, seed, value_N=value_N)


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
    if bad := torch.nonzero(~value_N.isfinite()).flatten().tolist():
        raise InputError(f"bootstrap: value_N[{bad[0]}] is {value_N[bad[0]].item()}; look for nan or inf")
    operators.core_of(value_N).bootstrap(value_N.contiguous(), list(length_G), seed, mean_SG)
    return mean_SG
