"""Store keys, settings digests and names are those of the commit in recorded.json, except what changed.json lists.

Users compare runs by `pair.settings` and `pair.prompt_set`, stores find units by their keys, and scripts read scores,
tables, files, tags and columns by their names. None of them may change because code moves. A change on purpose becomes
a row of changed.json, below its reason (`python -m tests.frozen.changes` adds them); recorded.json stays as it is.
Where a module moves, `Package` in record.py follows.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.frozen.record import record

pytestmark = pytest.mark.long  # the record of today takes half a minute

RECORDED = json.loads(Path(__file__).with_name("recorded.json").read_text(encoding="utf-8"))
SECTIONS = [name for name in RECORDED if name not in ("commit", "units")]
ABSENT = "(absent)"
LISTED = 40  # differences that one message lists
LONGEST = 200  # characters of one value in a message
CHANGED_FILE = Path(__file__).with_name("changed.json")
# {reason: {section: {name as `flat` writes it: today's value}}}
CHANGED: dict[str, dict[str, dict[str, Any]]] = json.loads(CHANGED_FILE.read_text(encoding="utf-8"))

# Methods whose units have other keys than the recorded ones on purpose, and why. Units of all other methods are held.
CHANGED_UNITS = {
    "concepts": "issue 19: tuned's components are read in base's embeddings, and cutoffs are from random directions",
    "faithfulness": "issue 20: judged by masks that are no method's own, and against orders that look at no model",
    "rotation": "issue 19: units hold the components of the permuted change, for the angles by chance",
}


@pytest.fixture(scope="module")
def today() -> dict[str, Any]:
    """What record.py finds on today's code."""
    found: dict[str, Any] = json.loads(json.dumps(record()))
    return found


@pytest.mark.parametrize("section", SECTIONS)
def test_what_users_depend_on_is_as_recorded(section, today):
    changed = changes(section)
    expected = flat(RECORDED[section])
    stale = [name for name, value in changed.items() if expected.get(name, ABSENT) == value]
    assert not stale, f"{section}: changed.json lists {stale}, which have their recorded values: take the rows out"
    report(section, differences({**expected, **changed}, flat(today.get(section, {}))))


@pytest.mark.parametrize("job", RECORDED["units"])
def test_a_store_finds_its_units_again(job, today):
    recorded, found = (_of_the_pair(job, units[job]) for units in (RECORDED["units"], today["units"]))
    recorded, found = held(recorded), held(found)
    report(f"units of the job {job!r}", unit_differences(recorded, found))


def _of_the_pair(job: str, units: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The units without those of null models' weights, which issue 19 no longer stores, and without their scores."""
    if not job.endswith("null"):
        return units
    pair = {unit["content"]["weights"] for unit in RECORDED["units"]["demo, on references"]}

    def is_kept(content: dict[str, Any]) -> bool:
        weights = content.get("weights", [])
        of_pair = {weights} if isinstance(weights, str) else set(weights)
        on_weights = content["method"] in ("word_pairs", "concepts", "rotation")
        return content["method"] != "null_scores" and (of_pair <= pair or not on_weights)

    return [unit for unit in units if is_kept(unit["content"])]


def test_every_section_and_every_job_is_compared(today):
    assert set(today) == {*SECTIONS, "units"}
    assert set(today["units"]) == set(RECORDED["units"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"a": {"b": 2, "c": ["x", "y"]}}, "a > b: recorded 1, today 2"),
        ({"a": {"c": ["x", "y"]}}, "a > b: recorded 1, today (absent)"),
        ({"a": {"b": 1, "c": ["x"]}}, "a > c > y: recorded 'listed', today (absent)"),
        ({"a": {"b": 1, "c": ["y", "x"]}}, "a > c > (order): recorded ['x', 'y'], today ['y', 'x']"),
    ],
)
def test_a_difference_is_told_by_name(change, message):
    assert differences(flat({"a": {"b": 1, "c": ["x", "y"]}}), flat(change)) == [message]


def test_a_key_that_changed_is_told_with_the_field_that_changed_it():
    unit = {"content": {"method": "concepts", "options": {"top": 50}}, "layers": ["k0", "k1"]}
    other = {"content": {"method": "concepts", "options": {"top": 51}}, "layers": ["k2", "k3"]}
    (said,) = unit_differences([unit], [other])
    assert "concepts" in said and "content > options > top: recorded 50, today 51" in said
    assert "layers > k0" not in said  # the keys follow from the content


def held(units: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of units without those of a method in CHANGED_UNITS."""
    return [unit for unit in units if unit["content"].get("method") not in CHANGED_UNITS]


def changes(section: str) -> dict[str, Any]:
    """Today's value of each name of a section that CHANGED lists, by name."""
    return {name: value for sections in CHANGED.values() for name, value in sections.get(section, {}).items()}


def report(what: str, said: list[str]) -> None:
    """Fail where `said` has lines, and list them, at most LISTED. what: what was compared, for the message."""
    if said:
        more = [f"... and {len(said) - LISTED} more"] if len(said) > LISTED else []
        lines = "\n  ".join([*said[:LISTED], *more])
        pytest.fail(f"{what}: {len(said)} differences from commit {RECORDED['commit'][:7]}:\n  {lines}", pytrace=False)


def flat(found: Any, prefix: str = "") -> dict[str, Any]:
    """Every value of a nested record under a flat name: {"a": {"b": 1}} becomes {"a > b": 1}.

    For a list of texts at "a", each text gets a name of its own, "a > TEXT" with the value "listed", and the whole list
    is the value of "a > (order)". prefix: what all names begin with.
    """
    rows: dict[str, Any] = {}
    if isinstance(found, dict):
        for name, value in found.items():
            rows.update(flat(value, f"{prefix}{name} > "))
    elif isinstance(found, list) and found and all(isinstance(item, str) for item in found):
        rows.update({f"{prefix}{item}": "listed" for item in found})
        rows[f"{prefix}(order)"] = found
    else:
        rows[prefix.removesuffix(" > ")] = found
    return rows


def differences(expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """A line for each name whose value differs between two results of `flat`, or that only one of them has.

    The order of a list is compared only where both lists have the same items, because a line says so of each item.
    """
    names = [*expected, *(name for name in found if name not in expected)]
    lines = []
    for name in names:
        before, after = expected.get(name, ABSENT), found.get(name, ABSENT)
        if name.endswith("(order)") and isinstance(before, list) and isinstance(after, list):
            if sorted(before) != sorted(after):
                continue
        if before != after:
            lines.append(f"{name}: recorded {_shown(before)}, today {_shown(after)}")
    return lines


def unit_differences(expected: list[dict[str, Any]], found: list[dict[str, Any]]) -> list[str]:
    """A line for each recorded unit that is not found today, and for each unit of today that was not recorded.

    A row of either list is one unit, or several that differ in the layer alone. A recorded row that is not found is
    compared with the row of today that differs least from it, and the line says in what their contents differ.
    """
    new = [unit for unit in found if unit not in expected]
    lines = []
    for unit in (unit for unit in expected if unit not in found):
        name = f"{unit['content'].get('method')} of {_weights(unit)}"
        closest = min(new, key=lambda other: len(differences(flat(unit), flat(other))), default=None)
        if closest is None:
            lines.append(f"{name}: no unit with {_shown(unit)} was made")
            continue
        new.remove(closest)
        said = differences(flat({"content": unit["content"]}), flat({"content": closest["content"]}))
        said = said or differences(flat(unit), flat(closest))
        lines.append(f"{name}: {'; '.join(said)}")
    return [*lines, *(f"{unit['content'].get('method')}: new, {_shown(unit)}" for unit in new)]


def _weights(unit: dict[str, Any]) -> str:
    weights = unit["content"].get("weights", "no weights")
    return " and ".join(one[:12] for one in ([weights] if isinstance(weights, str) else weights))


def _shown(value: Any) -> str:
    text = value if value == ABSENT else repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
