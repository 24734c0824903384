"""The gradient that both modes of the engine need: of a response token's objective by the logits that predict it.

Shape suffixes: see shiftbench/engine/__init__.py.
"""

from __future__ import annotations

from enum import Enum

import torch
from torch import Tensor


class Objective(Enum):
    """The number of a response token y whose gradient is taken.

    PROBABILITY: p_y. LOG_PROBABILITY: log p_y. CONTRAST: p_y - p_f, where the foil f is the most probable token other
    than y at the same position; among equally probable ones it is the one that torch.argmax returns. The foil counts as
    fixed when the gradient is taken.
    """

    PROBABILITY = "p"
    LOG_PROBABILITY = "log p"
    CONTRAST = "p - p of the foil"


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
def objective_gradient(objective: Objective, logit_RV: Tensor, target_R: Tensor) -> tuple[Tensor, Tensor]:
    """(slope_RV, probability_R): d objective / d logit_v of each row for each token v, and p_y of the row's token y.

    p_v is the probability of token v, the softmax of the row's logits, and s that of all tokens other than y. The
    gradient of p_y is p_y s where v = y, and -p_y p_v elsewhere. The gradient of log p_y is s where v = y, and -p_v
    elsewhere, which needs no division by a p_y that may be 0. For p_y - p_f see `_contrast_gradient`. s is computed as
    a sum, because 1 - p_y would lose its digits where p_y is near 1. target_R: the token ids y. Raises NotFinite where
    a row of logits contains NaN or +inf.
    """
    p_RV = logit_RV.softmax(-1)
    target_R1 = target_R[:, None]
    probability_R1 = p_RV.gather(1, target_R1)
    check_finite(probability_R1, "of the response")  # a NaN or +inf in a row makes its softmax NaN
    p_RV.scatter_(1, target_R1, 0.0)
    if objective is Objective.CONTRAST:
        return _contrast_gradient(p_RV, probability_R1, target_R1), probability_R1[:, 0]
    slope_RV = p_RV.neg().scatter_(1, target_R1, p_RV.sum(-1, keepdim=True))  # of log p_y
    if objective is Objective.PROBABILITY:
        slope_RV *= probability_R1
    return slope_RV, probability_R1[:, 0]


def _contrast_gradient(p_RV: Tensor, probability_R1: Tensor, target_R1: Tensor) -> Tensor:
    """slope_RV: d (p_y - p_f) / d logit_v, with the foil f of Objective.CONTRAST.

    With r the probability of all tokens other than y and f, it is p_y (2 p_f + r) where v = y, -p_f (2 p_y + r) where v
    = f, and (p_f - p_y) p_v elsewhere. p_RV: the probabilities, with 0 in place of p_y; it is overwritten.
    probability_R1: p_y. target_R1: y.
    """
    foil_R1 = p_RV.argmax(-1, keepdim=True)
    foil_probability_R1 = p_RV.gather(1, foil_R1)
    p_RV.scatter_(1, foil_R1, 0.0)
    rest_R1 = p_RV.sum(-1, keepdim=True)
    p_RV *= foil_probability_R1 - probability_R1
    p_RV.scatter_(1, target_R1, probability_R1 * (2 * foil_probability_R1 + rest_R1))
    return p_RV.scatter_(1, foil_R1, -foil_probability_R1 * (2 * probability_R1 + rest_R1))
