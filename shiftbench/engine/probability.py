"""The gradient that every attribution starts from: of a response token's probability by the logits.

Shape suffixes: see shiftbench/engine/__init__.py.
"""

from __future__ import annotations

import torch
from torch import Tensor


class NotFinite(ArithmeticError):
    """The logits contain NaN or inf, so nothing can be computed from them. The message says for which token."""


def check_finite(values: Tensor, where: str) -> None:
    """Raise NotFinite unless all values are finite.

    values: something that was computed from the logits anyway (a maximum, a probability), which is NaN or inf where any
    logit of the row is. So the check needs no further pass over all logits. where: of which token, for the message.
    """
    if not bool(torch.isfinite(values).all()):
        raise NotFinite(f"the logits {where} are not finite (NaN or inf)")


@torch.no_grad()
def probability_gradient(logit_RV: Tensor, target_R: Tensor) -> tuple[Tensor, Tensor]:
    """(slope_RV, probability_R): d p_y / d logit_v for each row's target token y, and p_y.

    d p_y / d logit_v is p_y s where v = y, and -p_y p_v elsewhere, with s the probability of all other tokens. s is
    computed as a sum: 1 - p_y would lose its digits where p_y is near 1. target_R: token ids.
    Raises NotFinite where logits are not finite.
    """
    p_RV = logit_RV.softmax(-1)
    target_R1 = target_R[:, None]
    probability_R1 = p_RV.gather(1, target_R1)
    check_finite(probability_R1, "of the response")  # a NaN or inf anywhere in a row makes the whole row's softmax NaN
    p_RV.scatter_(1, target_R1, 0.0)
    return p_RV.neg().scatter_(1, target_R1, p_RV.sum(-1, keepdim=True)).mul_(probability_R1), probability_R1[:, 0]
