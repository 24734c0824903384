"""The derivative that every attribution starts from: of a response token's probability by the logits."""

from __future__ import annotations

import torch
from torch import Tensor


class NotFinite(ArithmeticError):
    """The logits hold NaN or inf, so nothing that is read from them is a number. The message says in which place."""


def check_finite(values: Tensor, where: str) -> None:
    """Raise NotFinite unless all values are finite.

    values: what was reduced from the logits anyway (a maximum, a probability), so that no pass over all logits is
    added: NaN and inf among the logits of a row make its maximum, or its probabilities, NaN or inf.
    """
    if not bool(torch.isfinite(values).all()):
        raise NotFinite(f"the logits {where} are not finite (NaN or inf)")


@torch.no_grad()
def slopes(logit_RV: Tensor, target_R: Tensor) -> tuple[Tensor, Tensor]:
    """(slope_RV, probability_R): d p_y / d logit_v for each row's target y, and p_y.

    p_y (s [v = y] - p_v [v != y]) with s the probability of all other tokens. Taken through softmax it cancels where
    p_y is near 1; written out, as here, it does not (docs/mathematics.md). Raises NotFinite where the logits are not
    finite.
    """
    p_RV = logit_RV.softmax(-1)
    target_R1 = target_R[:, None]
    probability_R1 = p_RV.gather(1, target_R1)
    check_finite(probability_R1, "of the response")  # a NaN or inf anywhere in a row makes the whole row's softmax NaN
    p_RV.scatter_(1, target_R1, 0.0)
    return p_RV.neg().scatter_(1, target_R1, p_RV.sum(-1, keepdim=True)).mul_(probability_R1), probability_R1[:, 0]
