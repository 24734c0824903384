"""Angles between subspaces, and the share of a weight change that a rotation or a rescaling explains.

docs/mathematics.md, "Concept rotation". Shape suffixes: C components, D width, F rows of a weight matrix.
"""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

# A squared change, over the sum of both weights' squared norms. Up to this value rotation_share computes the rotation
# itself: its faster formula is a difference of sums that, for so small a change, agree in too many digits.
SMALL_CHANGE = 1e-6
# A change is of low rank where its strongest directions, LOW_RANK of all, hold at least SHARE of its squared norm. Of a
# random change an eighth of the directions holds about a quarter. Rounding to bfloat16 after an adapter was merged adds
# some percent.
LOW_RANK, SHARE = 1 / 8, 0.9


def principal_angles(first_CD: Tensor, second_CD: Tensor) -> Tensor:
    """angle_C (float64): the principal angles between the spaces that two bases span, in radians, ascending.

    first_CD, second_CD: bases with the same number of rows; the rows of each are orthonormal. Arccosine is inexact for
    small angles and arcsine for large ones, so each is used where it is exact (Bjorck and Golub 1973). Equal bases give
    exactly 0.
    """
    if torch.equal(first_CD, second_CD):
        return torch.zeros(len(first_CD), dtype=torch.float64)
    a, b = first_CD.double(), second_CD.double()
    overlap = b @ a.T
    cosine_C = torch.linalg.svdvals(overlap).clamp(max=1.0)
    sine_C = torch.linalg.svdvals(b - overlap @ a).clamp(max=1.0).flip(0)
    return torch.where(cosine_C**2 > 0.5, torch.arcsin(sine_C), torch.arccos(cosine_C))


def match_components(first_CD: Tensor, second_CD: Tensor) -> tuple[Tensor, Tensor]:
    """(place_C int64, cosine_C float64): for each component of the first basis, its match in the second basis.

    first_CD, second_CD: components of length 1, equally many. place_C: the match's row in second_CD. cosine_C: |cosine|
    between the two. The matching is one to one, and is the one with the largest sum of |cosine|. The absolute value is
    taken because a component's sign has no meaning. Equal bases give each row itself and exactly 1.
    """
    if torch.equal(first_CD, second_CD):
        return torch.arange(len(first_CD)), torch.ones(len(first_CD), dtype=torch.float64)
    cosine_CC = (first_CD.double() @ second_CD.double().T).abs()
    rows, columns = linear_sum_assignment(cosine_CC.numpy(), maximize=True)
    return torch.from_numpy(columns).long(), cosine_CC[rows, columns].clamp(max=1.0)


def matched_cosines(first_CD: Tensor, second_CD: Tensor) -> Tensor:
    """cosine_C (float64): |cosine| between each component and its match, as `match_components` finds it."""
    return match_components(first_CD, second_CD)[1]


def rotation_share(base_FD: Tensor, tuned_FD: Tensor) -> float:
    """The share of |tuned - base|^2 that the best rotation Q of base's rows explains (Procrustes, Schonemann 1966).

    It is 1 - |tuned - base Q|^2 / |tuned - base|^2, where Q is the orthogonal D x D matrix, reflections included, that
    makes it largest. 1 where tuned is base rotated; 0 where nothing changed. A small change without structure has a
    share of about (D - 1) / (2 F) by chance, so compare the share with that of `permuted_change`.
    """
    base, tuned = base_FD.double(), tuned_FD.double()
    overlap, change = base.T @ tuned, float((tuned - base).square().sum())
    size = float(base.square().sum() + tuned.square().sum())
    if change > SMALL_CHANGE * size:
        # For the best rotation Q, |tuned - base Q|^2 = |base|^2 + |tuned|^2 - 2 tr(Q^T base^T tuned), and that trace is
        # the nuclear norm of the overlap.
        return 1.0 - (size - 2.0 * float(torch.linalg.svdvals(overlap).sum())) / change
    u, _, vh = torch.linalg.svd(overlap)
    return _explained(base, tuned, base @ (u @ vh))


def rescaling_share(base_FD: Tensor, tuned_FD: Tensor) -> float:
    """The share of |tuned - base|^2 that multiplying all of base by one number, the least-squares one, explains.

    0 where tuned equals base; nan where base is zero and tuned is not.
    """
    base, tuned = base_FD.double(), tuned_FD.double()
    return _explained(base, tuned, base * ((base * tuned).sum() / (base * base).sum()))


def permuted_change(base_FD: Tensor, tuned_FD: Tensor, seed: int) -> Tensor:
    """base_FD plus the change tuned_FD - base_FD, with the entries of the change put in random places (by `seed`).

    This is a change of the same size without structure, for comparison.
    """
    change = (tuned_FD - base_FD).flatten()
    order = torch.randperm(change.numel(), generator=torch.Generator().manual_seed(seed))
    return base_FD + change[order].reshape(base_FD.shape)


def rotated_change(base_FD: Tensor, tuned_FD: Tensor, seed: int) -> Tensor:
    """base_FD plus a change with the singular values of tuned_FD - base_FD between random directions (by `seed`).

    The directions on each side are orthonormal and uniformly distributed (Haar).
    """
    value_K = torch.linalg.svdvals((tuned_FD - base_FD).double())
    generator = torch.Generator().manual_seed(seed)
    left_FK, right_DK = (random_orthonormal(size, len(value_K), generator) for size in base_FD.shape)
    turned_FD: Tensor = (left_FK * value_K) @ right_DK.T
    return base_FD + turned_FD.to(base_FD)


def random_orthonormal(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    """float64 [rows, columns], uniformly distributed among the matrices with orthonormal columns; rows >= columns."""
    q, r = torch.linalg.qr(torch.randn(rows, columns, generator=generator, dtype=torch.float64))
    # LAPACK chooses the signs of R's diagonal, which biases Q; with the diagonal's signs Q is uniform (Mezzadri 2007).
    signed: Tensor = q * r.diagonal().sign()
    return signed


def random_change(base_FD: Tensor, tuned_FD: Tensor, seed: int) -> Tensor:
    """base_FD plus a random change of the size of tuned_FD - base_FD, for comparison.

    A change of low rank, such as an adapter's, is rotated (`rotated_change`); permuting it would give it full rank. Any
    other change is permuted (`permuted_change`). A change is of low rank where the strongest of its D directions hold
    at least SHARE of its squared norm; they are LOW_RANK of D, rounded down, but at least one.
    """
    change = (tuned_FD - base_FD).double()
    square_D = torch.linalg.eigvalsh(change.T @ change).clamp(min=0)
    leading = float(square_D[-max(1, int(LOW_RANK * len(square_D))) :].sum())
    low_rank = leading >= SHARE * float(square_D.sum()) > 0
    return (rotated_change if low_rank else permuted_change)(base_FD, tuned_FD, seed)


def _explained(base: Tensor, tuned: Tensor, predicted: Tensor) -> float:
    """1 - |tuned - predicted|^2 / |tuned - base|^2: the share of the change that `predicted` explains.

    0 where base and tuned are equal.
    """
    change = float((tuned - base).square().sum())
    return 0.0 if change == 0 else 1.0 - float((tuned - predicted).square().sum()) / change
