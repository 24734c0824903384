"""A finding's Figure as a chart in SVG. pyplot, and the figure that it has open, are not used."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure as Canvas

from shiftbench.contracts.result import Figure
from shiftbench.errors import InputError
from shiftbench.report.bar_charts import MOST_VERTICAL_GROUPS, draw_horizontal_bars, draw_vertical_bars
from shiftbench.report.heat_maps import MOST_NARROW_COLUMNS, draw_heat_map
from shiftbench.report.line_charts import draw_lines, draw_panels
from shiftbench.report.numbers import number
from shiftbench.report.series_styles import MOST_COLOURS, Limits, distinct_in_order, series_styles
from shiftbench.report.svg import render_svg
from shiftbench.report.text import file_name, visible

KINDS = {"line": "Line chart", "bar": "Bar chart", "heat": "Heat map"}
MARGIN = 0.04  # of the range of a shared scale, added at each end that is not 0
_MOST_NAMED = 12  # a description gives the means of the first series, at most so many


def figure_svg(figure: Figure, limits: Limits | None = None) -> str:
    """SVG text of the figure, in the light colours; '' where `rows_to_draw` leaves no row.

    limits: the ends of the axis, or of a heat map's colours; None: they follow from the figure's own numbers.
    Raises InputError where the figure's kind is unknown or its table lacks a column that the figure names.
    """
    rows = rows_to_draw(figure)
    if rows.empty:
        return ""
    draw = _drawing_function(figure, rows)
    return render_svg(lambda: draw(figure, rows, limits), salt=file_name(figure.name))


def shared_limits(figures: Sequence[Figure]) -> list[Limits | None]:
    """For each figure, the ends of the scale that it shares with the figures of the same unit.

    None: no figure of its unit can be drawn, or only one can and all have a sign (Figure.signed). The unit of a line or
    bar chart is the label of its y axis (the name of its column y where it has no label), and that of a heat map the
    name of its column y. Line and bar charts with and without a sign never share a scale, and neither do heat maps that
    are diverging and those that are not. A scale reaches from the lowest number of its figures to the highest, their
    intervals counted; that of line and bar charts has a margin at each end that is not 0, and that of diverging heat
    maps reaches equally far on both sides of 0. The scale of line and bar charts includes 0 where one of them is a bar
    chart, or where they have no sign. Raises InputError as `rows_to_draw` does.
    """
    by_unit: dict[object, list[Figure]] = {}
    for figure in figures:
        by_unit.setdefault(_unit(figure), []).append(figure)
    limits = {unit: _limits(members) for unit, members in by_unit.items()}
    return [limits[_unit(figure)] for figure in figures]


def _unit(figure: Figure) -> object:
    is_heat = figure.kind == "heat"
    return (figure.kind, figure.y, figure.diverging) if is_heat else (figure.y_label or figure.y, figure.signed)


def _limits(members: Sequence[Figure]) -> Limits | None:
    """The ends of the scale of these figures, which are all of one unit; None as in `shared_limits`."""
    bounds = [_bounds(figure) for figure in members]
    ends = np.array([end for end in bounds if end is not None])
    signed = all(figure.signed for figure in members)
    if not len(ends) or (len(ends) == 1 and signed):
        return None
    low, high = float(ends[:, 0].min()), float(ends[:, 1].max())
    if members[0].kind == "heat":
        reach = max(abs(low), abs(high)) or 1.0
        return (-reach, reach) if members[0].diverging else (low, max(high, low + 1e-12))
    if any(figure.kind == "bar" for figure in members) or not signed:
        low, high = min(low, 0.0), max(high, 0.0)
    if low == high == 0:
        return 0.0, 1.0  # a scale needs two ends, also where every number is 0
    margin = MARGIN * (high - low) or 1.0
    return (low - margin if low else 0.0), (high + margin if high else 0.0)


def _bounds(figure: Figure) -> Limits | None:
    """The lowest and the highest number that the figure shows, its intervals counted; None where it shows none."""
    rows = rows_to_draw(figure)
    if rows.empty:
        return None
    ends = rows[[figure.y, *filter(None, (figure.low, figure.high))]]
    return float(ends.min(axis=None)), float(ends.max(axis=None))


def rows_to_draw(figure: Figure) -> pd.DataFrame:
    """The rows of the figure's table that have a finite y, with only the columns that the figure names.

    The figure's table stays as it is. Rows whose x or series is missing (NaN, None) are left out too. The columns y,
    low and high become floats, and a low or high that is no finite number becomes NaN. A column x or series of other
    values than numbers becomes text, with its hidden characters spelled out.
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
    rows = rows.dropna(subset=[figure.x, figure.y, figure.series])
    for column in (figure.x, figure.series):
        if not pd.api.types.is_numeric_dtype(rows[column]):
            rows[column] = [visible(str(value)) for value in rows[column]]
    return rows


def is_wide(figure: Figure) -> bool:
    """Whether the chart needs the page's full width: a heat map of many columns, or a chart that is drawn as panels."""
    rows = rows_to_draw(figure)
    if figure.kind == "heat":
        return bool(rows[figure.x].nunique() > MOST_NARROW_COLUMNS)
    return _needs_panels(figure, rows)


def description(figure: Figure) -> str:
    """What the chart shows, in words, for readers who use a screen reader: its kind, its title, its axes and numbers.

    The numbers of a heat map are how many series it has, the lowest, the highest and the mean of its values, and how
    many of its cells have no data, where any has none. Those of another chart are the mean of each of its first
    _MOST_NAMED series, and how many more it has.
    """
    rows = rows_to_draw(figure)
    value, series = rows[figure.y], distinct_in_order(rows[figure.series])
    if figure.kind == "heat":
        rest = f"{len(series)} rows, {figure.y_label or figure.series}; values from {number(value.min())} to "
        rest += f"{number(value.max())}, mean {number(value.mean())}."
        cells = len(series) * rows[figure.x].nunique()
        missing = cells - len(rows.drop_duplicates([figure.series, figure.x]))
        rest += f" {missing:,} of {cells:,} cells have no data." if missing else ""
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


def _drawing_function(figure: Figure, rows: pd.DataFrame) -> Callable[[Figure, pd.DataFrame, Limits | None], Canvas]:
    if figure.kind == "heat":
        return draw_heat_map
    if _needs_panels(figure, rows):
        return draw_panels
    if figure.kind == "bar":
        return draw_horizontal_bars if rows[figure.x].nunique() > MOST_VERTICAL_GROUPS else draw_vertical_bars
    return draw_lines
