"""The runs that one leaderboard shows (a group of comparable runs), and the reason why each other run is left out."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from shiftbench.contracts.result import Score
from shiftbench.errors import InputError

# The fields of "pair" in scores.json that are equal in comparable runs, as are the versions of findings and explainers.
SHARED = (
    "prompt_set", "settings", "response", "max_new_tokens", "template", "dtype", "vocabulary_digest", "vectors",
)  # fmt: skip
GROUP_CHARACTERS = 9  # characters of a group's name that messages and pages show
DIGEST_CHARACTERS = 8  # characters of a digest that messages and pages show


@dataclass(frozen=True)
class Entry:
    """One tracked run, as its scores.json describes it.

    recorded_ms: when the run was recorded, in milliseconds since 1970. pair, versions: the objects of that name in
    scores.json, with every value as text. flags: the parts of the run's tag `flags`, shown as badges. levels: names of
    findings that check a method: their scores describe one model, and not what tuning changed.
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
        """(name of the pair, digest of the base's weights, digest of the tuned model's weights).

        Runs with an equal identity are runs of the same pair; a board has only the newest of them as a row.
        """
        return self.pair["name"], self.pair["base_weights"], self.pair["tuned_weights"]

    @cached_property
    def setting(self) -> dict[str, str]:
        """The values that must be equal for two runs to be compared, by name.

        They are the fields SHARED, '' where the run has none, and the versions of the findings and explainers.
        """
        versions = {k: v for k, v in sorted(self.versions.items()) if k.startswith(("finding.", "explain."))}
        return {**{name: self.pair.get(name, "") for name in SHARED}, **versions}

    @cached_property
    def group(self) -> str:
        """The name of the run's setting: 'g' and the SHA-256 of the setting as JSON, in hexadecimal.

        Without the 'g', the command line would read some values of the option `group`, for example 12e4, as numbers.
        """
        return "g" + hashlib.sha256(json.dumps(self.setting, sort_keys=True).encode()).hexdigest()

    def score(self, finding: str, name: str) -> Score | None:
        """The run's score of this finding and of this name; None where the run has no such score."""
        return next((score for score in self.scores if (score.finding, score.name) == (finding, name)), None)


@dataclass(frozen=True)
class LeftOut:
    """A run that the leaderboard does not show. pair: the pair's name. reason: why it is not shown, in words."""

    run_id: str
    pair: str
    reason: str


@dataclass(frozen=True)
class Column:
    """A column of the table: one finding with its headline score.

    headline: the name of the headline score. over_null: whether some row also has the headline score less the mean
    score of null models. level: whether the finding is a check of a method; a check has no ranks.
    """

    finding: str
    headline: str
    over_null: bool
    level: bool = False

    @property
    def null_name(self) -> str:
        """The name of the score that is the headline score less the mean score of null models."""
        return f"{self.headline}_over_null"


@dataclass(frozen=True)
class Board:
    """One group of comparable runs.

    setting, group: those of all rows (Entry.setting, Entry.group). rows: the newest run of each pair, the newest run
    first. left_out: every run that is not a row, with the reason.
    """

    setting: Mapping[str, str]
    group: str
    rows: Sequence[Entry]
    columns: Sequence[Column]
    left_out: Sequence[LeftOut]


def build(entries: Sequence[Entry], unread: Sequence[LeftOut], group: str | None = None) -> Board:
    """The board of one group.

    entries: the runs that could be read, in any order and of any groups. unread: the runs that could not be read; they
    go to the board's left_out. group: the first characters of the group's name. None chooses the group with the most
    pairs, and of several such groups the one with the newest run.
    Raises InputError where there is no entry, and where `group` fits no group or several.
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
    chosen = _chosen_group(groups, group)
    rows, older = _newest_of_each_pair(groups.pop(chosen))
    others = [
        LeftOut(
            entry.run_id,
            entry.pair["name"],
            f"another setting, group={name[:GROUP_CHARACTERS]}: {_differences(entry, rows[0])}",
        )
        for name, members in groups.items()
        for entry in members
    ]
    superseded = [LeftOut(e.run_id, e.pair["name"], "a newer run of the same pair is shown") for e in older]
    return Board(rows[0].setting, chosen, rows, columns(rows), [*unread, *others, *superseded])


def columns(rows: Sequence[Entry]) -> list[Column]:
    """One column for each finding of the rows, in the order of their first occurrence, but checks last.

    rows: the newest run first. A finding's headline score is the first score that it lists in the newest run.
    """
    headlines: dict[str, str] = {}
    names = {(score.finding, score.name) for entry in rows for score in entry.scores}
    for entry in rows:
        for score in entry.scores:
            headlines.setdefault(score.finding, score.name)
    levels = {name for entry in rows for name in entry.levels}
    found = [
        Column(finding, name, (finding, f"{name}_over_null") in names, finding in levels)
        for finding, name in headlines.items()
    ]
    return sorted(found, key=lambda column: column.level)


def count_reasons(left_out: Iterable[LeftOut]) -> dict[str, int]:
    """The number of runs that are left out for each reason, by reason, the most frequent reason first."""
    counts: dict[str, int] = defaultdict(int)
    for item in left_out:
        counts[item.reason] += 1
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def setting_text(entry: Entry, name: str) -> str:
    """A value of the entry's setting for people. name: the value's name in `Entry.setting`.

    A digest (64 characters) is cut to DIGEST_CHARACTERS. The digest of the prompts (name 'prompt_set') is followed by
    the name of their dataset in parentheses. A missing or empty value is 'none'.
    """
    value = entry.setting.get(name) or "none"
    value = value[:DIGEST_CHARACTERS] if len(value) == 64 else value
    return f"{value} ({entry.pair['dataset']})" if name == "prompt_set" and entry.pair.get("dataset") else value


def _chosen_group(groups: Mapping[str, Sequence[Entry]], wanted: str | None) -> str:
    pairs = {name: len(_newest_of_each_pair(entries)[0]) for name, entries in groups.items()}
    if wanted is None:
        return max(groups, key=lambda name: (pairs[name], groups[name][0].recorded_ms))
    found = [name for name in groups if name.startswith(str(wanted))]
    if len(found) != 1:
        known = ", ".join(f"{name[:GROUP_CHARACTERS]} ({pairs[name]} pairs)" for name in groups)
        raise InputError(
            f"group={wanted} is {'more than one group' if found else 'no group'} here; choose from {known}"
        )
    return found[0]


def _newest_of_each_pair(entries: Sequence[Entry]) -> tuple[list[Entry], list[Entry]]:
    """(the newest entry of each pair, the other entries), both in the order of `entries`.

    entries: sorted, the newest first.
    """
    first: dict[tuple[str, str, str], Entry] = {}
    older = [entry for entry in entries if first.setdefault(entry.identity, entry) is not entry]
    return list(first.values()), older


def _differences(entry: Entry, shown: Entry) -> str:
    """The values of the entry's setting that differ from those of `shown`, as 'NAME VALUE, not VALUE OF SHOWN; ...'."""
    names = dict.fromkeys((*shown.setting, *entry.setting))
    return "; ".join(
        f"{name} {setting_text(entry, name)}, not {setting_text(shown, name)}"
        for name in names
        if entry.setting.get(name) != shown.setting.get(name)
    )
