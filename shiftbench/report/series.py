"""How each series of a figure looks: the same colour for base and for tuned everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from shiftbench.report.colours import MODELS, SERIES, light

MOST_COLOURS = len(SERIES)
_MARKERS = ("o", "s", "^", "D", "v", "P")


@dataclass(frozen=True)
class Look:
    """One series: its name, what it shares its colour with, colour (hex), dashed or not, and its marker."""

    series: str
    colour_key: str
    colour: str
    dashed: bool
    marker: str


def order(values: pd.Series) -> list[object]:
    """Distinct values as they should stand: numbers ascending, names as they first come, base before tuned."""
    distinct = list(dict.fromkeys(values.tolist()))
    if pd.api.types.is_numeric_dtype(values):
        return sorted(distinct)
    return sorted(
        distinct, key=lambda name: MODELS.index(name) if name in MODELS else -1
    )


def looks(series: Sequence[object], dashed: Sequence[str]) -> list[Look]:
    """A look a series. 'X, base' and 'X, tuned' share X's colour; 'base' and 'tuned' alone have their own."""
    keys = [_colour_key(str(name)) for name in series]
    others = [key for key in dict.fromkeys(keys) if key not in MODELS]
    found = []
    for name, key in zip(series, keys, strict=True):
        place = MODELS.index(key) if key in MODELS else others.index(key)
        colour = light(key if key in MODELS else SERIES[place % len(SERIES)])
        found.append(
            Look(
                str(name), key, colour, name in dashed, _MARKERS[place % len(_MARKERS)]
            )
        )
    return found


def _colour_key(name: str) -> str:
    stem, comma, model = name.rpartition(", ")
    return stem if comma and model in MODELS else name
