"""How each series of a figure looks: the same colour for base and for tuned everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D

from shiftbench.report.colours import MODELS, SERIES, light
from shiftbench.report.text import label

MOST_COLOURS = len(SERIES)
DASHES = (0, (4, 2.2))
_MARKERS = ("o", "s", "^", "D", "v", "P")


@dataclass(frozen=True)
class Look:
    """One series: its name, its subject (what it shares a colour with), its model if it names one, and its strokes."""

    series: str
    subject: str
    model: str | None
    colour: str
    dashed: bool
    marker: str

    @property
    def stroke(self) -> dict[str, Any]:
        """As matplotlib's keyword arguments of a line."""
        return {
            "color": self.colour,
            "linestyle": DASHES if self.dashed else "-",
            "marker": self.marker,
        }


def order(values: pd.Series) -> list[Any]:
    """Distinct values as they should stand: numbers ascending, names as they first come, base before tuned."""
    distinct = list(dict.fromkeys(values.tolist()))
    if pd.api.types.is_numeric_dtype(values):
        return sorted(distinct)
    return sorted(distinct, key=lambda name: MODELS.index(name) if name in MODELS else -1)


def looks(series: Sequence[object], dashed: Sequence[str]) -> list[Look]:
    """A look a series. 'X, base' and 'X, tuned' share X's colour; 'base' and 'tuned' alone have their own."""
    parted = [_subject_and_model(str(name)) for name in series]
    others = list(dict.fromkeys(subject for subject, _ in parted if subject not in MODELS))
    found = []
    for name, (subject, model) in zip(series, parted, strict=True):
        place = MODELS.index(subject) if subject in MODELS else others.index(subject)
        colour = light(subject if subject in MODELS else SERIES[place % len(SERIES)])
        found.append(
            Look(
                str(name),
                subject,
                model,
                colour,
                name in dashed,
                _MARKERS[place % len(_MARKERS)],
            )
        )
    return found


def legend(canvas: Canvas, shown: Sequence[Look], bars: bool = False) -> None:
    """A legend above the picture: an entry a subject, and where subjects have both models, which stroke is which."""
    strokes: dict[str, dict[str, Any]] = {}
    for look in shown:
        # A subject with two models is shown by its colour; the stroke is the models' own entry.
        own = look.model in (None, look.subject)
        strokes.setdefault(look.subject, look.stroke if own else {**look.stroke, "linestyle": "-"})
    for look in shown:
        if look.model and look.model != look.subject:
            strokes.setdefault(look.model, {"color": light("muted"), "linestyle": DASHES if look.dashed else "-"})
    if len(strokes) < 2:
        return
    square = {"linestyle": "", "marker": "s", "markersize": 8} if bars else {}
    entries = [Line2D([], [], **{"markersize": 4, **stroke, **square}) for stroke in strokes.values()]
    # matplotlib takes a label that begins with '_' as a request to hide it.
    names = [label(f" {name}" if name.startswith("_") else name) for name in strokes]
    # Inches of an entry: its handle and gaps, and the characters of 9.5 points.
    columns = int(canvas.get_figwidth() / (0.56 + 0.075 * max(map(len, names))))
    canvas.legend(
        entries, names, loc="outside upper left", ncols=max(1, min(len(names), columns)), handlelength=2.6,
        columnspacing=1.2,
    )  # fmt: skip


def _subject_and_model(name: str) -> tuple[str, str | None]:
    if name in MODELS:
        return name, name
    subject, comma, model = name.rpartition(", ")
    return (subject, model) if comma and model in MODELS else (name, None)
