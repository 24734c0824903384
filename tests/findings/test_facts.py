"""What the report is told of each score: the excess over null models has a meaning of its own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from shiftbench.contracts.result import Kind, Result, Score
from shiftbench.findings.concept_rotation import ConceptRotation
from shiftbench.findings.facts import facts_of


def result(finding: str, *names: str) -> Result:
    return Result(finding, names[0], "", [Score(finding, name, 0.1, 0.0, 0.2, None, 9) for name in names], {})


def test_scores_are_looked_up_by_pattern_and_an_excess_has_a_sign() -> None:
    # facts_of reads the name and the facts of a finding, which need no options.
    finding: Any = ConceptRotation.__new__(ConceptRotation)
    names = ("none_share_fall", "none_share_fall_over_null", "mean_angle_10_rad", "mean_angle_10_rad_over_null", "new")
    found = facts_of([finding], [result("concept_rotation", *names), result("another", "s")])
    assert set(found) == {"concept_rotation"}
    facts = found["concept_rotation"]
    assert set(facts) == set(names[:-1])
    assert facts["mean_angle_10_rad"].kind is Kind.DIAGNOSTIC
    assert not facts["mean_angle_10_rad"].signed
    assert facts["mean_angle_10_rad_over_null"].signed
    assert facts["none_share_fall_over_null"].label.endswith("excess over the null models")
    assert "null models" in facts["none_share_fall_over_null"].zero


def test_a_score_on_other_responses_says_so() -> None:
    finding: Any = SimpleNamespace(name="f", fact=lambda name: ConceptRotation.facts["none_share_fall"])
    facts = facts_of([finding], [result("f", "s_own_response", "s_over_null_own_response")])["f"]
    assert facts["s_own_response"].label.endswith("on own responses")
    assert facts["s_over_null_own_response"].label.endswith("on own responses, excess over the null models")
