"""The gradient that both modes of the engine need: of a response token's probability by the logits that predict it.

Shape suffixes: see shiftbench/engine/__init__.py.
"""

from __future__ import annotations

import torch
from torch import Tensor


class NotFinite(ArithmeticError):
    """Logits, or numbers computed from them, are NaN or infinite. The message says what the logits are of."""


def check_finite(values: Tensor, where: str) -> None:
    """Raise NotFinite unless all values are finite.

    values: numbers that were computed from the logits anyway, such as a maximum or a probability in each row. They are
    not finite where any logit of their row is NaN or +inf, so the check needs no further pass over all logits. where:
    what the logits are of, for the message, such as "of the next token".
    """
    if not bool(torch.isfinite(values).all()):
        raise NotFinite(f"the logits {where} are not finite (NaN or inf)")


@torch.no_grad()
def probability_gradient(logit_RV: Tensor, target_R: Tensor) -> tuple[Tensor, Tensor]:
    """(slope_RV, probability_R): d p_y / d logit_v of each row for each token v, and p_y, for the row's target token y.

    p_v is the probability of token v, the softmax of the row's logits. The gradient d p_y / d logit_v is p_y s where v
    = y, with s the probability of all other tokens, and -p_y p_v elsewhere. s is computed as a sum, because 1 - p_y
    would lose its digits where p_y is near 1. target_R: the token ids y. Raises NotFinite where a row of logits
    contains NaN or +inf.
    """
    p_RV = logit_RV.softmax(-1)
    target_R1 = target_R[:, None]
    probability_R1 = p_RV.gather(1, target_R1)
    check_finite(probability_R1, "of the response")  # a NaN or +inf in a row makes its softmax NaN
    p_RV.scatter_(1, target_R1, 0.0)
    return p_RV.neg().scatter_(1, target_R1, p_RV.sum(-1, keepdim=True)).mul_(probability_R1), probability_R1[:, 0]
