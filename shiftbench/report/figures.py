"""A Figure as SVG: drawn by matplotlib from data alone, the same bytes every time, no global state of pyplot."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from shiftbench.errors import InputError
from shiftbench.findings.result import Figure
from shiftbench.report.bars import draw_bars, long_bars
from shiftbench.report.colours import light
from shiftbench.report.heat import draw_heat
from shiftbench.report.series import MOST_COLOURS, Look, looks, order
from shiftbench.report.text import number, visible

WIDTH = 5.0  # inches of the picture; 480 CSS pixels, two beside each other on a page
WIDE = 9.5
PANELS_A_ROW = 5
_KINDS = ("line", "bar", "heat")
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: searchable, selectable, in the reader's own font
    "text.parse_math": False,  # a '$' in a name is a '$'
    "axes.unicode_minus": True,
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": light("line"),
    "axes.labelcolor": light("muted"),
    "axes.titlecolor": light("muted"),
    "axes.titlesize": 9.5,
    "axes.labelsize": 9.5,
    "axes.axisbelow": True,
    "xtick.color": light("line"),
    "ytick.color": light("line"),
    "xtick.labelcolor": light("muted"),
    "ytick.labelcolor": light("muted"),
    "text.color": light("ink"),
    "grid.color": light("line"),
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
}


def drawable(figure: Figure) -> pd.DataFrame:
    """Rows of the figure's table that have a number to draw, names made visible; empty where there is none.

    Raises InputError where the kind is unknown or a column that the figure names is absent.
    """
    if figure.kind not in _KINDS:
        raise InputError(
            f"figure {figure.name!r}: kind must be one of {', '.join(_KINDS)}, got {figure.kind!r}"
        )
    named = [
        figure.x,
        figure.y,
        figure.series,
        *filter(None, (figure.low, figure.high)),
    ]
    missing = [column for column in named if column not in figure.table]
    if missing:
        raise InputError(
            f"figure {figure.name!r}: its table has no column {missing[0]!r}"
        )
    rows = figure.table[list(dict.fromkeys(named))]
    rows = rows[np.isfinite(pd.to_numeric(rows[figure.y], errors="coerce"))].copy()
    for column in (figure.x, figure.series):
        if not pd.api.types.is_numeric_dtype(rows[column]):
            rows[column] = [visible(str(value)) for value in rows[column]]
    return rows


def draw(figure: Figure, titled: bool = False) -> str:
    """SVG text of the figure, in the light colours; '' where there is nothing to show.

    titled: write the title into the picture, for a file that stands alone.
    """
    rows = drawable(figure)
    if rows.empty:
        return ""
    # The salt goes into the ids, so that two pictures on one page share none.
    with (
        matplotlib.rc_context({**_STYLE, "svg.hashsalt": figure.name}),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings(
            "ignore", message="Glyph .* missing from"
        )  # the browser's font has it
        canvas = _painter(figure, rows)(figure, rows)
        if titled:
            canvas.suptitle(visible(figure.title), x=0.02, ha="left", fontsize=11)
        return _svg(canvas)


def is_wide(figure: Figure) -> bool:
    """Whether the picture needs the page's full width."""
    rows = drawable(figure)
    if figure.kind == "heat":
        return rows[figure.x].nunique() > 40
    return _many(figure, rows)


def described(figure: Figure) -> str:
    """What the picture shows in words, for readers who do not see it."""
    rows = drawable(figure)
    kind = {"line": "Line chart", "bar": "Bar chart", "heat": "Heat map"}[figure.kind]
    across = f"across: {figure.x_label or figure.x}"
    if figure.kind == "heat":
        value = rows[figure.y]
        shape = (
            f"{rows[figure.series].nunique()} rows ({figure.y_label or figure.series})"
        )
        told = f"{shape}; values from {number(value.min())} to {number(value.max())}, mean {number(value.mean())}."
    else:
        shown = order(rows[figure.series])
        means = rows.groupby(figure.series, sort=False)[figure.y].mean()
        spoken = [f"{name} {number(means[name])}" for name in shown[:12]]
        more = f" and {len(shown) - 12} more" if len(shown) > 12 else ""
        told = f"up: {figure.y_label or figure.y}. Mean of each series: {', '.join(spoken)}{more}."
    return visible(f"{kind}. {figure.title}; {across}; {told}")


def _many(figure: Figure, rows: pd.DataFrame) -> bool:
    return (
        len(
            {
                look.colour_key
                for look in looks(order(rows[figure.series]), figure.dashed)
            }
        )
        > MOST_COLOURS
    )


def _painter(
    figure: Figure, rows: pd.DataFrame
) -> Callable[[Figure, pd.DataFrame], Canvas]:
    if figure.kind == "heat":
        return draw_heat
    if _many(figure, rows):
        return _panels
    if figure.kind == "bar":
        return long_bars if rows[figure.x].nunique() > 12 else draw_bars
    return _lines


def _lines(figure: Figure, rows: pd.DataFrame) -> Canvas:
    canvas = Canvas(figsize=(WIDTH, 3.3), layout="constrained")
    axes = canvas.add_subplot()
    shown = looks(order(rows[figure.series]), figure.dashed)
    for look in shown:
        _line(
            axes,
            figure,
            rows[rows[figure.series] == look.series],
            look,
            order(rows[figure.x]),
        )
    axes.grid(axis="y")
    axes.set_xlabel(visible(figure.x_label or figure.x))
    axes.set_title(visible(figure.y_label or figure.y), loc="left", pad=8)
    if len(shown) > 1:
        canvas.legend(
            loc="outside upper left",
            ncols=4 if len(shown) > 3 else 3,
            handlelength=2.4,
            columnspacing=1.2,
        )
    return canvas


def _line(
    axes: Axes,
    figure: Figure,
    rows: pd.DataFrame,
    look: Look,
    categories: Sequence[object],
) -> None:
    numeric = pd.api.types.is_numeric_dtype(rows[figure.x])
    rows = rows.sort_values(figure.x, kind="stable") if numeric else rows
    x = (
        rows[figure.x]
        if numeric
        else [categories.index(value) for value in rows[figure.x]]
    )
    axes.plot(
        x, rows[figure.y], color=look.colour, linestyle=(0, (4, 2.2)) if look.dashed else "-", label=look.series,
        marker=look.marker if len(rows) <= 24 else "", markersize=4,
    )  # fmt: skip
    if figure.low and figure.high:
        axes.fill_between(
            x,
            rows[figure.low],
            rows[figure.high],
            color=look.colour,
            alpha=0.16,
            linewidth=0,
        )
    if not numeric:
        axes.set_xticks(range(len(categories)), [str(value) for value in categories])
    elif pd.api.types.is_integer_dtype(rows[figure.x]):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _panels(figure: Figure, rows: pd.DataFrame) -> Canvas:
    """One small panel a series, all on the same axes: more series than colours that can be told apart."""
    shown = looks(order(rows[figure.series]), figure.dashed)
    names = list(dict.fromkeys(look.colour_key for look in shown))
    lines = -(-len(names) // PANELS_A_ROW)
    canvas = Canvas(figsize=(WIDE, 0.6 + 1.15 * lines), layout="constrained")
    grid = canvas.subplots(
        lines, PANELS_A_ROW, sharex=True, sharey=True, squeeze=False
    ).ravel()
    for axes, name in zip(grid, names, strict=False):
        for look in (look for look in shown if look.colour_key == name):
            one = Look(
                look.series,
                name,
                light("tuned" if not look.dashed else "base"),
                look.dashed,
                "",
            )
            _line(
                axes,
                figure,
                rows[rows[figure.series] == look.series],
                one,
                order(rows[figure.x]),
            )
        axes.set_title(name, loc="left", fontsize=9.5, color=light("ink"))
        axes.grid(axis="y")
    for axes in grid[len(names) :]:
        axes.set_visible(False)
    canvas.supxlabel(
        visible(figure.x_label or figure.x), fontsize=9.5, color=light("muted")
    )
    canvas.supylabel(
        visible(figure.y_label or figure.y), fontsize=9.5, color=light("muted")
    )
    return canvas


def _svg(canvas: Canvas) -> str:
    buffer = io.StringIO()
    canvas.savefig(
        buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None}
    )
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # This style would reach the whole page; the svg element carries it instead.
    text = re.sub(r"\s*<defs>\s*<style.*?</style>\s*</defs>", "", text, flags=re.DOTALL)
    text = re.sub(r"font(-family)?: [^;\"]*'DejaVu Sans'[^;\"]*", _own_font, text)
    return _own_ids(text.replace("<svg ", '<svg stroke-linejoin="round" ', 1))


def _own_font(match: re.Match[str]) -> str:
    return re.sub(r"'DejaVu Sans'.*", "system-ui, sans-serif", match.group(0))


def _own_ids(text: str) -> str:
    """Without the ids that nothing in the picture refers to ('figure_1', ...): a page with two pictures has two."""
    used = set(re.findall(r"(?:url\(|href=\")#([^)\"]+)", text))
    return re.sub(
        r' id="([^"]+)"',
        lambda match: match.group(0) if match.group(1) in used else "",
        text,
    )
