"""The rules of a gate, as conf/gate describes them, and the results of judging a run by them.

A rule compares a score of the run with numbers or with the reference's score, or it asks for the run's verdict on a
claim (docs/verdicts.md).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from shiftbench.contracts.result import Score
from shiftbench.errors import InputError
from shiftbench.readers.numbers import check_number
from shiftbench.results.document import RecordedVerdict
from shiftbench.verdicts import Word

ScoresByName = Mapping[tuple[str, str], Score]  # by (finding, name)
# As in scores.json: by 'FINDING' for the first claim of a finding, and by 'FINDING.SCORE' for its further claims.
VerdictsByClaim = Mapping[str, RecordedVerdict]
HEADLINE = "headline"  # as the score of a rule: the score that the verdict on the finding's first claim rests on
VERDICT = "verdict"  # the requirement that asks for the verdict on a claim
WORDS = tuple(word.value for word in Word)
# (score of the run; score of the reference, or of the run where there is no reference; the requirement's number in
# Rule.requirements) -> (whether the requirement holds, why in words)
Requirement = Callable[[Score, Score, float], tuple[bool, str]]


@dataclass(frozen=True)
class Rule:
    """What one score, or the verdict on one claim, must fulfil.

    name: of the rule, as in gate.rules.NAME of the configuration. finding, score: the names of the finding and of its
    score, which may be HEADLINE. A rule that asks for a verdict alone may have the score "" (it is then about the
    finding's first claim), or "" for both (it is then about the claim with the rule's name).
    requirements: by their names, which are keys of REQUIREMENTS, the numbers that the score is compared with. The
    number of not_below_interval is always 1 and means nothing: this requirement compares with the reference. words: the
    verdicts that are accepted, values of `Word`; empty where the rule asks for none.
    """

    name: str
    finding: str
    score: str
    requirements: Mapping[str, float]
    words: Sequence[str] = ()

    @property
    def claim(self) -> str:
        """The name by which the rule names its claim, to be looked up in `claim_names`; a run may have no such claim.

        It is the rule's name where the rule names no finding, FINDING where the score is "" or HEADLINE, and else
        FINDING.SCORE.
        """
        if not self.finding:
            return self.name
        return self.finding if self.score in ("", HEADLINE) else f"{self.finding}.{self.score}"


@dataclass(frozen=True)
class Outcome:
    """The result of one requirement of one rule.

    requirement: its name, a key of REQUIREMENTS or VERDICT. score: of the run; for a verdict, its headline. reference:
    the same of the reference; None where there is no reference or it has no such verdict. why: the reason for the
    result in words, with the numbers. now, before: the words of the run's and of the reference's verdict; "" where the
    requirement is about a score.
    """

    rule: Rule
    requirement: str
    score: Score
    reference: Score | None
    passed: bool
    why: str
    now: str = ""
    before: str = ""


@dataclass(frozen=True)
class Judged:
    """What rules judge of a run: its scores and the verdicts on its claims. origin: where they are from, in words."""

    origin: str
    scores: ScoresByName
    verdicts: VerdictsByClaim = field(default_factory=dict)


@dataclass(frozen=True)
class Gate:
    """A named set of rules."""

    name: str
    rules: Sequence[Rule]

    @property
    def needs_reference(self) -> bool:
        """Whether some rule compares with an earlier run."""
        return any("not_below_interval" in rule.requirements for rule in self.rules)

    def check(self, run: Judged) -> None:
        """Raise InputError where the run lacks a score, or the verdict on a claim, that a rule names."""
        for rule in self.rules:
            if rule.words:
                _verdict_of(rule, run)
            if rule.requirements:
                _score_of(rule, run)

    def check_reference(self, reference: Judged) -> None:
        """Raise InputError where the reference lacks the score of a rule that has requirements on a score.

        Raise it too where a rule compares with the interval of a score without observations (n = 0): it says nothing.
        The reference needs a verdict only where a rule's score is HEADLINE.
        """
        for rule in self.rules:
            if rule.requirements:
                score = _score_of(rule, reference)
                if "not_below_interval" in rule.requirements and score.n == 0:
                    raise InputError(
                        f"{reference.origin}: its score {score.name!r} of {rule.finding!r} has no observations "
                        f"(n = 0), and gate.rules.{rule.name} compares with its interval; choose another reference"
                    )

    def judge(self, run: Judged, reference: Judged | None) -> list[Outcome]:
        """The result of every requirement of every rule, in the order of the rules; a rule's verdict comes first.

        reference: may be None where no rule compares with one. `check` must have been called with the run. Raises
        InputError where there is a reference that lacks the run's score of a rule with requirements on a score, as
        where HEADLINE is another score in the reference.
        """
        found = []
        for rule in self.rules:
            if rule.words:
                found.append(_judge_verdict(rule, run, reference))
            if rule.requirements:
                score = _score_of(rule, run)
                same = replace(rule, score=score.name)
                before = None if reference is None else _score_of(same, reference)
                found += [
                    judge_score(rule, requirement, number, score, before)
                    for requirement, number in rule.requirements.items()
                ]
        return found


def claim_names(verdicts: VerdictsByClaim) -> dict[str, str]:
    """The key in `verdicts` of each claim, by every name that a rule may give it.

    The names are the claim's key, SCORE, FINDING.SCORE and FINDING.NAME. NAME is the claim's headline. SCORE is, for a
    finding's first claim, NAME without "_over_null", and for a further claim the second part of its key. A name that
    fits several claims is that of the first one in `verdicts`.
    """
    names: dict[str, str] = {}
    for key, verdict in verdicts.items():
        finding, _, score = key.partition(".")
        score = score or verdict.headline.removesuffix("_over_null")
        for name in (key, score, f"{finding}.{score}", f"{finding}.{verdict.headline}"):
            names.setdefault(name, key)
    return names


def gate(name: str, rules: Mapping[str, Any]) -> Gate:
    """The gate that a file of conf/gate describes.

    name: of the gate. rules: by the rule's name, its fields: `finding`, `score`, and requirements or `verdict` (one or
    several accepted verdicts), with their values. In place of the fields there may be the verdict that the claim of the
    rule's name must have, or a list of verdicts of which it must have one. Raises InputError where there is no rule or
    a rule is not valid (`_rule`).
    """
    if not rules:
        raise InputError(f"gate {name!r} has no rules: nothing would be judged")
    return Gate(str(name), [_rule(str(rule), fields) for rule, fields in rules.items()])


def judge_score(rule: Rule, requirement: str, number: float, score: Score, reference: Score | None) -> Outcome:
    """The result of one requirement on a score. A score of the run without observations (n = 0) fails each of them.

    requirement: a key of REQUIREMENTS. number: what the score is compared with, as in Rule.requirements. score,
    reference: the score of the run and the same score of the reference; only not_below_interval needs a reference.
    """
    if score.n == 0:
        return Outcome(rule, requirement, score, reference, False, "the score has no observations (n = 0)")
    passed, why = REQUIREMENTS[requirement](score, reference or score, number)
    return Outcome(rule, requirement, score, reference, passed, why)


def _judge_verdict(rule: Rule, run: Judged, reference: Judged | None) -> Outcome:
    """The result of a rule that asks for a verdict: passed where the run's verdict is one of the rule's words.

    Where it is not, `why` has the verdict's first reason and its next command, if it has them.
    """
    key, found = _verdict_of(rule, run)
    before = None if reference is None else reference.verdicts.get(key)
    passed = found.word in rule.words
    why = f"the verdict is {found.word!r}"
    if not passed:
        why += f", {' or '.join(map(repr, rule.words))} is required"
        why += f": {found.reasons[0]}" if found.reasons else ""
        why += f"; next: {found.next}" if found.next else ""
    return Outcome(
        rule, VERDICT, _headline(key, found), None if before is None else _headline(key, before), passed, why,
        found.word, "" if before is None else before.word,
    )  # fmt: skip


def _headline(key: str, verdict: RecordedVerdict) -> Score:
    finding = key.partition(".")[0]
    return verdict.score(finding)


def _verdict_of(rule: Rule, run: Judged) -> tuple[str, RecordedVerdict]:
    """(key in run.verdicts, verdict) of the claim that a rule names. Raises InputError where the run has none."""
    if not run.verdicts:
        raise InputError(
            f"{run.origin} has no verdicts, and gate.rules.{rule.name} needs one: an older version of shiftbench wrote "
            "it; score the pair again"
        )
    key = claim_names(run.verdicts).get(rule.claim)
    if key is None:
        raise InputError(
            f"{run.origin} has no verdict on the claim {rule.claim!r} that gate.rules.{rule.name} names; it has "
            f"verdicts on {', '.join(run.verdicts)}"
        )
    return key, run.verdicts[key]


def _score_of(rule: Rule, run: Judged) -> Score:
    """The score that a rule names. Raises InputError where the run lacks it."""
    scores, score = run.scores, rule.score
    if score == HEADLINE:
        score = _verdict_of(rule, run)[1].headline
    if (rule.finding, score) not in scores:
        findings = sorted({finding for finding, _ in scores})
        names = [name for finding, name in scores if finding == rule.finding]
        has = f"its scores are {', '.join(names)}" if names else f"it has {', '.join(findings) or 'none'}"
        what = f"score {score!r} of {rule.finding!r}" if names else f"finding {rule.finding!r}"
        raise InputError(f"{run.origin} lacks the {what} that gate.rules.{rule.name} names; {has}")
    return scores[rule.finding, score]


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


def _rule(name: str, fields: Any) -> Rule:
    """The rule of this name.

    fields: `finding`, `score`, `verdict` and requirements, as in a file of conf/gate, or the accepted verdicts alone. A
    requirement with the value null, and a switch with the value false, are left out. Raises InputError where a rule
    with a requirement lacks finding or score, a rule with a score lacks the finding, a requirement is unknown or has a
    wrong value, a verdict is not one of WORDS, or neither a requirement nor a verdict is left.
    """
    option = f"gate.rules.{name}"
    if isinstance(fields, str | list | tuple) and fields:
        return Rule(name, "", "", {}, _words(option, fields))
    if not isinstance(fields, Mapping):
        raise InputError(
            f"{option}={fields!r} is not a rule; give finding, score and {_known_requirements()}, or a verdict: "
            f"{', '.join(WORDS)}"
        )
    requirements = {key: value for key, value in fields.items() if key not in ("finding", "score", VERDICT)}
    words = () if fields.get(VERDICT) is None else _words(f"{option}.{VERDICT}", fields[VERDICT])
    named = [needed for needed in ("finding", "score") if isinstance(fields.get(needed), str) and fields[needed]]
    # A rule with a verdict and no requirement needs no score: it is then on the finding's first claim. Without a
    # finding too, it is on the claim with the rule's name.
    needed = ("finding", "score") if requirements else ("finding",) if "score" in named else ()
    for part in needed:
        if part not in named:
            raise InputError(f"{option}.{part} is missing: give the name of a {part}")
    unknown = [key for key in requirements if key not in REQUIREMENTS]
    if unknown:
        close = difflib.get_close_matches(str(unknown[0]), [*REQUIREMENTS, VERDICT], n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"choose from {_known_requirements()}"
        raise InputError(f"{option}.{unknown[0]} is not a requirement; {hint}")
    numbers = {key: _number(f"{option}.{key}", key, value) for key, value in requirements.items() if value is not None}
    numbers = {key: number for key, number in numbers.items() if not (key in SWITCHES and not number)}
    if not numbers and not words:
        raise InputError(f"{option} requires nothing; give {_known_requirements()}, or remove the rule with ~{option}")
    return Rule(name, fields.get("finding") or "", fields.get("score") or "", numbers, words)


def _words(option: str, value: Any) -> tuple[str, ...]:
    """The accepted verdicts of a rule: one word, or a list of words. Raises InputError for anything else.

    option: the full name of the option, for the message. An underscore stands for a space, so that no shell needs
    quotes: not_clear.
    """
    given = [value] if isinstance(value, str) else value
    words = tuple(str(word).replace("_", " ") for word in given) if isinstance(given, list | tuple) else ()
    wrong = [word for word in words if word not in WORDS]
    if wrong or not words:
        close = difflib.get_close_matches(wrong[0], WORDS, n=1) if wrong else []
        hint = f"did you mean {close[0]!r}?" if close else f"choose from {', '.join(WORDS)}, or a list of them"
        raise InputError(f"{option}={value!r} is not a verdict; {hint}")
    return words


def _number(option: str, requirement: str, value: Any) -> float:
    """The requirement's value in the configuration as a number; 1 or 0 for a switch.

    option: the full name of the option, for the message. Raises InputError where the value is not true or false (for a
    switch) or not a finite number (for another requirement).
    """
    if requirement in SWITCHES:
        if isinstance(value, bool):
            return float(value)
        raise InputError(f"{option}={value!r} must be true or false")
    check_number(option, value)
    return float(value)


def _known_requirements() -> str:
    return ", ".join([*REQUIREMENTS, VERDICT])
