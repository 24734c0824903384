"""Line charts: all series on one pair of axes, or one small panel for each subject where there are many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from shiftbench.contracts.result import Figure
from shiftbench.report.colours import light_colour
from shiftbench.report.series_styles import Limits, SeriesStyle, distinct_in_order, draw_legend, series_styles
from shiftbench.report.text import label

HALF_WIDTH, FULL_WIDTH = 4.6, 9.5  # inches: one of two charts side by side on the page, one over the page's full width
PANELS_PER_ROW = 5
_MOST_MARKERS = 24  # a line with more points has no markers


def draw_lines(figure: Figure, rows: pd.DataFrame, limits: Limits | None = None) -> Canvas:
    """A chart with one line for each series, of the column `figure.y` over the column `figure.x`.

    rows: the rows to draw, as `figures.rows_to_draw` gives them. A line has a band around it where the figure has an
    interval. limits: the ends of the y axis; None: they follow from the rows.
    """
    canvas = Canvas(figsize=(HALF_WIDTH, 3.1), layout="constrained")
    axes = canvas.add_subplot()
    styles = series_styles(distinct_in_order(rows[figure.series]), figure.dashed)
    for style in styles:
        _draw_line(axes, figure, rows, style)
    if limits is not None:
        axes.set_ylim(limits)
    axes.grid(axis="y")
    axes.set_xlabel(label(figure.x_label or figure.x))
    axes.set_title(label(figure.y_label or figure.y), loc="left", pad=8)
    draw_legend(canvas, styles)
    return canvas


def draw_panels(figure: Figure, rows: pd.DataFrame, limits: Limits | None = None) -> Canvas:
    """A chart of small panels with equal axes, one for each subject, for more subjects than distinguishable colours.

    rows: the rows to draw, as `figures.rows_to_draw` gives them. A panel has the lines of all series of its subject
    (SeriesStyle.subject), in the colours of their models. limits: as in `draw_lines`.
    """
    styles = series_styles(distinct_in_order(rows[figure.series]), figure.dashed)
    subjects = list(dict.fromkeys(style.subject for style in styles))
    height = -(-len(subjects) // PANELS_PER_ROW)
    canvas = Canvas(figsize=(FULL_WIDTH, 0.8 + 1.15 * height), layout="constrained")
    grid = canvas.subplots(height, PANELS_PER_ROW, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, subject in zip(grid, subjects, strict=False):
        for style in (style for style in styles if style.subject == subject):
            _draw_line(axes, figure, rows, _panel_style(style))
        axes.set_title(label(subject), loc="left", color=light_colour("ink"))
        axes.grid(axis="y")
    if limits is not None:
        grid[0].set_ylim(limits)  # all panels share their axes
    for axes in grid[len(subjects) :]:
        axes.set_visible(False)
    models = {style.model: replace(_panel_style(style), subject=style.model) for style in styles if style.model}
    draw_legend(canvas, list(models.values()))
    canvas.supxlabel(label(figure.x_label or figure.x), fontsize=9.5, color=light_colour("muted"))
    canvas.supylabel(label(figure.y_label or figure.y), fontsize=9.5, color=light_colour("muted"))
    return canvas


def _panel_style(style: SeriesStyle) -> SeriesStyle:
    """The style in its model's colour and without a marker; the first series colour where it has no model.

    A panel's title names the subject, so the colour can tell the models apart.
    """
    return replace(style, colour=light_colour(style.model or "series-1"), marker="")


def _draw_line(axes: Axes, figure: Figure, all_rows: pd.DataFrame, style: SeriesStyle) -> None:
    """Draw the line of one series on the axes, and the band around it where the figure has an interval.

    all_rows: the rows of all series. Where x is a number, the points are sorted by it. Where x is a name, the names of
    all series, in the order of `distinct_in_order`, are at 0, 1, 2, ..., so a name has the same place for every series.
    """
    rows = style.rows_of(all_rows, figure.series)
    x: Sequence[Any]
    if pd.api.types.is_numeric_dtype(all_rows[figure.x]):
        rows = rows.sort_values(figure.x, kind="stable")
        x = rows[figure.x].tolist()
        if pd.api.types.is_integer_dtype(all_rows[figure.x]):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    else:
        names = distinct_in_order(all_rows[figure.x])
        x = [names.index(value) for value in rows[figure.x]]
        axes.set_xticks(range(len(names)), [label(name) for name in names])
    marker = {} if len(rows) <= _MOST_MARKERS else {"marker": ""}
    axes.plot(x, rows[figure.y], markersize=4, **{**style.stroke, **marker})
    if figure.low and figure.high:
        axes.fill_between(x, rows[figure.low], rows[figure.high], color=style.colour, alpha=0.16, linewidth=0)
