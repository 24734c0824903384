"""The content of scores.json: `document` gives it as a dict, and `parsed` reads it from the bytes of the file.

shiftbench/schema/scores.schema.json is the JSON schema of the file.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shiftbench.contracts.result import Score
from shiftbench.readers import json_value
from shiftbench.report import RunSummary
from shiftbench.verdicts import Null, Word
from shiftbench.verdicts.sentences import command_line, fields

SCHEMA = "shiftbench/scores/2"
READABLE = (SCHEMA, "shiftbench/scores/1")  # files of version 1 have no verdicts, and neither date nor command
# The fields of when, by which command and as which MLflow run a result was recorded, and each verdict's next command,
# which is made from that command. Each is a line of the file, which is written with an indent of two spaces.
CIRCUMSTANCES = re.compile(rb'^(?:  "(?:date|command|mlflow_run)"|      "next"): .*\n', re.MULTILINE)


@dataclass(frozen=True)
class RecordedVerdict:
    """A verdict as scores.json has it; `shiftbench.verdicts.sentences.fields` says what each field is.

    word: a value of `Word`. headline: the name of the score that the verdict rests on. null: None without a control.
    p_uncorrected: of the same test as p, for a correction over more claims than those of the run; None also where the
    file has no such field. short: "" where the file has no such field.
    """

    word: str
    claim: str
    headline: str
    value: float
    low: float
    high: float
    p: float | None
    n: int
    null: Null | None
    reasons: Sequence[str]
    sentence: str
    detectable: float | None
    next: str | None
    p_uncorrected: float | None = None
    short: str = ""

    def score(self, finding: str) -> Score:
        """The headline as a score of the finding of this name. Its p is the corrected one."""
        return Score(finding, self.headline, self.value, self.low, self.high, self.p, self.n)


@dataclass(frozen=True)
class Document:
    """What `parsed` reads from a scores.json. The notes in the file are not read.

    pair: which models were compared, and how. versions: the version of each package, finding and method that computed
    the scores, by name. scores: at least one. levels: the names of the findings whose scores are properties of one
    model (Result.level); empty where the file has no such field. verdicts: by 'FINDING' for the first claim of a
    finding, and by 'FINDING.SCORE' for its further claims; empty in files of version 1. schema: the file's format, one
    of READABLE.
    """

    pair: Mapping[str, Any]
    versions: Mapping[str, Any]
    scores: Sequence[Score]
    levels: Sequence[str] = ()
    verdicts: Mapping[str, RecordedVerdict] = field(default_factory=dict)
    schema: str = SCHEMA


def document(summary: RunSummary) -> dict[str, Any]:
    """The content of scores.json. Its `mlflow_run` is None: tracking writes the id into the file when it sends a run.

    Raises RuntimeError for a score whose value or interval is not finite: that is a bug of shiftbench.
    """
    finished, results = summary.finished, summary.results
    return {
        "schema": SCHEMA,
        "verdicts": fields(summary.verdicts, summary.given),
        "date": None if finished is None else finished.isoformat(timespec="seconds"),
        "command": command_line(summary.given) or None,
        "versions": dict(summary.versions),
        "pair": dict(summary.pair),
        "scores": [_row(score) for result in results for score in result.scores],
        "levels": [result.finding for result in results if result.level],
        "notes": list(summary.notes),
        "explanations": dict(summary.explanations),
        "mlflow_run": None,
    }


def parsed(content: bytes) -> Document:
    """The content of a scores.json, read from the bytes of the file.

    Raises ValueError, with the reason, where the bytes are not JSON of one of the formats READABLE, where pair,
    versions or scores are missing, where there is no score, where levels or verdicts are of the wrong type, and where
    `_score` or `_verdict` refuses an entry.
    """
    found = json_value(content, "scores.json")
    schema = found.get("schema") if isinstance(found, dict) else None
    if schema not in READABLE:
        raise ValueError(f"scores.json is not of the format {SCHEMA}: its schema is {str(schema)[:40]!r}")
    pair, versions, rows = (found.get(name) for name in ("pair", "versions", "scores"))
    if not isinstance(pair, dict) or not isinstance(versions, dict) or not isinstance(rows, list) or not rows:
        raise ValueError("scores.json lacks pair, versions or scores")
    levels = found.get("levels", [])  # older files have no such field
    if not isinstance(levels, list):
        raise ValueError(f"scores.json: levels must be a list of findings, got {str(levels)[:40]}")
    verdicts = found.get("verdicts", {})
    if not isinstance(verdicts, dict):
        raise ValueError(f"scores.json: verdicts must be an object, got {str(verdicts)[:40]}")
    by_name = {str(name): _verdict(str(name), row) for name, row in verdicts.items()}
    return Document(pair, versions, [_score(row) for row in rows], [str(name) for name in levels], by_name, schema)


def without_circumstances(content: bytes) -> bytes:
    """The content of a scores.json without date, MLflow run and commands: the job's own, and each verdict's next one.

    Where a job is repeated with the same inputs on the same machine, the rest is to be the same, byte for byte.
    """
    return CIRCUMSTANCES.sub(b"", content)


def _row(score: Score) -> dict[str, Any]:
    numbers = {"value": score.value, "low": score.low, "high": score.high}
    bad = [name for name, number in numbers.items() if not math.isfinite(number)]
    if bad:
        raise RuntimeError(f"score {score.finding}.{score.name}: {', '.join(bad)} is not a finite number")
    return {"finding": score.finding, "name": score.name, **numbers, "p": score.p, "n": score.n}


def _score(row: Any) -> Score:
    """The score in one element of the list "scores". Further fields of the element are ignored.

    Raises ValueError where a field of Score is missing or cannot be converted to its type, where a number is not
    finite, and where low is above high.
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


def _verdict(name: str, row: Any) -> RecordedVerdict:
    """A verdict of the file. p, detectable and p_uncorrected that are missing count as null, short as "".

    name: of the claim, for messages. Raises ValueError where another field is missing, where a field is unusable, and
    where a number is not finite.
    """
    try:
        word, null = Word(row["verdict"]).value, row["null"]
        numbers = [float(row[key]) for key in ("value", "low", "high")]
        optional = [None if row.get(key) is None else float(row[key]) for key in ("p", "detectable", "p_uncorrected")]
        found = RecordedVerdict(
            word=word,
            claim=str(row["claim"]),
            headline=str(row["headline"]),
            value=numbers[0],
            low=numbers[1],
            high=numbers[2],
            p=optional[0],
            n=int(row["n"]),
            null=None if null is None else _null(null),
            reasons=[str(reason) for reason in row["reasons"]],
            sentence=str(row["sentence"]),
            detectable=optional[1],
            next=None if row["next"] is None else str(row["next"]),
            p_uncorrected=optional[2],
            short=str(row.get("short", "")),
        )
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError):
        raise ValueError(f"scores.json: the verdict {name[:80]!r} cannot be read: {str(row)[:200]}") from None
    if not all(map(math.isfinite, [*numbers, *(number for number in optional if number is not None)])):
        raise ValueError(f"scores.json: the verdict {name[:80]!r} has a number that is not finite")
    ps = [p for p in (found.p, found.p_uncorrected) if p is not None]
    if found.low > found.high or found.n < 0 or not all(0 <= p <= 1 for p in ps):
        raise ValueError(f"scores.json: the verdict {name[:80]!r} has no usable interval, n or p")
    return found


def _null(row: Any) -> Null:
    bounds = [float(row[key]) for key in ("mean", "low", "high")]
    if not all(map(math.isfinite, bounds)):
        raise ValueError("a number of the null models is not finite")
    mean, low, high = bounds
    draws, place = int(row["draws"]), int(row["place"])
    if not 0 <= place <= draws or draws == 0:
        raise ValueError("the place among the null models is not among them")
    return Null(str(row["kind"]), draws, mean, low, high, place)
