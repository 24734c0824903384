"""All measurements so far, as a picture: every ratio over its baseline, run by run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import pandas as pd

from shiftbench.contracts.result import Figure
from shiftbench.report.figures import draw

MOST = 200  # runs, the newest
Ratios = Mapping[str, float]


def metric(key: str) -> str:
    """A ratio's name in MLflow, which takes no apostrophes."""
    return "ratio." + re.sub(r"[^\w. -]", "_", key)


def short(key: str) -> str:
    """A ratio's name where there is little room: 'forward over product'."""
    return re.sub(r"\b(attribution|bare|paper's|plain|torch) ", "", key)


def picture(runs: Sequence[Ratios], baseline: Ratios, machine: str) -> str:
    """SVG of the runs' ratios, oldest first, over the baseline's: 1 is as fast as it was; '' where there is nothing."""
    rows = [
        {"run": number, "ratio": short(found), "slowdown": values[found] / before}
        for number, values in enumerate(runs[-MOST:], start=1)
        for found, before in baseline.items()
        if found in values
    ]
    if not rows:
        return ""
    figure = Figure(
        "history", "History", "line", pd.DataFrame(rows), "run", "slowdown", "ratio",
        x_label="measurement", y_label=f"times the baseline of {machine}",
    )  # fmt: skip
    return draw(figure)
