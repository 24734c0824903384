"""Reads a run's scores.json from a folder, a file or MLflow, and checks whether two runs may be compared."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from shiftbench.errors import InputError
from shiftbench.gate.rules import Judged
from shiftbench.readers import file_bytes, path_of, reading
from shiftbench.results.document import parsed
from shiftbench.tracking import Tracking
from shiftbench.tracking.reading import SCORES, artifact

# Fields of "pair" in scores.json. Scores of two runs are comparable only where these are equal.
MUST_MATCH = (
    "prompt_set", "settings", "control", "response", "max_new_tokens", "template", "dtype", "vocabulary_digest",
    "vectors",
)  # fmt: skip
# Fields of "pair", and versions, that may differ; the summary then has a note.
NOTED_FIELDS = ("base_weights", "tokenizer")
NOTED_VERSIONS = ("torch", "transformers", "shiftbench")


@dataclass(frozen=True)
class Scores(Judged):
    """The content of a scores.json.

    origin: how the user named it, as 'against=release'; messages begin with it. scores: by (finding, name). verdicts:
    empty in files of versions before verdicts. pair, versions: the objects of that name in scores.json.
    """

    pair: Mapping[str, Any] = field(kw_only=True)
    versions: Mapping[str, str] = field(kw_only=True)


def read(named: str, option: str, tracking: Tracking | None) -> Scores:
    """The content of a run's scores.json.

    named: what the user gave: a folder of results, a scores.json, or, where `tracking` is given, the id of a run in
    MLflow. A folder or file of this name comes before a run of this id. option: the option that gave it, for messages.
    Raises InputError where there is nothing of that name, where it cannot be read, and where it is not a scores.json of
    shiftbench.
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
    run_id = "" if tracking is None else ", and it is not the id of a run in MLflow (32 digits, 0-f)"
    raise InputError(f"{origin}: there is no folder and no file of that name{run_id}; give results of shiftbench score")


def _scores(content: bytes, origin: str) -> Scores:
    with reading(f"{origin} is not a scores.json of shiftbench"):
        try:
            document = parsed(content)
        except ValueError as error:
            raise InputError(f"{origin} is not a scores.json of shiftbench: {error}") from None
    by_name = {(row.finding, row.name): row for row in document.scores}
    return Scores(origin, by_name, document.verdicts, pair=document.pair, versions=document.versions)


def check_comparable(pair: Mapping[str, Any], versions: Mapping[str, str], reference: Scores) -> list[str]:
    """Check that a run may be compared with the reference; return a sentence on each difference that is allowed.

    pair, versions: of the run, as in scores.json. What is not known yet may be missing and is then not compared, but
    one of NOTED_VERSIONS that only one of the two runs has counts as a difference. Raises InputError where the two runs
    differ in a field of MUST_MATCH or in the version of a finding or an explainer that both have, and where the
    reference lacks a field of MUST_MATCH that the run has. A reference without the field "control" counts as one whose
    control is 'none'.
    """
    fields = [key for key in MUST_MATCH if key in pair]
    reference_pair = {"control": "none", **reference.pair}  # the files of older versions have no field "control"
    missing = [key for key in fields if key not in reference_pair]
    if missing:
        raise InputError(f"{reference.origin} has no {missing[0]}; score it again with this version of shiftbench")
    differences = [
        f"{key} {_short(reference_pair[key])}, here {_short(pair[key])}"
        for key in fields
        if reference_pair[key] != pair[key]
    ]
    differences += [
        f"version of {key} {reference.versions[key]}, here {versions[key]}"
        for key in sorted({*versions} & {*reference.versions})
        if key.startswith(("finding.", "explain.")) and reference.versions[key] != versions[key]
    ]
    if differences:
        raise InputError(
            f"{reference.origin} was made in another way, so scores cannot be compared: {'; '.join(differences)}. "
            "Score the reference again in the same way (each run's config.yaml has all options)"
        )
    noted = [key for key in NOTED_FIELDS if key in pair and pair[key] != reference.pair.get(key)]
    noted += [key for key in NOTED_VERSIONS if versions.get(key) != reference.versions.get(key)]
    return [f"The reference was made with another {key.replace('_', ' ')}." for key in noted]


def _short(value: Any) -> str:
    """The value for a message: the first 12 of a digest's 64 characters; at most 200 of another value's repr."""
    text = str(value)
    return text[:12] if re.fullmatch(r"[0-9a-f]{64}", text) else repr(value)[:200]
