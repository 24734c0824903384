"""One tracked run as a leaderboard reads it, and the settings that must be equal for two runs to be compared."""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from shiftbench.contracts.result import UNFAITHFUL, Score
from shiftbench.results.document import RecordedVerdict

# The fields of "pair" in scores.json that are equal in comparable runs, as are the versions of findings and explainers.
SHARED = (
    "prompt_set", "settings", "response", "max_new_tokens", "template", "dtype", "vocabulary_digest", "vectors",
    "control",
)  # fmt: skip
GROUP_CHARACTERS = 9  # characters of a group's key that messages and pages show
DIGEST_CHARACTERS = 8  # characters of a digest that messages and pages show


@dataclass(frozen=True)
class Entry:
    """One tracked run, as its scores.json describes it.

    recorded_ms: when the run began, as MLflow has it, in milliseconds since 1970. pair, versions: the objects of that
    name in scores.json, with every value as text ('' for null in pair). flags: those of the run's tag `flags`, in
    which commas separate them; each is there once. levels: names of findings that check a method: their scores describe
    one model, and not what tuning changed.
    verdicts: as `Document.verdicts`. judged: False for a run of an older version of shiftbench, whose scores.json has
    no verdicts.
    """

    run_id: str
    recorded_ms: int
    pair: Mapping[str, str]
    versions: Mapping[str, str]
    scores: Sequence[Score]
    flags: tuple[str, ...] = ()
    levels: tuple[str, ...] = ()
    verdicts: Mapping[str, RecordedVerdict] = field(default_factory=dict)
    judged: bool = True

    @property
    def identity(self) -> tuple[str, str, str]:
        """(name of the pair, digest of the base's weights, digest of the tuned model's weights).

        Runs with an equal identity are runs of the same pair; a board has only one of them as a row.
        """
        return self.pair["name"], self.pair["base_weights"], self.pair["tuned_weights"]

    @cached_property
    def setting(self) -> dict[str, str]:
        """The values that must be equal for two runs to be compared, by name.

        They are the fields SHARED, '' where the run has none ('none' for the control, because older files leave it
        out), and the versions of the findings and explainers.
        """
        versions = {k: v for k, v in sorted(self.versions.items()) if k.startswith(("finding.", "explain."))}
        shared = {name: self.pair.get(name, "") for name in SHARED}
        return {**shared, "control": shared["control"] or "none", **versions}

    @cached_property
    def group(self) -> str:
        """The key of the run's setting: 'g' and the SHA-256 of the setting as JSON, in hexadecimal.

        Without the 'g', the command line would read some values of the option `group`, for example 12e4, as numbers.
        """
        return "g" + hashlib.sha256(json.dumps(self.setting, sort_keys=True).encode()).hexdigest()

    @cached_property
    def draws(self) -> int:
        """The smallest number of null models among the verdicts that have null models; 0 where no verdict has any."""
        return min((verdict.null.draws for verdict in self.verdicts.values() if verdict.null is not None), default=0)

    @property
    def warnings(self) -> list[str]:
        """The run's flags; 'unfaithful:MODEL' becomes 'attributions of MODEL not better than random', others stay."""
        return [
            f"attributions of {flag.removeprefix(UNFAITHFUL)} not better than random"
            if flag.startswith(UNFAITHFUL)
            else flag
            for flag in self.flags
        ]

    @property
    def recorded(self) -> str:
        """The day on which the run began, in UTC, as '2025-01-31'."""
        at = datetime.datetime.fromtimestamp(self.recorded_ms / 1000, datetime.timezone.utc)
        return at.date().isoformat()

    def score(self, finding: str, name: str) -> Score | None:
        """The run's score of this finding and of this name; None where the run has no such score."""
        return next((score for score in self.scores if (score.finding, score.name) == (finding, name)), None)
