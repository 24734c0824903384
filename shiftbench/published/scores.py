"""Recognition scores of published maps, prompt by prompt: whole responses, and responses cut to equal length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from shiftbench import ops
from shiftbench.findings.instruction_recognition import recognition_score
from shiftbench.published.asked import MODELS, Asked

SHORTEST = 5  # response pieces of a prompt that Table 1 and the cut tables count
FIRST = 50  # response pieces that 'first50' leaves


@dataclass(frozen=True)
class Metric:
    """cutoff: levels at or below it count as 0. p: the norm in the density. Both as in InstructionRecognition."""

    cutoff: int
    p: float

    def score(self, level_PR: Tensor, instruction_P: Tensor) -> float:
        """One prompt's recognition, rounded as the paper's code rounds it."""
        return recognition_score(self._density(level_PR), instruction_P)

    def score_in_double(self, level_PR: Tensor, instruction_P: Tensor) -> float:
        """The same by the core, which computes in float64."""
        return recognition_score(ops.importance_density(level_PR, self.cutoff, self.p), instruction_P)

    def _density(self, level_PR: Tensor) -> Tensor:
        """ops.importance_density in the published code's arithmetic: numpy's float32, rounded at every step.

        The published numbers hang on that rounding in their seventh digit, so nothing wider gives them back.
        """
        level = level_PR.numpy().astype(np.float32)
        level[level <= self.cutoff] = 0
        ratio = level.sum(1) / (np.power(np.power(level, self.p).sum(1), 1 / self.p) + np.float32(1e-9))
        return torch.from_numpy(ratio / (ratio.max(initial=0) + np.float32(1e-9)))


def cuts(base: int, tuned: int) -> Mapping[str, int | None]:
    """How many of the first response pieces count in each version, for responses of these lengths; None: all."""
    return {"whole": None, "first50": FIRST, "min_len": min(base, tuned)}


def prompt_scores(asked: Sequence[Asked], metric: Metric) -> pd.DataFrame:
    """A row a prompt: prompt set, rating (NaN: not rated), instruction pieces, both models' response pieces, and both
    models' scores by version (whole, first50, min_len); a cut version is NaN where a response is too short."""
    scores = [f"{model}_{version}" for version in cuts(0, 0) for model in MODELS]
    columns = ["dataset", "prompt", "rating", "instruction_pieces", "base_pieces", "tuned_pieces", *scores]
    return pd.DataFrame([_row(one, metric) for one in asked], columns=columns)


def _row(one: Asked, metric: Metric) -> list[object]:
    base, tuned = (len(one.maps[model].response_pieces) for model in MODELS)
    row: list[object] = [one.dataset, one.prompt.id, np.nan if one.rating is None else one.rating]
    row += [int(one.instruction["tuned"].sum()), base, tuned]
    for most in cuts(base, tuned).values():
        counted = most is None or min(base, tuned) >= SHORTEST
        for model in MODELS:
            level_PR = one.maps[model].level_PR[:, :most]
            row.append(metric.score(level_PR, one.instruction[model]) if counted else np.nan)
    return row
