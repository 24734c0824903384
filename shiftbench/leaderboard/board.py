"""The runs that one leaderboard shows (a group of comparable runs), and the reason why each other run is left out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from shiftbench.errors import InputError
from shiftbench.leaderboard.entry import DIGEST_CHARACTERS, GROUP_CHARACTERS, Entry
from shiftbench.leaderboard.groups import differences, titles
from shiftbench.report.text import title

MOST_BOARDS = 50  # the most groups that get a page; the others are listed with the option that shows them

MOST_NAMED = 20  # the most groups that a message names


@dataclass(frozen=True)
class LeftOut:
    """A run that the leaderboard does not show. pair: the pair's name. reason: why it is not shown, in words."""

    run_id: str
    pair: str
    reason: str


@dataclass(frozen=True)
class Column:
    """A column of the table: one claim of a finding, or a finding without claims, or a check.

    key: that of the claim's verdict in scores.json, or the finding's name. headline: the name of the score that the
    column shows, as the newest run with this column has it; the headline of another run's verdict may have another
    name. label: the column's heading. claim: whether any of the runs has a verdict on it. check: whether the finding is
    a check of a method. The board shows no verdicts and no ranks of a check.
    """

    key: str
    finding: str
    headline: str
    label: str
    claim: bool
    check: bool

    @property
    def score(self) -> str:
        """The headline's name without the ending `_over_null`, which marks the excess of a score over null models."""
        return self.headline.removesuffix("_over_null")


@dataclass(frozen=True)
class Group:
    """A group of comparable runs, as the page's picker lists it.

    key: Entry.group of its runs. title: the group in words. pairs: the number of its pairs. recorded: the day (in UTC,
    as '2025-01-31') of the newest row of its board. judged: whether any row of its board is `Entry.judged`.
    """

    key: str
    title: str
    pairs: int
    recorded: str
    judged: bool

    @property
    def name(self) -> str:
        """The first GROUP_CHARACTERS of the key, as messages and pages show them for the option `group`."""
        return self.key[:GROUP_CHARACTERS]


@dataclass(frozen=True)
class Board:
    """One group of comparable runs.

    setting: that of all rows (Entry.setting). rows: one run of each pair, the newest first. left_out: every run that
    was given to `build` and is not a row. groups: all groups, this one included, the chosen one first; the same for
    every board.
    """

    group: Group
    setting: Mapping[str, str]
    rows: Sequence[Entry]
    columns: Sequence[Column]
    left_out: Sequence[LeftOut]
    groups: Sequence[Group]


def build(entries: Sequence[Entry], unread: Sequence[LeftOut], group: str | None = None) -> list[Board]:
    """The boards of the first MOST_BOARDS groups: the chosen one, then the others in the order of preference.

    entries: the runs that could be read, in any order and of any groups. unread: the runs that could not be read; they
    are left out of every board. group: the first characters of the chosen group's key; None chooses the first in the
    order of preference. Groups with verdicts come first in that order, then those with more pairs, and then those whose
    newest row is newer. Raises InputError where there is no entry, and where no key or several begin with `group`.
    """
    if not entries:
        reasons = "; ".join(dict.fromkeys(f"{item.pair!r}: {item.reason}" for item in unread[:3]))
        raise InputError(
            "the leaderboard is empty: " + (f"none of {len(unread)} runs can be shown ({reasons})" if unread else
            "the experiment has no run of a pair; score one first (shiftbench score pair=demo)")
        )  # fmt: skip
    members: dict[str, list[Entry]] = defaultdict(list)
    for entry in sorted(entries, key=lambda entry: (-entry.recorded_ms, entry.run_id)):
        members[entry.group].append(entry)
    rows = {key: _one_of_each_pair(group) for key, group in members.items()}
    order = sorted(rows, key=lambda key: _preference(rows[key]), reverse=True)
    names = titles(rows)
    groups = [
        Group(key, names[key], len(rows[key]), rows[key][0].recorded, any(entry.judged for entry in rows[key]))
        for key in order
    ]
    chosen = groups[0] if group is None else _named_group(groups, str(group))
    groups = [chosen, *(each for each in groups if each is not chosen)]
    return [
        Board(
            each,
            rows[each.key][0].setting,
            rows[each.key],
            columns(rows[each.key]),
            [*unread, *_other_groups(each, groups, members, rows), *_superseded(members[each.key], rows[each.key])],
            groups,
        )
        for each in groups[:MOST_BOARDS]
    ]


def columns(rows: Sequence[Entry]) -> list[Column]:
    """The columns of the rows: first the claims, then the findings without claims, then the checks.

    Each of the three is in the order of first occurrence. rows: the newest run first. A claim's headline and label are
    those of its verdict in the newest run that has one. A finding without verdicts has one column, for the first of its
    scores in the newest run that has scores of it.
    """
    checks = {name for entry in rows for name in entry.levels}
    found: dict[str, Column] = {}
    for entry in rows:
        for key, verdict in entry.verdicts.items():
            finding = _finding(entry, key)
            label = verdict.short[:1].upper() + verdict.short[1:] or title(key.replace(".", ": "))
            found.setdefault(key, Column(key, finding, verdict.headline, label, True, finding in checks))
    for entry in rows:
        for score in entry.scores:
            name = score.finding
            found.setdefault(name, Column(name, name, score.name, title(name), False, name in checks))
    return sorted(found.values(), key=lambda column: (column.check, not column.claim))


def _finding(entry: Entry, key: str) -> str:
    """The finding that a verdict is about: the longest name of a finding with scores in the run that fits the key.

    key: 'FINDING' or 'FINDING.SCORE', where the names may have dots themselves. It is returned where no name fits.
    """
    names = {score.finding for score in entry.scores}
    fitting = [name for name in names if key == name or key.startswith(f"{name}.")]
    return max(fitting, key=len, default=key)


def count_reasons(left_out: Iterable[LeftOut]) -> dict[str, int]:
    """The number of runs that are left out for each reason, by reason, the most frequent reason first."""
    counts: dict[str, int] = defaultdict(int)
    for item in left_out:
        counts[item.reason] += 1
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def setting_text(entry: Entry, name: str) -> str:
    """A value of the entry's setting for people. name: the value's name in `Entry.setting`.

    A value of 64 characters is taken for a digest and cut to DIGEST_CHARACTERS. The digest of the prompts (name
    'prompt_set') is followed by the name of their dataset in parentheses, where the run has it. A missing or empty
    value is 'none'.
    """
    value = entry.setting.get(name) or "none"
    value = value[:DIGEST_CHARACTERS] if len(value) == 64 else value
    return f"{value} ({entry.pair['dataset']})" if name == "prompt_set" and entry.pair.get("dataset") else value


def _preference(rows: Sequence[Entry]) -> tuple[bool, int, int]:
    """What groups are ordered by, the largest first: whether they have verdicts, the number of pairs, the newest time.

    rows: of one group, the newest first.
    """
    return any(entry.judged for entry in rows), len(rows), rows[0].recorded_ms


def _named_group(groups: Sequence[Group], wanted: str) -> Group:
    found = [group for group in groups if group.key.startswith(wanted)]
    if len(found) != 1:
        known = "; ".join(f"{group.name} ({group.pairs} pairs: {group.title})" for group in groups[:MOST_NAMED])
        more = f"; and {len(groups) - MOST_NAMED} more" if len(groups) > MOST_NAMED else ""
        raise InputError(
            f"group={wanted} is {'more than one group' if found else 'no group'} here; choose from {known}{more}"
        )
    return found[0]


def _one_of_each_pair(entries: Sequence[Entry]) -> list[Entry]:
    """The entry of each pair that has the most null models (`Entry.draws`), and of several such entries the newest.

    An entry that is `judged` comes before all that are not. entries: of one group, the newest first. The order of the
    result is that of `entries`.
    """
    best: dict[tuple[str, str, str], Entry] = {}
    for entry in entries:
        shown = best.setdefault(entry.identity, entry)
        if (entry.judged, entry.draws) > (shown.judged, shown.draws):
            best[entry.identity] = entry
    shown_ids = {entry.run_id for entry in best.values()}
    return [entry for entry in entries if entry.run_id in shown_ids]


def _superseded(members: Sequence[Entry], rows: Sequence[Entry]) -> list[LeftOut]:
    shown = {entry.identity: entry for entry in rows}
    found = []
    for entry in members:
        row = shown[entry.identity]
        if entry.run_id != row.run_id:
            newer = row.recorded_ms >= entry.recorded_ms
            why = "a newer run" if newer else f"an older run with more null models ({row.draws:,}, not {entry.draws:,})"
            found.append(LeftOut(entry.run_id, entry.pair["name"], f"{why} of the same pair is shown"))
    return found


def _other_groups(
    shown: Group,
    groups: Sequence[Group],
    members: Mapping[str, Sequence[Entry]],
    rows: Mapping[str, Sequence[Entry]],
) -> list[LeftOut]:
    """The runs of all groups but the shown one; the reason names the run's group and the settings that differ.

    members: by a group's key, all its runs. rows: by a group's key, those of its runs that its board shows.
    """
    found = []
    for group in groups:
        if group is not shown:
            why = differences(rows[group.key][0], rows[shown.key][0])
            reason = f"another group, group={group.name}: {why}"
            found += [LeftOut(entry.run_id, entry.pair["name"], reason) for entry in members[group.key]]
    return found
