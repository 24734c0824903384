"""The score of a mean paired difference between two models on the same prompts."""

from __future__ import annotations

import pandas as pd

from shiftbench.contracts.result import Score, no_change
from shiftbench.stats import Bootstrap, paired_p


def mean_change(finding: str, name: str, differences: pd.Series, bootstrap: Bootstrap) -> Score:
    """A score whose value is the mean of paired differences, with its bootstrap interval and p of the paired t-test.

    p is None where there is one difference or all are equal. finding, name: the finding and the name that the score
    gets. differences: one for each prompt, such as tuned - base, none of them NaN.
    Where every difference is 0, or there is none, the score is `no_change`: value and interval 0, no p, n = 0.
    """
    if not differences.any():
        return no_change(finding, name)
    mean = bootstrap.mean(differences)
    return Score(finding, name, mean.value, mean.low, mean.high, paired_p(differences), len(differences))
