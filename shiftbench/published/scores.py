"""Recognition scores of published maps, prompt by prompt: whole responses, and responses cut to equal length."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from shiftbench import ops
from shiftbench.findings.instruction_recognition import recognition_score
from shiftbench.published.alignment import UNSPELLED, align
from shiftbench.published.folder import Published
from shiftbench.published.maps import Map

SHORTEST = 5  # response pieces of a prompt that Table 1 and the cut tables count
FIRST = 50  # response pieces that 'first50' leaves
MODELS = ("base", "tuned")


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


def prompt_scores(published: Published, metric: Metric) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(scores, unaligned).

    scores: a row a prompt that both models explain and whose instruction is aligned in both: dataset, prompt, rating
    (NaN: not rated), instruction pieces, each model's response pieces, and its score by version (whole, first50,
    min_len). unaligned: a row a span that does not align, and a row a prompt that only one model explains.
    """
    rows: list[dict[str, object]] = []
    problems: list[dict[str, object]] = []
    for name in published.prompts:
        masks = _masks(published, name, problems)
        if masks is not None:
            rows.append(_row(published, name, masks, metric))
    columns = ["dataset", "prompt", "model", "start", "stop", "text", "reason", "left out"]
    return pd.DataFrame(rows, columns=None if rows else _columns()), pd.DataFrame(problems, columns=columns)


def _columns() -> list[str]:
    scores = [f"{model}_{version}" for version in cuts(0, 0) for model in MODELS]
    return ["dataset", "prompt", "rating", "instruction_pieces", "base_pieces", "tuned_pieces", *scores]


def sides(published: Published, name: str) -> dict[str, Map | None]:
    """A prompt's map of base and of tuned."""
    return {
        model: published.maps[source].get(name)
        for model, source in zip(MODELS, (published.base, published.tuned), strict=True)
    }


def _masks(published: Published, name: str, problems: list[dict[str, object]]) -> dict[str, Tensor] | None:
    """Each model's instruction pieces; None, and the reasons noted, where the prompt cannot be counted."""
    prompt, masks, usable = published.prompts[name], {}, True
    start = len(problems)
    for model, found in sides(published, name).items():
        about = {"dataset": published.dataset[name], "prompt": name, "model": model}
        if found is None:
            problems.append({**about, "reason": "the model has no map of it"})
            usable = False
            continue
        masks[model], unaligned = align(found.prompt_pieces, prompt.text, prompt.instruction_spans)
        for item in unaligned:
            span = {"start": item.span[0], "stop": item.span[1], "text": item.text}
            problems.append({**about, **span, "reason": item.reason})
        usable &= bool(masks[model].any()) and all(item.reason != UNSPELLED for item in unaligned)
        if not prompt.instruction_spans:
            problems.append({**about, "reason": "the prompt has no instruction span"})
    for problem in problems[start:]:
        problem["left out"] = not usable
    return masks if usable else None


def _row(published: Published, name: str, masks: Mapping[str, Tensor], metric: Metric) -> dict[str, object]:
    maps = {model: found for model, found in sides(published, name).items() if found is not None}
    lengths = {model: len(found.response_pieces) for model, found in maps.items()}
    row: dict[str, object] = {
        "dataset": published.dataset[name],
        "prompt": name,
        "rating": published.rating.get(name, np.nan),
        "instruction_pieces": int(masks["tuned"].sum()),
        "base_pieces": lengths["base"],
        "tuned_pieces": lengths["tuned"],
    }
    for version, most in cuts(lengths["base"], lengths["tuned"]).items():
        counted = most is None or min(lengths.values()) >= SHORTEST
        for model, found in maps.items():
            level_PR = found.level_PR[:, :most]
            row[f"{model}_{version}"] = metric.score(level_PR, masks[model]) if counted else np.nan
    return row
