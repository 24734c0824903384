"""Colour, stroke and marker of each series in a line or bar chart. 'base' has one colour in all charts, 'tuned' too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D

from shiftbench.report.colours import MODELS, SERIES, light_colour
from shiftbench.report.text import label

Limits = tuple[float, float]  # the lower and the upper end of an axis
MOST_COLOURS = len(SERIES)
DASHES = (0, (4, 2.2))
_MARKERS = ("o", "s", "^", "D", "v", "P")


@dataclass(frozen=True)
class SeriesStyle:
    """How one series is drawn.

    series: its name, as 'syntax, base'. subject: the name without the model, as 'syntax'; series of one subject share a
    colour. model: 'base' or 'tuned', None where the name has no model. A series named 'base' or 'tuned' alone is its
    own subject. colour: hexadecimal. dashed: whether its line is dashed, or its bars hollow with dashed edges. marker:
    matplotlib's name of it, as 'o' for a circle; '' for none.
    """

    series: str
    subject: str
    model: str | None
    colour: str
    dashed: bool
    marker: str

    @property
    def stroke(self) -> dict[str, Any]:
        """Colour, line style and marker, as keyword arguments for a line of matplotlib."""
        return {
            "color": self.colour,
            "linestyle": DASHES if self.dashed else "-",
            "marker": self.marker,
        }

    def rows_of(self, rows: pd.DataFrame, column: str) -> pd.DataFrame:
        """The rows of this series. column: the column with the names of the series, which may be numbers."""
        return rows[rows[column].astype(str) == self.series]


def distinct_in_order(values: pd.Series) -> list[Any]:
    """Distinct values in the order in which a chart shows them.

    Numbers ascend. Other values keep the order of their first occurrence, but 'base' and then 'tuned' come last.
    """
    distinct = list(dict.fromkeys(values.tolist()))
    if pd.api.types.is_numeric_dtype(values):
        return sorted(distinct)
    return sorted(distinct, key=lambda name: MODELS.index(name) if name in MODELS else -1)


def series_styles(series: Sequence[object], dashed: Sequence[str]) -> list[SeriesStyle]:
    """The style of each series, in the order given.

    series: names of the series. dashed: those of them that are drawn dashed. 'X, base' and 'X, tuned' share the colour
    and the marker of X. 'base' and 'tuned' alone have the models' own colours. Other subjects get the colours and the
    markers in the order of their first occurrence; where there are more than MOST_COLOURS of them, colours repeat.
    """
    names = [_subject_and_model(str(name)) for name in series]
    others = list(dict.fromkeys(subject for subject, _ in names if subject not in MODELS))
    styles = []
    for name, (subject, model) in zip(series, names, strict=True):
        number = MODELS.index(subject) if subject in MODELS else others.index(subject)
        colour = light_colour(subject if subject in MODELS else SERIES[number % len(SERIES)])
        styles.append(
            SeriesStyle(
                str(name),
                subject,
                model,
                colour,
                name in dashed,
                _MARKERS[number % len(_MARKERS)],
            )
        )
    return styles


def draw_legend(canvas: Canvas, styles: Sequence[SeriesStyle], bars: bool = False) -> None:
    """Draw a legend above the chart: an entry for each subject, and one for each model in names such as 'X, base'.

    A legend that would have a single entry is left out. bars: whether entries show squares and not lines, for a bar
    chart.
    """
    strokes: dict[str, dict[str, Any]] = {}
    for style in styles:
        # The entry of X in 'X, base' stands for both models, so it shows only X's colour and marker, in a solid line.
        # The entries 'base' and 'tuned' show which of them is dashed.
        is_one_line = style.model in (None, style.subject)
        strokes.setdefault(style.subject, style.stroke if is_one_line else {**style.stroke, "linestyle": "-"})
    for style in styles:
        if style.model and style.model != style.subject:
            line = {"color": light_colour("muted"), "linestyle": DASHES if style.dashed else "-"}
            strokes.setdefault(style.model, line)
    if len(strokes) < 2:
        return
    entries = [
        Line2D([], [], **{"markersize": 4, **(_square(stroke) if bars else stroke)}) for stroke in strokes.values()
    ]
    # matplotlib leaves an entry out where its label begins with '_', so such a label gets a space in front.
    names = [label(f" {name}" if name.startswith("_") else name) for name in strokes]
    # An entry is 0.56 inches for its handle and gaps, and 0.075 inches for each character of 9.5 points.
    columns = int(canvas.get_figwidth() / (0.56 + 0.075 * max(map(len, names))))
    canvas.legend(
        entries, names, loc="outside upper left", ncols=max(1, min(len(names), columns)), handlelength=2.6,
        columnspacing=1.2,
    )  # fmt: skip


def _square(stroke: dict[str, Any]) -> dict[str, Any]:
    """Keyword arguments for the legend entry of a bar: a square in the stroke's colour; hollow if the stroke is dashed.

    stroke: as `SeriesStyle.stroke` gives it.
    """
    square = {"color": stroke["color"], "linestyle": "", "marker": "s", "markersize": 8}
    return {**square, "markerfacecolor": "none"} if stroke["linestyle"] == DASHES else square


def _subject_and_model(name: str) -> tuple[str, str | None]:
    if name in MODELS:
        return name, name
    subject, comma, model = name.rpartition(", ")
    return (subject, model) if comma and model in MODELS else (name, None)
