"""Rules of a gate, as conf/gate has them, and what they say about a pair's scores beside a reference's."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shiftbench.contracts.result import Score
from shiftbench.errors import InputError

Found = Mapping[tuple[str, str], Score]  # by finding and name
Requirement = Callable[[Score, Score, float], tuple[bool, str]]  # (score, the reference's, number): whether, and why


@dataclass(frozen=True)
class Rule:
    """What one score must fulfil. requirements: by name (REQUIREMENTS), each with its number."""

    name: str
    finding: str
    score: str
    requirements: Mapping[str, float]

    @property
    def key(self) -> tuple[str, str]:
        return self.finding, self.score


@dataclass(frozen=True)
class Verdict:
    """One requirement of one rule, applied. why: in words, with the numbers."""

    rule: Rule
    requirement: str
    score: Score
    reference: Score
    passed: bool
    why: str


@dataclass(frozen=True)
class Gate:
    """A named set of rules."""

    name: str
    rules: Sequence[Rule]

    def check(self, found: Found, whose: str) -> None:
        """Refuse, by InputError, scores that lack one that a rule names. whose: for the message."""
        for rule in self.rules:
            if rule.key not in found:
                findings = sorted({finding for finding, _ in found})
                names = [name for finding, name in found if finding == rule.finding]
                has = f"its scores are {', '.join(names)}" if names else f"it has {', '.join(findings) or 'none'}"
                what = f"score {rule.score!r} of {rule.finding!r}" if names else f"finding {rule.finding!r}"
                raise InputError(f"{whose} lacks the {what} that gate.rules.{rule.name} names; {has}")

    def check_reference(self, found: Found, whose: str) -> None:
        """The same, and refuse intervals that nothing carries: not to be below them would mean nothing."""
        self.check(found, whose)
        for rule in self.rules:
            if "not_below_interval" in rule.requirements and found[rule.key].n == 0:
                raise InputError(
                    f"{whose}: nothing carries its score {rule.score!r} of {rule.finding!r} (n = 0), which "
                    f"gate.rules.{rule.name} compares with; choose another reference"
                )

    def judge(self, found: Found, reference: Found) -> list[Verdict]:
        """Every requirement of every rule; both must have been checked."""
        return [
            applied(rule, requirement, number, found[rule.key], reference[rule.key])
            for rule in self.rules
            for requirement, number in rule.requirements.items()
        ]


def gate(name: str, rules: Mapping[str, Mapping[str, Any]]) -> Gate:
    """What a file of conf/gate describes. Raises InputError for a rule that is none."""
    if not rules:
        raise InputError(f"gate {name!r} has no rules: nothing would be judged")
    return Gate(str(name), [_rule(str(rule), fields) for rule, fields in rules.items()])


def applied(rule: Rule, requirement: str, number: float, score: Score, reference: Score) -> Verdict:
    """One requirement on one score. A score that nothing carries (n = 0) fulfils none: no number is no good news."""
    if score.n == 0:
        return Verdict(rule, requirement, score, reference, False, "nothing carries the score (n = 0)")
    passed, why = REQUIREMENTS[requirement](score, reference, number)
    return Verdict(rule, requirement, score, reference, passed, why)


def _not_below_interval(score: Score, reference: Score, _: float) -> tuple[bool, str]:
    relation = "is not" if score.value >= reference.low else "is"
    why = f"{score.value:+.4g} {relation} below {reference.low:+.4g}, the low end of the reference's interval"
    return score.value >= reference.low, why


def _at_least(score: Score, _: Score, number: float) -> tuple[bool, str]:
    return score.value >= number, f"{score.value:+.4g}, at least {number:+.4g} is asked for"


def _at_most(score: Score, _: Score, number: float) -> tuple[bool, str]:
    return score.value <= number, f"{score.value:+.4g}, at most {number:+.4g} is asked for"


def _interval_above(score: Score, _: Score, number: float) -> tuple[bool, str]:
    relation = "lies" if score.low > number else "does not lie"
    return score.low > number, f"the interval [{score.low:+.4g}, {score.high:+.4g}] {relation} above {number:+.4g}"


REQUIREMENTS: Mapping[str, Requirement] = {
    "not_below_interval": _not_below_interval,
    "at_least": _at_least,
    "at_most": _at_most,
    "interval_above": _interval_above,
}
SWITCHES = {"not_below_interval"}  # these take true and no number


def _rule(name: str, fields: Mapping[str, Any]) -> Rule:
    where = f"gate.rules.{name}"
    if not isinstance(fields, Mapping):
        raise InputError(f"{where}={fields!r} is no rule; give finding, score and {_known()}")
    for needed in ("finding", "score"):
        if not isinstance(fields.get(needed), str) or not fields[needed]:
            raise InputError(f"{where}.{needed} is needed: the name of a {needed}")
    asked = {key: value for key, value in fields.items() if key not in ("finding", "score")}
    unknown = [key for key in asked if key not in REQUIREMENTS]
    if unknown:
        close = difflib.get_close_matches(str(unknown[0]), REQUIREMENTS, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"choose from {_known()}"
        raise InputError(f"{where}.{unknown[0]} is no requirement; {hint}")
    numbers = {key: _number(f"{where}.{key}", key, value) for key, value in asked.items() if value is not None}
    numbers = {key: number for key, number in numbers.items() if not (key in SWITCHES and not number)}
    if not numbers:
        raise InputError(f"{where} requires nothing; give {_known()}, or take the rule out with ~{where}")
    return Rule(name, fields["finding"], fields["score"], numbers)


def _number(where: str, requirement: str, value: Any) -> float:
    if requirement in SWITCHES:
        if isinstance(value, bool):
            return float(value)
        raise InputError(f"{where}={value!r} must be true or false")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"{where}={value!r} must be a number")
    return float(value)


def _known() -> str:
    return ", ".join(REQUIREMENTS)
