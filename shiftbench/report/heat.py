"""Heat maps: one colour, as opaque as the value is large, so that zero is the paper in light and in dark."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.colors import Colormap, ListedColormap, to_rgb
from matplotlib.figure import Figure as Canvas
from numpy.typing import NDArray

from shiftbench.contracts.result import Figure
from shiftbench.report.colours import light
from shiftbench.report.series import order
from shiftbench.report.text import label

MOST_COLUMNS = 40  # of a picture of half the page's width
_STEPS = 20  # of colour on each side of zero; few enough that matplotlib keeps the scale's colours as shapes
_TALLEST = 7.0  # inches


def draw_heat(figure: Figure, rows: pd.DataFrame) -> Canvas:
    """Rows are series, the first on top, columns are x, colour is y. A cell without a value has no border."""
    lines, columns = order(rows[figure.series]), order(rows[figure.x])
    first = rows.drop_duplicates([figure.series, figure.x])
    table = first.pivot(index=figure.series, columns=figure.x, values=figure.y).reindex(index=lines, columns=columns)
    value = np.ma.masked_invalid(table.to_numpy(dtype=np.float64))
    width = 9.5 if len(columns) > MOST_COLUMNS else 4.6
    height = 0.9 + len(lines) * min((width - 1.4) / len(columns), 0.42)
    canvas = Canvas(figsize=(width, min(_TALLEST, max(1.8, height))), layout="constrained")
    axes = canvas.add_subplot()
    low, high = _range(value, figure.diverging)
    # Every cell is a shape of its own: sharp at any size, and no image inside the picture.
    mesh = axes.pcolormesh(
        value, cmap=_colours(figure.diverging), vmin=low, vmax=high,
        edgecolors=light("line"), linewidth=0.8 if value.size <= 600 else 0.2,
    )  # fmt: skip
    _thin_ticks(axes.set_xticks, columns, 12)
    _thin_ticks(axes.set_yticks, lines, 16)
    axes.set_ylim(len(lines), 0)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel(label(figure.x_label or figure.x))
    axes.set_ylabel(label(figure.y_label or figure.series))
    canvas.colorbar(mesh, ax=axes, fraction=0.04, pad=0.03).outline.set_visible(False)  # type: ignore[operator]
    return canvas


def _range(value: NDArray[np.float64], diverging: bool) -> tuple[float, float]:
    low, high = float(value.min()), float(value.max())
    if diverging:
        reach = max(abs(low), abs(high)) or 1.0
        return -reach, reach
    return (low, high) if high > low else (low, low + 1.0)


def _colours(diverging: bool) -> Colormap:
    """Base's colour below zero, tuned's above it, both fading to nothing at zero; else tuned's alone."""
    steps = range(-_STEPS if diverging else 0, _STEPS + 1)
    return ListedColormap([(*to_rgb(light("base" if i < 0 else "tuned")), 0.92 * abs(i) / _STEPS) for i in steps])


def _thin_ticks(set_ticks: Callable[..., object], names: list[object], most: int) -> None:
    """Names at the middle of cells, every so many that they do not touch."""
    every = -(-len(names) // most)
    set_ticks(
        [i + 0.5 for i in range(0, len(names), every)],
        [label(name) for name in names[::every]],
    )
