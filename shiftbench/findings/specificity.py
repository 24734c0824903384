"""Importance density in parts of a prompt, and tests of how it changed (docs/controls.md, 'Specificity')."""

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
    """The mean density of the prompt's tokens in each of PARTS, and both CONTRASTS, by name.

    unit: a unit of attributions, which says what tokens belong to instruction and context. others: all tokens outside
    the instruction. The thirds divide all tokens of the prompt, in order, into parts of about equal size. specificity:
    the mean of the instruction less that of others. context_specificity: the mean of the instruction less that of the
    context. The mean of a part without tokens is NaN, and so is a contrast with that part.
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
    """The mean density of the tokens where mask_P (bool) is true; NaN where it is true nowhere."""
    return float(density_P[mask_P].mean()) if bool(mask_P.any()) else math.nan


def paired_differences(rows: pd.DataFrame, names: Sequence[str]) -> dict[str, pd.Series]:
    """For each name, tuned's value less base's, one for each prompt where neither of the two is NaN.

    rows: a table with a row for each prompt and the columns NAME_base and NAME_tuned for each of `names`.
    """
    return {name: (rows[f"{name}_tuned"] - rows[f"{name}_base"]).dropna() for name in names}


def part_table(rows: pd.DataFrame, bootstrap: Bootstrap) -> pd.DataFrame:
    """A row for each of PARTS and model: the part's mean density, with the bootstrap interval over prompts.

    rows: a table with a row for each prompt and the columns PART_base and PART_tuned. A part's rows leave out prompts
    where the density of the part is NaN in a model. std, n: standard deviation (ddof 1) and number of the prompts used.
    """
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
    """A row for each quantity: its mean paired difference with interval, paired t-test, sign-flip test and Cohen's d.

    differences: tuned - base by quantity, as `paired_differences` returns. Holm's correction of the sign-flip p is over
    the quantities. A p or a Cohen's d that is not defined is missing (NaN or None).
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
