"""The content of scores.json: `document` gives it as a dict, and `parsed` reads it from the bytes of the file.

shiftbench/schema/scores.schema.json is the JSON schema of the file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shiftbench.contracts.result import Result, Score
from shiftbench.readers import json_value

SCHEMA = "shiftbench/scores/1"


@dataclass(frozen=True)
class Document:
    """What `parsed` reads from a scores.json. The notes in the file are not read.

    pair: which models were compared, and how. versions: the version of each package, finding and method that computed
    the scores, by name. scores: at least one. levels: the names of the findings whose scores are properties of one
    model (Result.level); empty where the file has no such field.
    """

    pair: Mapping[str, Any]
    versions: Mapping[str, Any]
    scores: Sequence[Score]
    levels: Sequence[str] = ()


def document(
    pair: Mapping[str, Any], versions: Mapping[str, Any], results: Sequence[Result], notes: Sequence[str]
) -> dict[str, Any]:
    """The content of scores.json as a dict that can be written as JSON.

    pair, versions, notes: written unchanged. results: the scores of all of them go into one list, in order, and the
    names of those with Result.level into "levels".
    Raises RuntimeError where the value, low or high of a score is not finite: that is a bug of shiftbench.
    """
    return {
        "schema": SCHEMA,
        "versions": dict(versions),
        "pair": dict(pair),
        "scores": [_row(score) for result in results for score in result.scores],
        "levels": [result.finding for result in results if result.level],
        "notes": list(notes),
    }


def parsed(content: bytes) -> Document:
    """The content of a scores.json, read from the bytes of the file.

    Raises ValueError, with the reason, where the bytes are not JSON of the format SCHEMA, where pair, versions or
    scores are missing, where there is no score, and where `_score` refuses a score.
    """
    found = json_value(content, "scores.json")
    schema = found.get("schema") if isinstance(found, dict) else None
    if schema != SCHEMA:
        raise ValueError(f"scores.json is not of the format {SCHEMA}: its schema is {str(schema)[:40]!r}")
    pair, versions, rows = (found.get(name) for name in ("pair", "versions", "scores"))
    if not isinstance(pair, dict) or not isinstance(versions, dict) or not isinstance(rows, list) or not rows:
        raise ValueError("scores.json lacks pair, versions or scores")
    levels = found.get("levels", [])  # older files have no such field
    if not isinstance(levels, list):
        raise ValueError(f"scores.json: levels must be a list of findings, got {str(levels)[:40]}")
    return Document(pair, versions, [_score(row) for row in rows], [str(name) for name in levels])


def _row(score: Score) -> dict[str, Any]:
    numbers = {"value": score.value, "low": score.low, "high": score.high}
    bad = [name for name, number in numbers.items() if not math.isfinite(number)]
    if bad:
        raise RuntimeError(f"score {score.finding}.{score.name}: {', '.join(bad)} is not a finite number")
    return {"finding": score.finding, "name": score.name, **numbers, "p": score.p, "n": score.n}


def _score(row: Any) -> Score:
    """The score in one element of the list "scores". Further fields of the element are ignored.

    Raises ValueError where a field of Score is missing or has the wrong type, where a number is not finite, and where
    low is above high.
    """
    try:
        p = None if row["p"] is None else float(row["p"])
        score = Score(
            str(row["finding"]), str(row["name"]), float(row["value"]), float(row["low"]), float(row["high"]), p,
            int(row["n"]),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, OverflowError):
        raise ValueError(f"scores.json: a score cannot be read: {str(row)[:200]}") from None
    numbers = (score.value, score.low, score.high, *([] if p is None else [p]))
    if not all(map(math.isfinite, numbers)) or score.low > score.high:
        raise ValueError(f"scores.json: {score.finding}.{score.name} has no usable interval")
    return score
