"""Recognition scores of published maps, for each prompt and model: of whole responses, and of those cut short."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from shiftbench import ops
from shiftbench.findings.instruction_recognition import recognition_score
from shiftbench.published.comparable_prompts import MODELS, ComparablePrompt

# Table 1 leaves out the tuned model's responses of fewer pieces. The versions with cut responses leave out prompts with
# a response of fewer pieces, in either model.
FEWEST_PIECES = 5
FIRST_PIECES = 50  # most pieces of a response, from its first on, that count in the version 'first50'


@dataclass(frozen=True)
class Metric:
    """The options of the recognition score, as in the finding InstructionRecognition.

    cutoff: levels at or below it count as 0. p: the exponent of the norm in the importance density.
    """

    cutoff: int
    p: float

    def score(self, level_PR: Tensor, instruction_P: Tensor) -> float:
        """The recognition score of one prompt, rounded as the paper's code rounds it.

        level_PR: as in Map. instruction_P: bool.
        """
        return recognition_score(self._density(level_PR), instruction_P)

    def score_in_double(self, level_PR: Tensor, instruction_P: Tensor) -> float:
        """The recognition score of one prompt, without the rounding of the published code.

        The compiled core computes the densities in float64 and rounds them once, to float32; their sums are in float64.
        level_PR, instruction_P: as in `score`.
        """
        return recognition_score(ops.importance_density(level_PR, self.cutoff, self.p), instruction_P)

    def _density(self, level_PR: Tensor) -> Tensor:
        """The importance density, density_P, as the published code computes it: in float32, rounded at every step.

        The formula is that of ops.importance_density. The seventh digit of the published numbers depends on this
        rounding, so a wider dtype would not reproduce them.
        """
        level = level_PR.numpy().astype(np.float32)
        level[level <= self.cutoff] = 0
        ratio = level.sum(1) / (np.power(np.power(level, self.p).sum(1), 1 / self.p) + np.float32(1e-9))
        return torch.from_numpy(ratio / (ratio.max(initial=0) + np.float32(1e-9)))


def cuts(base: int, tuned: int) -> Mapping[str, int | None]:
    """By version, the largest number of a response's pieces that count, from the first piece on; None: no limit.

    base, tuned: the lengths of the two models' responses to one prompt, in pieces.
    """
    return {"whole": None, "first50": FIRST_PIECES, "min_len": min(base, tuned)}


def prompt_scores(prompts: Sequence[ComparablePrompt], metric: Metric) -> pd.DataFrame:
    """A table with one row for each prompt, in the order of the prompts.

    Columns: dataset, prompt (the id), rating (NaN where not rated), instruction_pieces (the number of the tuned model's
    pieces of the instruction), base_pieces and tuned_pieces (the numbers of pieces of the whole responses), and for
    each version the scores of both models, as base_whole and tuned_whole. Both models' scores of a version with cut
    responses are NaN where at least one of the two responses has fewer than FEWEST_PIECES pieces.
    """
    scores = [f"{model}_{version}" for version in cuts(0, 0) for model in MODELS]
    columns = ["dataset", "prompt", "rating", "instruction_pieces", "base_pieces", "tuned_pieces", *scores]
    return pd.DataFrame([_row(prompt, metric) for prompt in prompts], columns=columns)


def _row(prompt: ComparablePrompt, metric: Metric) -> list[object]:
    base, tuned = (len(prompt.maps[model].response_pieces) for model in MODELS)
    row: list[object] = [prompt.dataset, prompt.prompt.id, np.nan if prompt.rating is None else prompt.rating]
    row += [int(prompt.instruction["tuned"].sum()), base, tuned]
    for most in cuts(base, tuned).values():
        counted = most is None or min(base, tuned) >= FEWEST_PIECES
        for model in MODELS:
            level_PR = prompt.maps[model].level_PR[:, :most]
            row.append(metric.score(level_PR, prompt.instruction[model]) if counted else np.nan)
    return row
