"""A run's scores.json, from a folder, a file or MLflow, and whether two of them may be compared."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shiftbench.errors import InputError
from shiftbench.findings.result import Score
from shiftbench.gate.rules import Found
from shiftbench.tracking import Tracking
from shiftbench.tracking.reading import artifact

SCHEMA = "shiftbench/scores/1"
# Of "pair" in scores.json: what two runs must share for their scores to be of one kind.
SAME = (
    "prompt_set", "settings", "control", "response", "max_new_tokens", "template", "dtype", "vocabulary_digest",
    "vectors",
)  # fmt: skip
TOLD = ("base_weights", "tokenizer")  # what a reader must know of, if it differs


@dataclass(frozen=True)
class Scores:
    """What a scores.json says. origin: how the user named it."""

    origin: str
    pair: Mapping[str, Any]
    versions: Mapping[str, str]
    scores: Found


def read(named: str, option: str, tracking: Tracking | None) -> Scores:
    """Of a folder of results, a file, or, where a place of tracking is given, the id of a run there.

    Raises InputError where there is none, or it is not one of ours.
    """
    path = Path(named).expanduser()
    origin = f"{option}={named}"
    try:
        if path.is_dir():
            return parsed((path / "scores.json").read_bytes(), origin)
        if path.is_file():
            return parsed(path.read_bytes(), origin)
    except OSError as error:
        raise InputError(f"{origin}: cannot read its scores.json: {error.strerror or error}") from None
    if tracking is not None and re.fullmatch(r"[0-9a-f]{32}", named):
        return parsed(artifact(tracking, named, "scores.json"), origin)
    kinds = "no folder and no file" + ("" if tracking is None else ", nor the id of a run in MLflow (32 digits, 0-f)")
    raise InputError(f"{origin} is {kinds}; give the folder of an earlier shiftbench score")


def parsed(content: bytes, origin: str) -> Scores:
    """The same of a file's bytes."""
    wrong = f"{origin} is no scores.json of shiftbench"
    try:
        document = json.loads(content)
    except ValueError as error:
        raise InputError(f"{wrong}: {error}") from None
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema != SCHEMA:
        raise InputError(f"{wrong}: its schema is {schema!r}, {SCHEMA!r} was expected")
    try:
        rows = [Score(**row) for row in document["scores"]]
        numbers = [float(number) for row in rows for number in (row.value, row.low, row.high, row.n)]
        found = {(row.finding, row.name): row for row in rows}
        made = Scores(origin, dict(document["pair"]), dict(document["versions"]), found)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{wrong}: {type(error).__name__} {error}") from None
    if not rows or any(number != number for number in numbers):
        raise InputError(f"{wrong}: it has no scores, or one that is not a number")
    return made


def comparable(pair: Mapping[str, Any], versions: Mapping[str, str], reference: Scores) -> list[str]:
    """Remarks on what differs without harm. pair, versions: of the run to judge, as far as they are known.

    Raises InputError where the reference was made in another way: other versions of a finding or a method, other
    prompts, other settings.
    """
    same = [key for key in SAME if key in pair]
    theirs = {"control": "none", **reference.pair}  # older runs know no controls
    missing = [key for key in same if key not in theirs]
    if missing:
        raise InputError(f"{reference.origin} does not say its {missing[0]}; score it again with this shiftbench")
    differ = [f"{key} {_short(theirs[key])}, here {_short(pair[key])}" for key in same if theirs[key] != pair[key]]
    differ += [
        f"version of {key} {reference.versions[key]}, here {versions[key]}"
        for key in sorted({*versions} & {*reference.versions})
        if key.startswith(("finding.", "explain.")) and reference.versions[key] != versions[key]
    ]
    if differ:
        raise InputError(
            f"{reference.origin} was made in another way, so scores cannot be compared: {'; '.join(differ)}. Score the "
            "reference again in the same way (each run's config.yaml has all options)"
        )
    told = [key for key in TOLD if key in pair and pair[key] != reference.pair.get(key)]
    told += [key for key in ("torch", "transformers", "shiftbench") if versions.get(key) != reference.versions.get(key)]
    return [f"The reference was made with another {key.replace('_', ' ')}." for key in told]


def _short(value: Any) -> str:
    text = str(value)
    return text[:12] if re.fullmatch(r"[0-9a-f]{64}", text) else repr(value)
