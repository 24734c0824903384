"""A run's scores.json, from a folder, a file or MLflow, and whether two of them may be compared."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shiftbench.errors import InputError
from shiftbench.gate.rules import Found
from shiftbench.readers import file_bytes, path_of, reading
from shiftbench.results.document import parsed
from shiftbench.tracking import Tracking
from shiftbench.tracking.reading import SCORES, artifact

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
    path = path_of(named, option)
    origin = f"{option}={named}"
    try:
        if path.is_dir():
            return _scores(file_bytes(path / "scores.json", origin, SCORES), origin)
        if path.exists():
            return _scores(file_bytes(path, origin, SCORES), origin)
    except OSError as error:
        raise InputError(f"{origin}: cannot read its scores.json: {error.strerror or error}") from None
    if tracking is not None and re.fullmatch(r"[0-9a-f]{32}", named):
        return _scores(artifact(tracking, named, "scores.json"), origin)
    kinds = "no folder and no file" + ("" if tracking is None else ", nor the id of a run in MLflow (32 digits, 0-f)")
    raise InputError(f"{origin} is {kinds}; give the folder of an earlier shiftbench score")


def _scores(content: bytes, origin: str) -> Scores:
    with reading(f"{origin} is no scores.json of shiftbench"):
        try:
            found = parsed(content)
        except ValueError as error:
            raise InputError(f"{origin} is no scores.json of shiftbench: {error}") from None
    return Scores(origin, found.pair, found.versions, {(row.finding, row.name): row for row in found.scores})


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
    return text[:12] if re.fullmatch(r"[0-9a-f]{64}", text) else repr(value)[:200]
