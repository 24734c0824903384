"""Which runs may stand in one table: the comparable group that is shown, and why each other run is not in it."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from shiftbench.contracts.result import Score
from shiftbench.errors import InputError

# What two runs must share beside the versions of their findings and methods, in the words of scores.json.
SHARED = (
    "prompt_set", "settings", "response", "max_new_tokens", "template", "dtype", "vocabulary_digest", "vectors",
)  # fmt: skip
SHORT = 9  # characters of a group's name that people read
DIGEST = 8  # and of a digest


@dataclass(frozen=True)
class Entry:
    """One tracked run as its scores.json tells it.

    flags: what its tag `flags` says, for badges. levels: the findings that check the others.
    """

    run_id: str
    recorded_ms: int
    pair: Mapping[str, str]
    versions: Mapping[str, str]
    scores: Sequence[Score]
    flags: tuple[str, ...] = ()
    levels: tuple[str, ...] = ()

    @property
    def identity(self) -> tuple[str, str, str]:
        """What makes two runs the same row: the pair's name and the weights that were loaded."""
        return self.pair["name"], self.pair["base_weights"], self.pair["tuned_weights"]

    @cached_property
    def setting(self) -> dict[str, str]:
        """Everything that must be equal for numbers to be compared."""
        versions = {k: v for k, v in sorted(self.versions.items()) if k.startswith(("finding.", "explain."))}
        return {**{name: self.pair.get(name, "") for name in SHARED}, **versions}

    @cached_property
    def group(self) -> str:
        """The name of its setting: g and a sha256 (hex). The g, because an option that reads 12e4 would be a number."""
        return "g" + hashlib.sha256(json.dumps(self.setting, sort_keys=True).encode()).hexdigest()

    def score(self, finding: str, name: str) -> Score | None:
        """The score of that name; None where the run has none."""
        return next((score for score in self.scores if (score.finding, score.name) == (finding, name)), None)


@dataclass(frozen=True)
class LeftOut:
    """A run that is in no row, and why."""

    run_id: str
    pair: str
    reason: str


@dataclass(frozen=True)
class Column:
    """A finding's place in the table. over_null: some row has its score over the null control.

    level: its score is a level of one model, a check of the others, and ranks nothing.
    """

    finding: str
    headline: str
    over_null: bool
    level: bool = False

    @property
    def null_name(self) -> str:
        return f"{self.headline}_over_null"


@dataclass(frozen=True)
class Board:
    """One comparable group. rows: the newest entry of each pair. left_out: every other run, with the reason."""

    setting: Mapping[str, str]
    group: str
    rows: Sequence[Entry]
    columns: Sequence[Column]
    left_out: Sequence[LeftOut]


def build(entries: Sequence[Entry], unread: Sequence[LeftOut], group: str | None = None) -> Board:
    """The board of the group whose name begins so; None: the group with most pairs, of equals the newest.

    Raises InputError where nothing is left to show, and where no group or more than one begins so.
    """
    if not entries:
        reasons = "; ".join(dict.fromkeys(f"{item.pair!r}: {item.reason}" for item in unread[:3]))
        raise InputError(
            "the leaderboard is empty: " + (f"none of {len(unread)} runs can be shown ({reasons})" if unread else
            "the experiment has no run of a pair; score one first (shiftbench score pair=demo)")
        )  # fmt: skip
    groups: dict[str, list[Entry]] = defaultdict(list)
    for entry in sorted(entries, key=lambda entry: (-entry.recorded_ms, entry.run_id)):
        groups[entry.group].append(entry)
    chosen = _chosen(groups, group)
    rows, older = _newest(groups.pop(chosen))
    others = [
        LeftOut(
            entry.run_id, entry.pair["name"], f"another setting, group={digest[:SHORT]}: {_differs(entry, rows[0])}"
        )
        for digest, members in groups.items()
        for entry in members
    ]
    superseded = [LeftOut(e.run_id, e.pair["name"], "a newer run of the same pair is shown") for e in older]
    return Board(rows[0].setting, chosen, rows, columns(rows), [*unread, *others, *superseded])


def columns(rows: Sequence[Entry]) -> list[Column]:
    """A column a finding, checks last; its headline is the first score that it lists."""
    headlines: dict[str, str] = {}
    names = {(score.finding, score.name) for entry in rows for score in entry.scores}
    for entry in rows:
        for score in entry.scores:
            headlines.setdefault(score.finding, score.name)
    levels = {name for entry in rows for name in entry.levels}
    made = [
        Column(finding, name, (finding, f"{name}_over_null") in names, finding in levels)
        for finding, name in headlines.items()
    ]
    return sorted(made, key=lambda column: column.level)


def group_counts(left_out: Iterable[LeftOut]) -> dict[str, int]:
    """How many runs each reason leaves out, the most frequent first."""
    counts: dict[str, int] = defaultdict(int)
    for item in left_out:
        counts[item.reason] += 1
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def _chosen(groups: Mapping[str, Sequence[Entry]], wanted: str | None) -> str:
    if wanted is None:
        return max(groups, key=lambda digest: (len(_newest(groups[digest])[0]), groups[digest][0].recorded_ms))
    found = [digest for digest in groups if digest.startswith(str(wanted))]
    if len(found) != 1:
        known = ", ".join(f"{digest[:SHORT]} ({len(_newest(groups[digest])[0])} pairs)" for digest in groups)
        raise InputError(
            f"group={wanted} is {'more than one group' if found else 'no group'} here; choose from {known}"
        )
    return found[0]


def _newest(entries: Sequence[Entry]) -> tuple[list[Entry], list[Entry]]:
    """The first entry of each pair, and the rest."""
    seen: dict[tuple[str, str, str], Entry] = {}
    older = [entry for entry in entries if seen.setdefault(entry.identity, entry) is not entry]
    return list(seen.values()), older


def _differs(entry: Entry, shown: Entry) -> str:
    """What of the entry's setting is not as in the group that is shown."""
    names = dict.fromkeys((*shown.setting, *entry.setting))
    return "; ".join(
        f"{name} {told(entry, name)}, not {told(shown, name)}"
        for name in names
        if entry.setting.get(name) != shown.setting.get(name)
    )


def told(entry: Entry, name: str) -> str:
    """A value as people read it: digests by their first characters, prompts with the name of their dataset."""
    value = entry.setting.get(name) or "none"
    value = value[:DIGEST] if len(value) == 64 else value
    return f"{value} ({entry.pair['dataset']})" if name == "prompt_set" and entry.pair.get("dataset") else value
