"""Bar charts: vertical bars for a few groups, horizontal bars for many."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from numpy.typing import NDArray

from shiftbench.contracts.result import Figure
from shiftbench.report.colours import light_colour
from shiftbench.report.series_styles import Limits, SeriesStyle, distinct_in_order, draw_legend, series_styles
from shiftbench.report.text import label

MOST_VERTICAL_GROUPS = 12  # a chart with more groups has horizontal bars
_GROUP_WIDTH = 0.78  # width of all bars of a group together; the centres of neighbouring groups are 1 apart
_BAR_SHARE = 0.92  # width of a bar as a share of its place in the group; the rest is the gap between bars


def draw_vertical_bars(figure: Figure, rows: pd.DataFrame, limits: Limits | None = None) -> Canvas:
    """A chart with a group of vertical bars for each value of the column `figure.x`, and a bar for each series in it.

    Groups, and bars in a group, are in the order of `distinct_in_order`. The height of a bar is the column `figure.y`.
    A bar has an error bar where the figure has an interval. rows: the rows to draw, as `figures.rows_to_draw` gives
    them. limits: the ends of the axis of values; None: they follow from the rows.
    """
    canvas = Canvas(figsize=(4.6, 3.1), layout="constrained")
    axes = canvas.add_subplot()
    groups = distinct_in_order(rows[figure.x])
    styles = series_styles(distinct_in_order(rows[figure.series]), figure.dashed)
    for i, style in enumerate(styles):
        value, errors = _values_and_errors(figure, style.rows_of(rows, figure.series), groups)
        positions = np.arange(len(groups)) + _offset(i, len(styles))
        axes.bar(
            positions,
            value,
            width=_BAR_SHARE * _GROUP_WIDTH / len(styles),
            yerr=errors,
            **_bar_options(style),
        )
    axes.set_xticks(range(len(groups)), [label(group) for group in groups])
    axes.set_xlabel(label(figure.x_label or figure.x))
    axes.set_title(label(figure.y_label or figure.y), loc="left", pad=8)
    _draw_grid_and_zero(axes, "y")
    if limits is not None:
        axes.set_ylim(limits)
    draw_legend(canvas, styles, bars=True)
    return canvas


def draw_horizontal_bars(figure: Figure, rows: pd.DataFrame, limits: Limits | None = None) -> Canvas:
    """A chart with a group of horizontal bars for each value of the column `figure.x`, the first group on top.

    rows: the rows to draw, as `figures.rows_to_draw` gives them. The bars are as in `draw_vertical_bars`, but lie on
    their side. The chart is taller the more bars it has, so the names of many groups stay legible. limits: as there.
    """
    groups = distinct_in_order(rows[figure.x])
    styles = series_styles(distinct_in_order(rows[figure.series]), figure.dashed)
    canvas = Canvas(
        figsize=(5.0, 0.9 + 0.17 * len(groups) * max(1, len(styles) * 0.7)),
        layout="constrained",
    )
    axes = canvas.add_subplot()
    for i, style in enumerate(styles):
        value, errors = _values_and_errors(figure, style.rows_of(rows, figure.series), groups)
        positions = np.arange(len(groups)) + _offset(i, len(styles))
        axes.barh(
            positions,
            value,
            height=_BAR_SHARE * _GROUP_WIDTH / len(styles),
            xerr=errors,
            **_bar_options(style),
        )
    axes.set_yticks(range(len(groups)), [label(group) for group in groups])
    axes.set_ylim(len(groups) - 0.4, -0.6)
    axes.set_xlabel(label(figure.y_label or figure.y))
    _draw_grid_and_zero(axes, "x")
    if limits is not None:
        axes.set_xlim(limits)
    draw_legend(canvas, styles, bars=True)
    return canvas


def _values_and_errors(
    figure: Figure, rows: pd.DataFrame, groups: list[object]
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """(values [groups], lengths of the error bars [2, groups]) of one series.

    rows: the rows of this series; of several rows of one group, the first counts. groups: the distinct values of the
    column `figure.x`, in the order of the chart. A group without a row has the value NaN. The first row of lengths goes
    from each value down to the column `figure.low`, the second from the value up to `figure.high`; a negative length
    becomes 0. None in place of the lengths where the figure has no interval.
    """
    by_group = rows.drop_duplicates(figure.x).set_index(figure.x).reindex(groups)
    value = by_group[figure.y].to_numpy(dtype=np.float64)
    if not (figure.low and figure.high):
        return value, None
    low, high = (by_group[bound].to_numpy(dtype=np.float64) for bound in (figure.low, figure.high))
    return value, np.maximum([value - low, high - value], 0)


def _offset(i: int, series_count: int) -> float:
    """The position of series i's bar relative to the centre of its group; the centres of two groups are 1 apart."""
    return (i - (series_count - 1) / 2) * _GROUP_WIDTH / series_count


def _bar_options(style: SeriesStyle) -> dict[str, Any]:
    """Keyword arguments for matplotlib's bar and barh. A dashed series has hollow bars with dashed edges."""
    return {
        "color": "none" if style.dashed else style.colour,
        "edgecolor": style.colour,
        "linestyle": "--" if style.dashed else "-",
        "linewidth": 1.0,
        "error_kw": {"ecolor": light_colour("ink"), "elinewidth": 1.0},
    }


def _draw_grid_and_zero(axes: Axes, value_axis: Literal["x", "y"]) -> None:
    axes.grid(axis=value_axis)
    (axes.axhline if value_axis == "y" else axes.axvline)(0, color=light_colour("muted"), linewidth=0.8)
