"""Heat maps, whose cells are more or less opaque, so that a transparent cell looks like the page, light or dark.

In a diverging heat map, zero is transparent, and a cell is more opaque the farther its value is from zero. In another
heat map, the lowest value of its scale is transparent, and a cell is more opaque the higher its value is. A cell
without a value is hatched, because a transparent cell has a value.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.colors import Colormap, ListedColormap, to_rgb
from matplotlib.figure import Figure as Canvas
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from numpy.typing import NDArray

from shiftbench.contracts.result import Figure
from shiftbench.report.colours import light_colour
from shiftbench.report.series_styles import Limits, distinct_in_order
from shiftbench.report.text import label

MOST_NARROW_COLUMNS = 40  # a heat map with more columns takes the page's full width
# Steps of opacity from transparent to opaque; a diverging map has so many on each side of zero. With so few steps,
# matplotlib writes the colour bar as shapes and not as an image.
_STEPS = 20
_TALLEST = 7.0  # inches; no heat map is taller
NO_DATA = "hatched: no data"  # stands above a map that has such cells
# The lines of a cell's hatch, each from one corner or edge to another: (x, y) of both ends, in cells.
_HATCH = np.array([[[0.0, 0.5], [0.5, 0.0]], [[0.0, 1.0], [1.0, 0.0]], [[0.5, 1.0], [1.0, 0.5]]])


def draw_heat_map(figure: Figure, rows: pd.DataFrame, limits: Limits | None = None) -> Canvas:
    """A heat map with a line of cells for each series (the first on top) and a column for each value of x.

    Both are in the order of `distinct_in_order`. The column `figure.y` decides the colour of a cell. A cell without a
    row is hatched, and NO_DATA then stands above the map.
    rows: the rows to draw, as `figures.rows_to_draw` gives them; of several rows of one cell, the first counts.
    limits: the values at the ends of the colour map; None: `_colour_limits`.
    """
    lines, columns = distinct_in_order(rows[figure.series]), distinct_in_order(rows[figure.x])
    first = rows.drop_duplicates([figure.series, figure.x])
    table = first.pivot(index=figure.series, columns=figure.x, values=figure.y).reindex(index=lines, columns=columns)
    value = np.ma.masked_invalid(table.to_numpy(dtype=np.float64))
    width = 9.5 if len(columns) > MOST_NARROW_COLUMNS else 4.6
    height = 0.9 + len(lines) * min((width - 1.4) / len(columns), 0.42)
    canvas = Canvas(figsize=(width, min(_TALLEST, max(1.8, height))), layout="constrained")
    axes = canvas.add_subplot()
    low, high = limits or _colour_limits(value, figure.diverging)
    # pcolormesh draws every cell as a shape: it is sharp at any size, and the SVG holds no image.
    stroke = 0.8 if value.size <= 600 else 0.2
    mesh = axes.pcolormesh(
        value, cmap=_colour_map(figure.diverging), vmin=low, vmax=high,
        edgecolors=light_colour("line"), linewidth=stroke,
    )  # fmt: skip
    missing = np.ma.getmaskarray(value)
    if missing.any():
        axes.add_patch(PathPatch(_hatch(missing), fill=False, edgecolor=light_colour("muted"), linewidth=stroke))
        axes.set_title(NO_DATA, loc="left", pad=8)
    _label_cells(axes.set_xticks, columns, 12)
    _label_cells(axes.set_yticks, lines, 16)
    axes.set_ylim(len(lines), 0)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel(label(figure.x_label or figure.x))
    axes.set_ylabel(label(figure.y_label or figure.series))
    canvas.colorbar(mesh, ax=axes, fraction=0.04, pad=0.03).outline.set_visible(False)
    return canvas


def _hatch(missing: NDArray[np.bool_]) -> Path:
    """The lines of _HATCH in each cell that is missing, as one path in units of cells.

    missing: [lines, columns]. One path and no hatch pattern of matplotlib: the SVG stays small and needs no id.
    """
    corners = np.argwhere(missing)[:, ::-1]  # [cells, 2], x and y
    points = (corners[:, None, None, :] + _HATCH).reshape(-1, 2)
    return Path(points, np.tile([Path.MOVETO, Path.LINETO], len(points) // 2))


def _colour_limits(value: NDArray[np.float64], diverging: bool) -> tuple[float, float]:
    """The values at which the colour map begins and ends, (low, high).

    If diverging, they are symmetric around zero. If not, they are the lowest and the highest value. value: the values
    of all cells, masked where a cell has none. high is above low even where all values are equal.
    """
    low, high = float(value.min()), float(value.max())
    if diverging:
        reach = max(abs(low), abs(high)) or 1.0
        return -reach, reach
    return (low, high) if high > low else (low, low + 1.0)


def _colour_map(diverging: bool) -> Colormap:
    """A colour map in the tuned model's colour, from transparent at its low end to nearly opaque at its high end.

    If diverging, it is transparent in the middle and nearly opaque at both ends, and the lower half has the base
    model's colour.
    """
    steps = range(-_STEPS if diverging else 0, _STEPS + 1)
    return ListedColormap(
        [(*to_rgb(light_colour("base" if i < 0 else "tuned")), 0.92 * abs(i) / _STEPS) for i in steps]
    )


def _label_cells(set_ticks: Callable[..., object], names: list[object], most: int) -> None:
    """Label cells along one axis with their names, at most `most` of them, so that labels do not overlap.

    set_ticks: the axis's function that takes the positions and the labels. names: one for each cell along the axis.
    Every k-th cell is labelled, from the first on, with the smallest k that suffices.
    """
    every = -(-len(names) // most)
    set_ticks(
        [i + 0.5 for i in range(0, len(names), every)],
        [label(name) for name in names[::every]],
    )
