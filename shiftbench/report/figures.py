"""A Figure as SVG: drawn by matplotlib from data alone, the same bytes every time, no global state of pyplot."""

from __future__ import annotations

import io
import re
import textwrap
import warnings
from collections.abc import Callable
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure as Canvas

from shiftbench.contracts.result import Figure
from shiftbench.errors import InputError
from shiftbench.report.bars import MOST_UPRIGHT, draw_bars, draw_long_bars
from shiftbench.report.colours import light
from shiftbench.report.heat import MOST_COLUMNS, draw_heat
from shiftbench.report.lines import draw_lines, draw_panels
from shiftbench.report.series import MOST_COLOURS, looks, order
from shiftbench.report.text import file_name, number, visible

KINDS = {"line": "Line chart", "bar": "Bar chart", "heat": "Heat map"}
_TITLE = Markup('<text x="7" y="{y:g}" style="font: 600 11px system-ui, sans-serif; fill: {colour}">{line}</text>')
_TITLE_LINE = 15  # points
_NAMED = 12  # series that a description names one by one
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: searchable, selectable, in the reader's own font
    "text.parse_math": False,  # a '$' in a name is a '$'
    "font.size": 9.5,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.edgecolor": light("line"),
    "axes.labelcolor": light("muted"),
    "axes.titlecolor": light("muted"),
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


def draw(figure: Figure) -> str:
    """SVG text of the figure, in the light colours; '' where no row has a number.

    Raises InputError where the kind is unknown or the table lacks a column that the figure names.
    """
    rows = drawable(figure)
    if rows.empty:
        return ""
    # The salt goes into the ids, so that two pictures on one page share none.
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": file_name(figure.name)}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # the browser's font has it
        return _svg(_painter(figure, rows)(figure, rows))


def with_title(svg: str, title: str) -> str:
    """The SVG with its title in lines above it, for a file that stands alone."""
    width, height = (float(side) for side in re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)[0])
    lines = textwrap.wrap(visible(title), width=int(width / 6))
    top = _TITLE_LINE * (len(lines) + 0.5)
    texts = Markup("").join(
        _TITLE.format(y=_TITLE_LINE * (i + 1) - top, colour=light("ink"), line=line) for i, line in enumerate(lines)
    )
    head, body = svg.split(">", 1)
    head = re.sub(r'height="[^"]+"', f'height="{height + top:g}pt"', head, count=1)
    head = re.sub(r'viewBox="[^"]+"', f'viewBox="0 {-top:g} {width:g} {height + top:g}"', head, count=1)
    return f"{head}>{texts}{body}"


def drawable(figure: Figure) -> pd.DataFrame:
    """Rows of the figure's table that have a finite number to draw, with the names in them made visible."""
    if figure.kind not in KINDS:
        raise InputError(f"figure {figure.name!r}: kind must be one of {', '.join(KINDS)}, got {figure.kind!r}")
    named = [figure.x, figure.y, figure.series, *filter(None, (figure.low, figure.high))]
    for column in named:
        if column not in figure.table:
            raise InputError(f"figure {figure.name!r}: its table has no column {column!r}")
    rows = figure.table[list(dict.fromkeys(named))].copy()
    for column in (figure.y, *filter(None, (figure.low, figure.high))):
        rows[column] = pd.to_numeric(rows[column], errors="coerce").astype(float).replace([np.inf, -np.inf], np.nan)
    for column in (figure.x, figure.series):
        if not pd.api.types.is_numeric_dtype(rows[column]):
            rows[column] = [visible(str(value)) for value in rows[column]]
    return rows.dropna(subset=[figure.x, figure.y, figure.series])


def is_wide(figure: Figure) -> bool:
    """Whether the picture needs the page's full width."""
    rows = drawable(figure)
    return rows[figure.x].nunique() > MOST_COLUMNS if figure.kind == "heat" else _many(figure, rows)


def described(figure: Figure) -> str:
    """What the picture shows in words, for readers who do not see it."""
    rows = drawable(figure)
    value, groups = rows[figure.y], order(rows[figure.series])
    if figure.kind == "heat":
        told = f"{len(groups)} rows, {figure.y_label or figure.series}; values from {number(value.min())} to "
        told += f"{number(value.max())}, mean {number(value.mean())}."
    else:
        means = rows.groupby(figure.series, sort=False)[figure.y].mean()
        told = f"up, {figure.y_label or figure.y}. Mean of each series: "
        told += ", ".join(f"{group} {number(means[group])}" for group in groups[:_NAMED])
        told += f" and {len(groups) - _NAMED} more." if len(groups) > _NAMED else "."
    return visible(f"{KINDS[figure.kind]}. {figure.title}. Across, {figure.x_label or figure.x}; {told}")


def _many(figure: Figure, rows: pd.DataFrame) -> bool:
    return len({look.subject for look in looks(order(rows[figure.series]), figure.dashed)}) > MOST_COLOURS


def _painter(figure: Figure, rows: pd.DataFrame) -> Callable[[Figure, pd.DataFrame], Canvas]:
    if figure.kind == "heat":
        return draw_heat
    if _many(figure, rows):
        return draw_panels
    if figure.kind == "bar":
        return draw_long_bars if rows[figure.x].nunique() > MOST_UPRIGHT else draw_bars
    return draw_lines


def _svg(canvas: Canvas) -> str:
    buffer = io.StringIO()
    canvas.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    # The metadata only names schemas; the style would reach the whole page, so the svg element carries it instead.
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, count=1, flags=re.DOTALL)
    text = re.sub(r"\s*<defs>\s*<style.*?</style>\s*</defs>", "", text, count=1, flags=re.DOTALL)
    text = re.sub(r"'DejaVu Sans'[^;\"]*", "system-ui, sans-serif", text)
    return _own_ids(text.replace("<svg ", '<svg stroke-linejoin="round" ', 1))


def _own_ids(text: str) -> str:
    """Without the ids that nothing in the picture refers to ('figure_1', ...): a page has many pictures."""
    used = set(re.findall(r"(?:url\(|href=\")#([^)\"]+)", text))
    return re.sub(r' id="([^"]+)"', lambda match: match.group(0) if match.group(1) in used else "", text)
