"""Bar charts: grouped and upright, or lying where there are many groups."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from numpy.typing import NDArray

from shiftbench.contracts.result import Figure
from shiftbench.report.colours import light
from shiftbench.report.series import Look, legend, looks, order
from shiftbench.report.text import label

MOST_UPRIGHT = 12  # groups; more of them lie
_GROUP = 0.78  # of the room between two groups


def draw_bars(figure: Figure, rows: pd.DataFrame) -> Canvas:
    """Upright bars, grouped by x."""
    canvas = Canvas(figsize=(4.6, 3.1), layout="constrained")
    axes = canvas.add_subplot()
    groups = order(rows[figure.x])
    shown = looks(order(rows[figure.series]), figure.dashed)
    for i, look in enumerate(shown):
        value, below_above = _heights(figure, rows[rows[figure.series] == look.series], groups)
        place = np.arange(len(groups)) + _offset(i, len(shown))
        axes.bar(
            place,
            value,
            width=0.92 * _GROUP / len(shown),
            yerr=below_above,
            **_style(look),
        )
    axes.set_xticks(range(len(groups)), [label(group) for group in groups])
    axes.set_xlabel(label(figure.x_label or figure.x))
    axes.set_title(label(figure.y_label or figure.y), loc="left", pad=8)
    _finish(axes, "y")
    legend(canvas, shown, bars=True)
    return canvas


def draw_long_bars(figure: Figure, rows: pd.DataFrame) -> Canvas:
    """Lying bars, one line a group: names of many groups stay legible."""
    groups = order(rows[figure.x])
    shown = looks(order(rows[figure.series]), figure.dashed)
    canvas = Canvas(
        figsize=(5.0, 0.9 + 0.17 * len(groups) * max(1, len(shown) * 0.7)),
        layout="constrained",
    )
    axes = canvas.add_subplot()
    for i, look in enumerate(shown):
        value, below_above = _heights(figure, rows[rows[figure.series] == look.series], groups)
        place = np.arange(len(groups)) + _offset(i, len(shown))
        axes.barh(
            place,
            value,
            height=0.92 * _GROUP / len(shown),
            xerr=below_above,
            **_style(look),
        )
    axes.set_yticks(range(len(groups)), [label(group) for group in groups])
    axes.set_ylim(len(groups) - 0.4, -0.6)
    axes.set_xlabel(label(figure.y_label or figure.y))
    _finish(axes, "x")
    legend(canvas, shown, bars=True)
    return canvas


def _heights(
    figure: Figure, rows: pd.DataFrame, groups: list[object]
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Heights by group (NaN where there is none) and the error bars' lengths below and above."""
    by_group = rows.drop_duplicates(figure.x).set_index(figure.x).reindex(groups)
    value = by_group[figure.y].to_numpy(dtype=np.float64)
    if not (figure.low and figure.high):
        return value, None
    low, high = (by_group[bound].to_numpy(dtype=np.float64) for bound in (figure.low, figure.high))
    return value, np.maximum([value - low, high - value], 0)


def _offset(i: int, series: int) -> float:
    return (i - (series - 1) / 2) * _GROUP / series


def _style(look: Look) -> dict[str, Any]:
    return {
        "color": "none" if look.dashed else look.colour,
        "edgecolor": look.colour,
        "linestyle": "--" if look.dashed else "-",
        "linewidth": 1.0,
        "error_kw": {"ecolor": light("ink"), "elinewidth": 1.0},
    }


def _finish(axes: Axes, values: Literal["x", "y"]) -> None:
    axes.grid(axis=values)
    (axes.axhline if values == "y" else axes.axvline)(0, color=light("muted"), linewidth=0.8)
