"""A chart of the newest measurements so far: each ratio of times divided by its baseline, by run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import pandas as pd

from shiftbench.contracts.result import Figure
from shiftbench.report.figures import figure_svg

MOST = 200  # runs that the chart shows, the newest ones
Ratios = Mapping[str, float]


def metric(key: str) -> str:
    """The name under which MLflow has the ratio as a metric: 'ratio.' and the key.

    Letters and digits (of any script), "_", ".", " " and "-" stay. Every other character of the key becomes "_",
    because MLflow refuses some of them.
    """
    return "ratio." + re.sub(r"[^\w. -]", "_", key)


def short(key: str) -> str:
    """A ratio's key without the words attribution, bare, paper's, plain and torch, for the chart.

    'attribution forward over bare product' becomes 'forward over product'.
    """
    return re.sub(r"\b(attribution|bare|paper's|plain|torch) ", "", key)


def picture(runs: Sequence[Ratios], baseline: Ratios, machine: str) -> str:
    """SVG of the runs' ratios divided by the baseline's; '' where no run that is drawn has a ratio of the baseline.

    runs: the oldest first; the newest MOST are drawn, each with those of its ratios that the baseline has. machine: the
    class of CPU. 1 on the vertical axis means as fast as the baseline, and more means slower.
    """
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
    return figure_svg(figure)
