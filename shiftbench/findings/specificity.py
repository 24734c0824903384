"""Where in a prompt a model looks: density in parts of the prompt, and tests of its changes (docs/controls.md)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor

from shiftbench.stats import Bootstrap, holm, paired_effect, paired_p, sign_flip
from shiftbench.store.explanation import Unit

THIRDS = ("first_third", "middle_third", "last_third")
PARTS = ("instruction", "context", "others", *THIRDS)
CONTRASTS = ("specificity", "context_specificity")


def part_densities(density_P: Tensor, unit: Unit) -> dict[str, float]:
    """Mean density of each of PARTS, NaN where the prompt has no token of it, and both CONTRASTS.

    others: all tokens that are not of the instruction. specificity: instruction less others; context_specificity:
    instruction less context.
    """
    instruction_P = unit.arrays["instruction_P"]
    tokens = len(density_P)
    third_P = torch.arange(tokens) * len(THIRDS) // max(tokens, 1)
    found = {
        "instruction": mean_where(density_P, instruction_P),
        "context": mean_where(density_P, unit.arrays["context_P"]),
        "others": mean_where(density_P, ~instruction_P),
    }
    found |= {name: mean_where(density_P, third_P == i) for i, name in enumerate(THIRDS)}
    found["specificity"] = found["instruction"] - found["others"]
    found["context_specificity"] = found["instruction"] - found["context"]
    return found


def mean_where(density_P: Tensor, mask_P: Tensor) -> float:
    """NaN where the mask is empty."""
    return float(density_P[mask_P].mean()) if bool(mask_P.any()) else math.nan


def shifts(rows: pd.DataFrame, names: Sequence[str]) -> dict[str, pd.Series]:
    """tuned - base of each quantity, of the prompts where both have it; rows: columns NAME_base and NAME_tuned."""
    return {name: (rows[f"{name}_tuned"] - rows[f"{name}_base"]).dropna() for name in names}


def profile(rows: pd.DataFrame, bootstrap: Bootstrap) -> pd.DataFrame:
    """Mean density of each part of the prompt in each model, with its interval over prompts."""
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
    """A row a quantity: its mean paired difference, tests and effect size; Holm over the quantities."""
    lines = []
    for name, values in differences.items():
        mean, effect = bootstrap.mean(values), paired_effect(values, bootstrap.confidence)
        sizes = (math.nan, math.nan, math.nan) if effect is None else (effect.d, effect.low, effect.high)
        flipped = sign_flip(values, "two-sided", bootstrap.seed).p
        lines.append((name, mean.value, mean.low, mean.high, paired_p(values), flipped, *sizes, len(values)))
    columns = [
        "quantity", "tuned - base", "low", "high", "paired t p, two-sided", "sign-flip p, two-sided",
        "Cohen's d", "d low", "d high", "n",
    ]  # fmt: skip
    table = pd.DataFrame(lines, columns=columns)
    table.insert(6, "Holm p of sign-flip", holm([line[5] for line in lines]))
    return table
