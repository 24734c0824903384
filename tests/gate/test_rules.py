"""Rules say what they say, and refuse what is no rule."""

import pytest

from shiftbench.contracts.result import Score
from shiftbench.errors import InputError
from shiftbench.gate.rules import REQUIREMENTS, gate

KEY = ("recognised", "share")
REFERENCE = Score(*KEY, 0.30, 0.20, 0.40, 0.01, 60)


def ruled(**requirements):
    return gate("g", {"r": {"finding": KEY[0], "score": KEY[1], **requirements}})


def judged(score, **requirements):
    return [verdict.passed for verdict in ruled(**requirements).judge({KEY: score}, {KEY: REFERENCE})]


def scored(value, low, high, n=60):
    return Score(*KEY, value, low, high, None, n)


@pytest.mark.parametrize(
    ("requirement", "number", "passes", "fails"),
    [
        ("not_below_interval", True, scored(0.20, 0.1, 0.3), scored(0.1999, 0.1, 0.3)),
        ("at_least", 0.25, scored(0.25, 0.1, 0.3), scored(0.2499, 0.1, 0.3)),
        ("at_most", 0.25, scored(0.25, 0.1, 0.3), scored(0.2501, 0.1, 0.3)),
        ("interval_above", 0.1, scored(0.25, 0.1001, 0.3), scored(0.25, 0.1, 0.3)),
    ],
)
def test_a_requirement_knows_its_border(requirement, number, passes, fails):
    assert judged(passes, **{requirement: number}) == [True]
    assert judged(fails, **{requirement: number}) == [False]


def test_every_requirement_has_its_border_tested():
    assert set(REQUIREMENTS) == {"not_below_interval", "at_least", "at_most", "interval_above"}


def test_a_rule_may_require_several_things():
    assert judged(scored(0.3, -0.1, 0.5), not_below_interval=True, interval_above=0) == [True, False]


def test_a_score_that_nothing_carries_passes_nothing():
    found = ruled(at_most=1).judge({KEY: scored(0, 0, 0, n=0)}, {KEY: REFERENCE})
    assert not found[0].passed and "n = 0" in found[0].why


def test_what_is_switched_off_is_not_judged():
    assert judged(scored(0, -1, 1), not_below_interval=False, at_least=-1) == [True]


@pytest.mark.parametrize(
    ("rules", "parts"),
    [
        ({}, ["no rules"]),
        ({"r": "recognition"}, ["gate.rules.r", "no rule"]),
        ({"r": {"score": "s", "at_least": 0}}, ["gate.rules.r.finding"]),
        ({"r": {"finding": "f", "at_least": 0}}, ["gate.rules.r.score"]),
        ({"r": {"finding": "f", "score": "s"}}, ["gate.rules.r", "requires nothing"]),
        ({"r": {"finding": "f", "score": "s", "not_below_interval": False}}, ["requires nothing"]),
        ({"r": {"finding": "f", "score": "s", "at_laest": 0}}, ["gate.rules.r.at_laest", "'at_least'"]),
        ({"r": {"finding": "f", "score": "s", "within": 0}}, ["gate.rules.r.within", "interval_above"]),
        ({"r": {"finding": "f", "score": "s", "at_least": "much"}}, ["gate.rules.r.at_least", "must be a number"]),
        ({"r": {"finding": "f", "score": "s", "at_least": True}}, ["must be a number"]),
        ({"r": {"finding": "f", "score": "s", "at_least": float("nan")}}, ["must be a number"]),
        ({"r": {"finding": "f", "score": "s", "not_below_interval": 3}}, ["must be true or false"]),
    ],
)
def test_what_is_no_rule_is_refused(rules, parts):
    with pytest.raises(InputError) as refused:
        gate("g", rules)
    for part in parts:
        assert part in str(refused.value)


def test_a_run_that_lacks_what_a_rule_names_is_refused():
    asked = ruled(at_least=0)
    with pytest.raises(InputError, match=r"against=x lacks the finding 'recognised' that gate.rules.r names; it has b"):
        asked.check({("b", "c"): REFERENCE}, "against=x")
    with pytest.raises(InputError, match=r"lacks the score 'share' of 'recognised'.*its scores are other"):
        asked.check({(KEY[0], "other"): REFERENCE}, "against=x")


def test_an_interval_that_nothing_carries_is_no_reference():
    with pytest.raises(InputError, match="nothing carries its score 'share'"):
        ruled(not_below_interval=True).check_reference({KEY: scored(0, 0, 0, n=0)}, "against=x")
    ruled(at_least=0).check_reference({KEY: scored(0, 0, 0, n=0)}, "against=x")
