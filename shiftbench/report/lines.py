"""Line charts: all series on one pair of axes, or a small panel a subject where there are many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from shiftbench.contracts.result import Figure
from shiftbench.report.colours import light
from shiftbench.report.series import Look, legend, looks, order
from shiftbench.report.text import label

WIDTH, WIDE = 4.6, 9.5  # inches of a picture: two stand beside each other on a page, or one takes its width
PANELS_A_ROW = 5
_MOST_MARKED = 24  # points of a line that still carry markers


def draw_lines(figure: Figure, rows: pd.DataFrame) -> Canvas:
    """One line a series, with a band where the figure has an interval."""
    canvas = Canvas(figsize=(WIDTH, 3.1), layout="constrained")
    axes = canvas.add_subplot()
    shown = looks(order(rows[figure.series]), figure.dashed)
    for look in shown:
        _line(axes, figure, rows, look)
    axes.grid(axis="y")
    axes.set_xlabel(label(figure.x_label or figure.x))
    axes.set_title(label(figure.y_label or figure.y), loc="left", pad=8)
    legend(canvas, shown)
    return canvas


def draw_panels(figure: Figure, rows: pd.DataFrame) -> Canvas:
    """One small panel a subject, all on the same axes: there are more than colours that can be told apart."""
    shown = looks(order(rows[figure.series]), figure.dashed)
    subjects = list(dict.fromkeys(look.subject for look in shown))
    height = -(-len(subjects) // PANELS_A_ROW)
    canvas = Canvas(figsize=(WIDE, 0.8 + 1.15 * height), layout="constrained")
    grid = canvas.subplots(height, PANELS_A_ROW, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, subject in zip(grid, subjects, strict=False):
        for look in (look for look in shown if look.subject == subject):
            _line(axes, figure, rows, _in_panel(look))
        axes.set_title(label(subject), loc="left", color=light("ink"))
        axes.grid(axis="y")
    for axes in grid[len(subjects) :]:
        axes.set_visible(False)
    models = {look.model: replace(_in_panel(look), subject=look.model) for look in shown if look.model}
    legend(canvas, list(models.values()))
    canvas.supxlabel(label(figure.x_label or figure.x), fontsize=9.5, color=light("muted"))
    canvas.supylabel(label(figure.y_label or figure.y), fontsize=9.5, color=light("muted"))
    return canvas


def _in_panel(look: Look) -> Look:
    """The panel names the subject, so colour is free to tell the models apart."""
    return replace(look, colour=light(look.model or "series-1"), marker="")


def _line(axes: Axes, figure: Figure, every: pd.DataFrame, look: Look) -> None:
    rows = every[every[figure.series].astype(str) == look.series]
    x: Sequence[Any]
    if pd.api.types.is_numeric_dtype(every[figure.x]):
        rows = rows.sort_values(figure.x, kind="stable")
        x = rows[figure.x].tolist()
        if pd.api.types.is_integer_dtype(every[figure.x]):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    else:
        places = order(every[figure.x])
        x = [places.index(value) for value in rows[figure.x]]
        axes.set_xticks(range(len(places)), [label(place) for place in places])
    marker = {} if len(rows) <= _MOST_MARKED else {"marker": ""}
    axes.plot(x, rows[figure.y], markersize=4, **{**look.stroke, **marker})
    if figure.low and figure.high:
        axes.fill_between(x, rows[figure.low], rows[figure.high], color=look.colour, alpha=0.16, linewidth=0)
