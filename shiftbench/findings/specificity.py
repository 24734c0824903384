"""Importance density in parts of a prompt, and tests of its changes (docs/controls.md, 'Specificity')."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor

from shiftbench.stats import Bootstrap, holm, paired_effect, paired_p, sign_flip
from shiftbench.store.explanation import Unit

THIRDS = ("first_third", "middle_third", "last_third")
PARTS = ("instruction", "context", "others", "all_tokens", *THIRDS)
CONTRASTS = ("specificity", "context_specificity")


def part_densities(density_P: Tensor, unit: Unit) -> dict[str, float]:
    """The mean density of each of PARTS, and both CONTRASTS.

    others: all tokens outside the instruction. specificity: the mean of the instruction less that of the others.
    context_specificity: the mean of the instruction less that of the context. A part of which the prompt has no token
    is NaN, and so is its contrast.
    """
    instruction_P = unit.arrays["instruction_P"]
    tokens = len(density_P)
    third_P = torch.arange(tokens) * len(THIRDS) // max(tokens, 1)
    means = {
        "instruction": mean_in_mask(density_P, instruction_P),
        "context": mean_in_mask(density_P, unit.arrays["context_P"]),
        "others": mean_in_mask(density_P, ~instruction_P),
        "all_tokens": mean_in_mask(density_P, torch.ones_like(instruction_P)),
    }
    means |= {name: mean_in_mask(density_P, third_P == i) for i, name in enumerate(THIRDS)}
    means["specificity"] = means["instruction"] - means["others"]
    means["context_specificity"] = means["instruction"] - means["context"]
    return means


def mean_in_mask(density_P: Tensor, mask_P: Tensor) -> float:
    """The mean density of the tokens in the mask; NaN where it is empty."""
    return float(density_P[mask_P].mean()) if bool(mask_P.any()) else math.nan


def paired_differences(rows: pd.DataFrame, names: Sequence[str]) -> dict[str, pd.Series]:
    """tuned - base of each quantity, of the prompts where neither is NaN.

    rows: a table with columns NAME_base and NAME_tuned for each of names.
    """
    return {name: (rows[f"{name}_tuned"] - rows[f"{name}_base"]).dropna() for name in names}


def part_table(rows: pd.DataFrame, bootstrap: Bootstrap) -> pd.DataFrame:
    """A row for each part of the prompt and model: its mean density, with the bootstrap interval over prompts."""
    lines = []
    for part in PARTS:
        both = rows.dropna(subset=[f"{part}_base", f"{part}_tuned"])
        for model in ("base", "tuned"):
            values = both[f"{part}_{model}"]
            mean = bootstrap.mean(values)
            lines.append(
                (part.replace("_", " "), model, mean.value, mean.low, mean.high, values.std(ddof=1), len(both))
            )
    return pd.DataFrame(lines, columns=["tokens", "model", "mean density", "low", "high", "std", "n"])


def paired_tests(differences: Mapping[str, pd.Series], bootstrap: Bootstrap) -> pd.DataFrame:
    """A row for each quantity: its mean paired difference, tests and effect size.

    Holm's correction is over the quantities.
    """
    lines = []
    for name, values in differences.items():
        mean, effect = bootstrap.mean(values), paired_effect(values, bootstrap.confidence)
        d_low_high = (math.nan, math.nan, math.nan) if effect is None else (effect.d, effect.low, effect.high)
        sign_flip_p = sign_flip(values, "two-sided", bootstrap.seed).p
        lines.append((name, mean.value, mean.low, mean.high, paired_p(values), sign_flip_p, *d_low_high, len(values)))
    columns = [
        "quantity", "tuned - base", "low", "high", "paired t p, two-sided", "sign-flip p, two-sided",
        "Cohen's d", "d low", "d high", "n",
    ]  # fmt: skip
    table = pd.DataFrame(lines, columns=columns)
    table.insert(6, "Holm p of sign-flip", holm([line[5] for line in lines]))
    return table
