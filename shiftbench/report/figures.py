"""A finding's Figure as a chart in SVG. The chart follows from the figure's data alone; pyplot's state is not used."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.figure import Figure as Canvas

from shiftbench.contracts.result import Figure
from shiftbench.errors import InputError
from shiftbench.report.bar_charts import MOST_VERTICAL_GROUPS, draw_horizontal_bars, draw_vertical_bars
from shiftbench.report.heat_maps import MOST_NARROW_COLUMNS, draw_heat_map
from shiftbench.report.line_charts import draw_lines, draw_panels
from shiftbench.report.numbers import number
from shiftbench.report.series_styles import MOST_COLOURS, distinct_in_order, series_styles
from shiftbench.report.svg import render_svg
from shiftbench.report.text import file_name, visible

KINDS = {"line": "Line chart", "bar": "Bar chart", "heat": "Heat map"}
_MOST_NAMED = 12  # a description gives the means of the first series, at most so many


def figure_svg(figure: Figure) -> str:
    """SVG text of the figure, in the light colours; '' where `rows_to_draw` leaves no row.

    Raises InputError where the figure's kind is unknown or its table lacks a column that the figure names.
    """
    rows = rows_to_draw(figure)
    if rows.empty:
        return ""
    return render_svg(lambda: _drawing_function(figure, rows)(figure, rows), salt=file_name(figure.name))


def rows_to_draw(figure: Figure) -> pd.DataFrame:
    """The rows of the figure's table that have a finite y, with only the columns that the figure names.

    Rows whose x or series is a missing number are left out too. The columns y, low and high become floats, and a low or
    high that is no finite number becomes NaN. A column x or series of other values than numbers becomes text, with its
    hidden characters spelled out.
    Raises InputError where the figure's kind is unknown or its table lacks a column that the figure names.
    """
    if figure.kind not in KINDS:
        raise InputError(f"figure {figure.name!r}: kind must be one of {', '.join(KINDS)}, got {figure.kind!r}")
    columns = [figure.x, figure.y, figure.series, *filter(None, (figure.low, figure.high))]
    for column in columns:
        if column not in figure.table:
            raise InputError(f"figure {figure.name!r}: its table has no column {column!r}")
    rows = figure.table[list(dict.fromkeys(columns))].copy()
    for column in (figure.y, *filter(None, (figure.low, figure.high))):
        rows[column] = pd.to_numeric(rows[column], errors="coerce").astype(float).replace([np.inf, -np.inf], np.nan)
    for column in (figure.x, figure.series):
        if not pd.api.types.is_numeric_dtype(rows[column]):
            rows[column] = [visible(str(value)) for value in rows[column]]
    return rows.dropna(subset=[figure.x, figure.y, figure.series])


def is_wide(figure: Figure) -> bool:
    """Whether the chart needs the page's full width: a heat map of many columns, or a chart that is drawn as panels."""
    rows = rows_to_draw(figure)
    if figure.kind == "heat":
        return bool(rows[figure.x].nunique() > MOST_NARROW_COLUMNS)
    return _needs_panels(figure, rows)


def description(figure: Figure) -> str:
    """What the chart shows, in words, for readers who use a screen reader: its kind, its title, its axes and numbers.

    The numbers are the range and mean of a heat map, and the mean of each of the first _MOST_NAMED series of another
    chart.
    """
    rows = rows_to_draw(figure)
    value, series = rows[figure.y], distinct_in_order(rows[figure.series])
    if figure.kind == "heat":
        rest = f"{len(series)} rows, {figure.y_label or figure.series}; values from {number(value.min())} to "
        rest += f"{number(value.max())}, mean {number(value.mean())}."
    else:
        means = rows.groupby(figure.series, sort=False)[figure.y].mean()
        rest = f"vertical axis, {figure.y_label or figure.y}. Mean of each series: "
        rest += ", ".join(f"{name} {number(means[name])}" for name in series[:_MOST_NAMED])
        rest += f" and {len(series) - _MOST_NAMED} more." if len(series) > _MOST_NAMED else "."
    return visible(f"{KINDS[figure.kind]}. {figure.title}. Horizontal axis, {figure.x_label or figure.x}; {rest}")


def _needs_panels(figure: Figure, rows: pd.DataFrame) -> bool:
    """Whether the chart is drawn as panels: its series have more subjects than there are colours.

    A subject is the name of a series without its model (SeriesStyle.subject).
    """
    styles = series_styles(distinct_in_order(rows[figure.series]), figure.dashed)
    return len({style.subject for style in styles}) > MOST_COLOURS


def _drawing_function(figure: Figure, rows: pd.DataFrame) -> Callable[[Figure, pd.DataFrame], Canvas]:
    if figure.kind == "heat":
        return draw_heat_map
    if _needs_panels(figure, rows):
        return draw_panels
    if figure.kind == "bar":
        return draw_horizontal_bars if rows[figure.x].nunique() > MOST_VERTICAL_GROUPS else draw_vertical_bars
    return draw_lines
