"""How far a result of ours is from the result of a peer, as a text for a table of timings and as a verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Agreement:
    """How far two results are apart. text: that in words, for a table. ok: whether they agree within a tolerance."""

    text: str
    ok: bool


def column_agreement(
    ours_PR: Tensor, theirs_PR: Tensor, indices: Sequence[int] | None = None, tolerance: float = 1e-2
) -> Agreement:
    """The agreement of two importances: they agree where the median over columns of `column_error` is within tolerance.

    A column belongs to one response token. indices: the columns of ours_PR that theirs_PR has, in its order; None where
    it has all. The text has the largest error too, which may be of any size: where the probability of a token is near
    1, the peers' softmax loses its digits.
    """
    error_R = column_error(ours_PR if indices is None else ours_PR[:, list(indices)], theirs_PR)
    median, worst = float(error_R.median()), float(error_R.max())
    return Agreement(f"{median:.0e} (worst column {worst:.0e})", median <= tolerance)


def column_error(ours_PR: Tensor, theirs_PR: Tensor) -> Tensor:
    """error_R: each column's largest |difference| divided by the largest |value| of theirs in that column.

    The error is infinite where the quotient is not a number, as 0 / 0, and the largest finite float64 where only the
    divisor is 0. Where the shapes differ, error_R is one infinite number.
    """
    ours_PR, theirs_PR = ours_PR.double(), theirs_PR.double()
    if ours_PR.shape != theirs_PR.shape:
        return torch.full((1,), math.inf)
    return ((ours_PR - theirs_PR).abs().amax(0) / theirs_PR.abs().amax(0)).nan_to_num(nan=math.inf)


def value_agreement(ours: Tensor, theirs: Tensor, tolerance: float) -> Agreement:
    """The agreement of two tensors. They agree where their distance is at most `tolerance`.

    The distance is the largest |difference| of any element, divided by the largest |value| of theirs. Two tensors of
    zeros do not agree, nor do tensors with different numbers of elements.
    """
    error = float(column_error(ours.reshape(-1, 1), theirs.reshape(-1, 1)).max())
    return Agreement(f"{error:.0e}", error <= tolerance)


def ranking_agreement(ours: tuple[Tensor, Tensor], theirs: tuple[Tensor, Tensor], tolerance: float = 1e-5) -> Agreement:
    """The agreement of two rankings: the number of indices that differ, and how far the values at these places differ.

    ours, theirs: (values, indices); the values of each have the shape of its indices, and are compared without their
    signs. Two words whose scores nearly tie may change places where sums are computed in another order. So rankings
    agree where at most one index in a thousand differs and the values there differ by at most `tolerance` times the
    largest magnitude of theirs. Where all indices are equal, values are not compared. Rankings of different shapes do
    not agree.
    """
    (value, index), (their_value, their_index) = ours, theirs
    if index.shape != their_index.shape:
        return Agreement(f"shapes differ, {tuple(index.shape)} and {tuple(their_index.shape)}", False)
    differ = index.long() != their_index.long()
    count = int(differ.sum())
    if not count:
        return Agreement("all indices equal", True)
    gap = (value.double().abs() - their_value.double().abs()).abs()[differ].max() / their_value.abs().max()
    text = f"{count} of {index.numel()} indices differ, by {float(gap):.0e} of the largest value"
    return Agreement(text, float(gap) <= tolerance and count <= 1e-3 * index.numel())
