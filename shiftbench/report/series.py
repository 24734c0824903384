"""How each series of a figure looks: the same colour for base and for tuned everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D

from shiftbench.report.colours import MODELS, SERIES, light

MOST_COLOURS = len(SERIES)
DASHES = (0, (4, 2.2))
_MARKERS = ("o", "s", "^", "D", "v", "P")
_LONGEST_NAME = 44  # characters in a legend


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


def legend(canvas: Canvas, shown: Sequence[Look]) -> None:
    """A legend above the picture: an entry a subject, and where subjects have both models, which stroke is which."""
    subjects = {look.subject: look for look in reversed(shown)}
    entries = [
        Line2D(
            [],
            [],
            markersize=4,
            label=_short(subject),
            **{**look.stroke, **({} if subject in MODELS else _SOLID)},
        )
        for subject, look in reversed(subjects.items())
        if subject
    ]
    models = {look.model: look.dashed for look in shown if look.model and look.model != look.subject}
    for model, dashed in models.items():
        entries.append(
            Line2D(
                [],
                [],
                color=light("muted"),
                linestyle=DASHES if dashed else "-",
                label=model,
            )
        )
    if len(entries) > 1:
        # Inches of an entry: its handle and gaps, and 0.08 a character of 9.5 points.
        inches = 0.62 + 0.08 * max(len(str(entry.get_label())) for entry in entries)
        columns = max(1, min(len(entries), int(canvas.get_figwidth() / inches)))
        canvas.legend(
            handles=entries,
            loc="outside upper left",
            ncols=columns,
            handlelength=2.6,
            columnspacing=1.2,
        )


_SOLID = {"linestyle": "-"}


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"


def _subject_and_model(name: str) -> tuple[str, str | None]:
    if name in MODELS:
        return name, name
    subject, comma, model = name.rpartition(", ")
    return (subject, model) if comma and model in MODELS else (name, None)
