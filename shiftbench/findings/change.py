"""Scores of what changed between two models on the same prompts; not in result.py, which readers of scores import."""

from __future__ import annotations

import pandas as pd

from shiftbench.contracts.result import Score, no_change
from shiftbench.stats import Bootstrap, paired_p


def mean_change(finding: str, name: str, differences: pd.Series, bootstrap: Bootstrap) -> Score:
    """The score that is the mean of paired differences: their bootstrap interval, and p of the paired t-test."""
    if not differences.any():
        return no_change(finding, name)
    mean = bootstrap.mean(differences)
    return Score(finding, name, mean.value, mean.low, mean.high, paired_p(differences), len(differences))
