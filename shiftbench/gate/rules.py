"""The rules of a gate, as conf/gate describes them, and their verdicts on scores and the reference's scores."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shiftbench.contracts.result import Score
from shiftbench.errors import InputError

ScoresByName = Mapping[tuple[str, str], Score]  # by (finding, name)
# (score of the run, score of the reference, the requirement's number in Rule.requirements)
# -> (whether the requirement holds, why in words)
Requirement = Callable[[Score, Score, float], tuple[bool, str]]


@dataclass(frozen=True)
class Rule:
    """What one score must fulfil.

    name: of the rule, as in gate.rules.NAME of the configuration. finding, score: the names of the finding and of its
    score. requirements: by their names, which are keys of REQUIREMENTS, the numbers that the score is compared with.
    The number of not_below_interval is always 1 and means nothing: this requirement compares with the reference.
    """

    name: str
    finding: str
    score: str
    requirements: Mapping[str, float]

    @property
    def key(self) -> tuple[str, str]:
        """The score's key in a ScoresByName."""
        return self.finding, self.score


@dataclass(frozen=True)
class Verdict:
    """The result of one requirement of one rule.

    requirement: its name. score, reference: the score of the run and the same score of the reference. why: the reason
    for the result in words, with the numbers.
    """

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

    def check(self, scores: ScoresByName, origin: str) -> None:
        """Raise InputError where a score that a rule names is missing.

        origin: where the scores are from, in words; the message begins with it.
        """
        for rule in self.rules:
            if rule.key not in scores:
                findings = sorted({finding for finding, _ in scores})
                names = [name for finding, name in scores if finding == rule.finding]
                has = f"its scores are {', '.join(names)}" if names else f"it has {', '.join(findings) or 'none'}"
                what = f"score {rule.score!r} of {rule.finding!r}" if names else f"finding {rule.finding!r}"
                raise InputError(f"{origin} lacks the {what} that gate.rules.{rule.name} names; {has}")

    def check_reference(self, scores: ScoresByName, origin: str) -> None:
        """Raise InputError as `check` does, and where a rule compares with an interval without observations (n = 0).

        Such an interval says nothing about the reference.
        """
        self.check(scores, origin)
        for rule in self.rules:
            if "not_below_interval" in rule.requirements and scores[rule.key].n == 0:
                raise InputError(
                    f"{origin}: its score {rule.score!r} of {rule.finding!r} has no observations (n = 0), and "
                    f"gate.rules.{rule.name} compares with its interval; choose another reference"
                )

    def judge(self, scores: ScoresByName, reference: ScoresByName) -> list[Verdict]:
        """A verdict for every requirement of every rule, in the order of the rules.

        scores: of the run. reference: of the reference. `check` must have been called with each of the two.
        """
        return [
            verdict(rule, requirement, number, scores[rule.key], reference[rule.key])
            for rule in self.rules
            for requirement, number in rule.requirements.items()
        ]


def gate(name: str, rules: Mapping[str, Mapping[str, Any]]) -> Gate:
    """The gate that a file of conf/gate describes.

    name: of the gate. rules: by the rule's name, its fields: `finding`, `score` and requirements with their values.
    Raises InputError where there is no rule or a rule is not valid.
    """
    if not rules:
        raise InputError(f"gate {name!r} has no rules: nothing would be judged")
    return Gate(str(name), [_rule(str(rule), fields) for rule, fields in rules.items()])


def verdict(rule: Rule, requirement: str, number: float, score: Score, reference: Score) -> Verdict:
    """The verdict of one requirement of a rule. A score without observations (n = 0) fails every requirement.

    requirement: a key of REQUIREMENTS. number: what the score is compared with, as in Rule.requirements. score,
    reference: the score of the run and the same score of the reference.
    """
    if score.n == 0:
        return Verdict(rule, requirement, score, reference, False, "the score has no observations (n = 0)")
    passed, why = REQUIREMENTS[requirement](score, reference, number)
    return Verdict(rule, requirement, score, reference, passed, why)


def _not_below_interval(score: Score, reference: Score, _: float) -> tuple[bool, str]:
    relation = "is not" if score.value >= reference.low else "is"
    why = f"{score.value:+.4g} {relation} below {reference.low:+.4g}, the low end of the reference's interval"
    return score.value >= reference.low, why


def _at_least(score: Score, _: Score, number: float) -> tuple[bool, str]:
    return score.value >= number, f"{score.value:+.4g}, at least {number:+.4g} is required"


def _at_most(score: Score, _: Score, number: float) -> tuple[bool, str]:
    return score.value <= number, f"{score.value:+.4g}, at most {number:+.4g} is required"


def _interval_above(score: Score, _: Score, number: float) -> tuple[bool, str]:
    relation = "lies" if score.low > number else "does not lie"
    return score.low > number, f"the interval [{score.low:+.4g}, {score.high:+.4g}] {relation} above {number:+.4g}"


REQUIREMENTS: Mapping[str, Requirement] = {
    "not_below_interval": _not_below_interval,
    "at_least": _at_least,
    "at_most": _at_most,
    "interval_above": _interval_above,
}
SWITCHES = {"not_below_interval"}  # requirements whose value in a configuration is true or false, and not a number


def _rule(name: str, fields: Mapping[str, Any]) -> Rule:
    """The rule of this name. fields: `finding`, `score` and requirements, as in a file of conf/gate.

    A requirement with the value null, and a switch with the value false, are left out. Raises InputError where finding
    or score is missing, a requirement is unknown or has a wrong value, or no requirement is left.
    """
    option = f"gate.rules.{name}"
    if not isinstance(fields, Mapping):
        raise InputError(f"{option}={fields!r} is not a rule; give finding, score and {_known_requirements()}")
    for needed in ("finding", "score"):
        if not isinstance(fields.get(needed), str) or not fields[needed]:
            raise InputError(f"{option}.{needed} is missing: give the name of a {needed}")
    requirements = {key: value for key, value in fields.items() if key not in ("finding", "score")}
    unknown = [key for key in requirements if key not in REQUIREMENTS]
    if unknown:
        close = difflib.get_close_matches(str(unknown[0]), REQUIREMENTS, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"choose from {_known_requirements()}"
        raise InputError(f"{option}.{unknown[0]} is not a requirement; {hint}")
    numbers = {key: _number(f"{option}.{key}", key, value) for key, value in requirements.items() if value is not None}
    numbers = {key: number for key, number in numbers.items() if not (key in SWITCHES and not number)}
    if not numbers:
        raise InputError(f"{option} requires nothing; give {_known_requirements()}, or remove the rule with ~{option}")
    return Rule(name, fields["finding"], fields["score"], numbers)


def _number(option: str, requirement: str, value: Any) -> float:
    """The requirement's value in the configuration as a number; 1 or 0 for a switch.

    option: the full name of the option, for the message. Raises InputError where the value is not true or false (for a
    switch) or not a finite number (for another requirement).
    """
    if requirement in SWITCHES:
        if isinstance(value, bool):
            return float(value)
        raise InputError(f"{option}={value!r} must be true or false")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"{option}={value!r} must be a number")
    return float(value)


def _known_requirements() -> str:
    return ", ".join(REQUIREMENTS)
