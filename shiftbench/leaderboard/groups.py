"""Groups of comparable runs in words, and why the runs of two groups cannot be compared."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from textwrap import shorten

from shiftbench.leaderboard.entry import DIGEST_CHARACTERS, Entry

LONGEST_VALUE = 60  # a longer value in a group's name or in a reason is cut to at most so many characters
MOST_NAMED = 4  # the most differences, or kinds of null models, that are named; further ones are counted
WORDS = {  # names of settings as people say them
    "prompt_set": "prompts", "settings": "options of findings and methods", "response": "responses",
    "max_new_tokens": "most new tokens", "template": "chat template", "dtype": "number format",
    "vocabulary_digest": "vocabulary", "vectors": "word vectors", "control": "control",
}  # fmt: skip


def titles(groups: Mapping[str, Sequence[Entry]]) -> dict[str, str]:
    """The name of each group in words, by its key, for example '60 prompts, 64 tokens, suite demo, 19 permuted draws'.

    groups: by the group's key its rows, the newest run first. Groups that would get the same name also get the first
    MOST_NAMED settings in which they differ from each other, and the beginning of their keys where the names are still
    equal.
    """
    found = {key: _title(rows) for key, rows in groups.items()}
    for keys in _same(found):
        newest = [groups[key][0] for key in keys]
        names = [name for name in _names(*newest) if len({entry.setting.get(name) for entry in newest}) > 1]
        for key, entry in zip(keys, newest, strict=True):
            found[key] = ", ".join([found[key], *_first([setting_words(entry, name) for name in names])])
    for keys in _same(found):
        found.update({key: f"{found[key]} ({key[:DIGEST_CHARACTERS]})" for key in keys})
    return found


def differences(entry: Entry, shown: Entry) -> str:
    """The settings in which the entry differs from the shown one, as 'NAME VALUE, here VALUE OF SHOWN; ...'.

    entry: a run of a group that is not shown. shown: a run of the shown group. The first MOST_NAMED settings are named.
    Where a version differs, the text ends with a note that numbers of different versions are not compared.
    """
    names = [name for name in _names(shown, entry) if entry.setting.get(name) != shown.setting.get(name)]
    versions = [name for name in names if _is_version(name)]
    said = [f"{setting_words(entry, name)}, here {_value(shown, name)}" for name in names]
    note = ["numbers of different versions are not compared"] if versions else []
    return "; ".join([*_first(said), *note])


def setting_words(entry: Entry, name: str) -> str:
    """A setting of the entry in words, for example 'word vectors glove' or 'instruction verbs version 2'.

    name: the setting's name in `Entry.setting`. A finding or method of which the entry has no version is 'no NAME'.
    """
    if _is_version(name):
        part, value = name.partition(".")[2].replace("_", " "), entry.setting.get(name)
        return f"{_short(part)} {_value(entry, name)}" if value else f"no {_short(part)}"
    return f"{WORDS.get(name, name)} {_value(entry, name)}"


def _title(rows: Sequence[Entry]) -> str:
    pair = rows[0].pair
    parts = [
        f"{_short(pair['prompts'])} prompts" if pair.get("prompts") else "",
        f"{_short(pair['max_new_tokens'])} tokens" if pair.get("max_new_tokens") else "",
        f"suite {_short(pair['suite'])}" if pair.get("suite") else "",
        *_draws(rows),
    ]
    return ", ".join(part for part in parts if part)


def _draws(rows: Sequence[Entry]) -> list[str]:
    """The null models of the rows in words, for example ['19 to 199 permuted draws'], a text for each kind.

    At most MOST_NAMED kinds are named. Where no verdict of any row has null models, the only text names the control of
    the first row, or is 'no control'.
    """
    by_kind: dict[str, list[int]] = defaultdict(list)
    for entry in rows:
        for verdict in entry.verdicts.values():
            if verdict.null is not None:
                by_kind[verdict.null.kind].append(verdict.null.draws)
    if not by_kind:
        control = rows[0].setting["control"]
        return ["no control" if control == "none" else f"control {_short(control)}"]
    said = []
    for kind, draws in sorted(by_kind.items()):
        least, most = min(draws), max(draws)
        count = f"{least:,}" if least == most else f"{least:,} to {most:,}"
        said.append(f"{count} {_short(kind)} {'draw' if most == 1 else 'draws'}")
    return _first(said)


def _same(found: Mapping[str, str]) -> list[list[str]]:
    """For each name that several groups have, the keys of these groups. found: the name of each group, by its key."""
    keys: dict[str, list[str]] = defaultdict(list)
    for key, text in found.items():
        keys[text].append(key)
    return [same for same in keys.values() if len(same) > 1]


def _names(*entries: Entry) -> list[str]:
    return list(dict.fromkeys(name for entry in entries for name in entry.setting))


def _is_version(name: str) -> bool:
    return name.startswith(("finding.", "explain."))


def _value(entry: Entry, name: str) -> str:
    value = entry.setting.get(name) or "none"
    if _is_version(name):
        return "absent" if value == "none" else f"version {_short(value)}"
    dataset = entry.pair.get("dataset")
    if name == "prompt_set" and dataset:
        return f"{_short(dataset)} ({value[:DIGEST_CHARACTERS]})"
    return value[:DIGEST_CHARACTERS] if len(value) == 64 else _short(value)


def _short(value: str) -> str:
    return shorten(value, LONGEST_VALUE, placeholder="…") if " " in value else value[:LONGEST_VALUE]


def _first(said: Sequence[str]) -> list[str]:
    more = len(said) - MOST_NAMED
    return [*said[:MOST_NAMED], *([f"and {more:,} more"] if more > 0 else [])]
