"""Each requirement passes and fails on the right side of its limit, and an invalid rule is refused."""

import pytest

from shiftbench.contracts.result import Score
from shiftbench.errors import InputError
from shiftbench.gate.rules import REQUIREMENTS, Judged, gate
from shiftbench.results.document import RecordedVerdict

KEY = ("recognised", "share")
REFERENCE = Score(*KEY, 0.30, 0.20, 0.40, 0.01, 60)


def gate_of(**requirements):
    return gate("g", {"r": {"finding": KEY[0], "score": KEY[1], **requirements}})


def judged(score, **requirements):
    found = gate_of(**requirements).judge(Judged("run", {KEY: score}), Judged("reference", {KEY: REFERENCE}))
    return [outcome.passed for outcome in found]


def score_of(value, low, high, n=60):
    return Score(*KEY, value, low, high, None, n)


@pytest.mark.parametrize(
    ("requirement", "number", "passes", "fails"),
    [
        ("not_below_interval", True, score_of(0.20, 0.1, 0.3), score_of(0.1999, 0.1, 0.3)),
        ("at_least", 0.25, score_of(0.25, 0.1, 0.3), score_of(0.2499, 0.1, 0.3)),
        ("at_most", 0.25, score_of(0.25, 0.1, 0.3), score_of(0.2501, 0.1, 0.3)),
        ("interval_above", 0.1, score_of(0.25, 0.1001, 0.3), score_of(0.25, 0.1, 0.3)),
    ],
)
def test_a_requirement_passes_at_its_limit_and_fails_beyond(requirement, number, passes, fails):
    assert judged(passes, **{requirement: number}) == [True]
    assert judged(fails, **{requirement: number}) == [False]


def test_every_requirement_is_in_the_test_above():
    assert set(REQUIREMENTS) == {"not_below_interval", "at_least", "at_most", "interval_above"}


def test_a_rule_may_require_several_things():
    assert judged(score_of(0.3, -0.1, 0.5), not_below_interval=True, interval_above=0) == [True, False]


def test_a_score_without_observations_fails():
    run = Judged("run", {KEY: score_of(0, 0, 0, n=0)})
    found = gate_of(at_most=1).judge(run, Judged("reference", {KEY: REFERENCE}))
    assert not found[0].passed and "n = 0" in found[0].why


def test_a_requirement_that_is_switched_off_is_not_judged():
    assert judged(score_of(0, -1, 1), not_below_interval=False, at_least=-1) == [True]


@pytest.mark.parametrize(
    ("rules", "parts"),
    [
        ({}, ["no rules"]),
        ({"r": 7}, ["gate.rules.r", "not a rule", "not trustworthy"]),
        ({"r": "suported"}, ["gate.rules.r='suported'", "did you mean 'supported'?"]),
        ({"r": ["supported", "yes"]}, ["gate.rules.r", "is not a verdict", "not clear"]),
        ({"r": {"finding": "f", "verdict": []}}, ["gate.rules.r.verdict=[]", "is not a verdict"]),
        ({"r": {"finding": "f", "verdict": "clear"}}, ["gate.rules.r.verdict='clear'", "not clear"]),
        ({"r": {"score": "s", "verdict": "supported"}}, ["gate.rules.r.finding is missing"]),
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
def test_an_invalid_rule_is_refused(rules, parts):
    with pytest.raises(InputError) as refused:
        gate("g", rules)
    for part in parts:
        assert part in str(refused.value)


def test_a_run_without_a_score_that_a_rule_names_is_refused():
    checked = gate_of(at_least=0)
    with pytest.raises(InputError, match=r"against=x lacks the finding 'recognised' that gate.rules.r names; it has b"):
        checked.check(Judged("against=x", {("b", "c"): REFERENCE}))
    with pytest.raises(InputError, match=r"lacks the score 'share' of 'recognised'.*its scores are other"):
        checked.check(Judged("against=x", {(KEY[0], "other"): REFERENCE}))


def test_a_reference_interval_without_observations_is_refused():
    with pytest.raises(InputError, match="its score 'share' of 'recognised' has no observations"):
        gate_of(not_below_interval=True).check_reference(Judged("against=x", {KEY: score_of(0, 0, 0, n=0)}))
    gate_of(at_least=0).check_reference(Judged("against=x", {KEY: score_of(0, 0, 0, n=0)}))


def recorded(word, headline="share", reasons=("the interval contains 0",), command="shiftbench score pair=demo"):
    return RecordedVerdict(word, "claim", headline, 0.3, 0.2, 0.4, 0.01, 60, None, reasons, "sentence", 0.1, command)


VERDICTS = {
    "recognised": recorded("not clear"),
    "recognised.whole": recorded("supported", "whole", ()),
    "encoded": recorded("opposite", "verbs_over_null", ("fewer verbs",), None),
}


def outcomes(rules, run_verdicts=VERDICTS, before=None):
    scores = {KEY: REFERENCE, ("encoded", "verbs_over_null"): Score("encoded", "verbs_over_null", 0.1, 0, 0.2, 0.1, 14)}
    run = Judged("results=x", scores, run_verdicts)
    reference = None if before is None else Judged("against=y", {}, before)
    found = gate("g", rules)
    found.check(run)
    return found.judge(run, reference)


@pytest.mark.parametrize(
    ("rules", "passed"),
    [
        ({"recognised": "supported"}, False),
        ({"recognised": ["supported", "not clear"]}, True),
        ({"recognised": ["supported", "not_clear"]}, True),
        ({"share": "not clear"}, True),  # by the score's name
        ({"recognised.share": "not clear"}, True),
        ({"whole": "supported"}, True),  # the second claim of the finding
        ({"recognised.whole": "supported"}, True),
        ({"verbs": "opposite"}, True),  # the verdict's headline is the excess over the null models
        ({"own": {"finding": "encoded", "verdict": "supported"}}, False),
        ({"own": {"finding": "encoded", "score": "verbs", "verdict": "opposite"}}, True),
        ({"own": {"finding": "recognised", "score": "whole", "verdict": "supported"}}, True),
    ],
)
def test_a_rule_may_ask_for_a_verdict(rules, passed):
    (outcome,) = outcomes(rules)
    assert outcome.passed is passed and outcome.requirement == "verdict"


def test_a_failure_says_which_word_came_why_and_what_to_do():
    (outcome,) = outcomes({"recognised": "supported"}, before={"recognised": recorded("supported")})
    assert outcome.why == (
        "the verdict is 'not clear', 'supported' is required: the interval contains 0; next: shiftbench score pair=demo"
    )
    assert (outcome.now, outcome.before, outcome.score.name) == ("not clear", "supported", "share")
    (outcome,) = outcomes({"verbs": ["supported", "not clear"]})
    assert outcome.why == "the verdict is 'opposite', 'supported' or 'not clear' is required: fewer verbs"
    assert outcome.before == "" and outcome.reference is None


def test_a_rule_may_ask_for_a_verdict_and_for_numbers():
    rule = {"finding": "encoded", "score": "headline", "verdict": "supported", "at_least": 0.05}
    found = outcomes({"own": rule})
    assert [(outcome.requirement, outcome.passed) for outcome in found] == [("verdict", False), ("at_least", True)]
    assert found[1].score.name == "verbs_over_null"


def test_a_file_without_verdicts_is_refused_where_a_rule_needs_one():
    for rules in ({"recognised": "supported"}, {"r": {"finding": "encoded", "score": "headline", "at_least": 0}}):
        with pytest.raises(InputError, match=r"results=x has no verdicts, and gate\.rules\..* older version"):
            outcomes(rules, {})
    with pytest.raises(InputError, match=r"no verdict on the claim 'rotated' that gate.rules.rotated names; it has"):
        outcomes({"rotated": "supported"})


def test_only_an_interval_of_the_reference_needs_a_reference():
    assert not gate(
        "g", {"recognised": "supported", "r": {"finding": "f", "score": "s", "at_least": 0}}
    ).needs_reference
    assert gate_of(not_below_interval=True).needs_reference


def test_a_reference_with_another_headline_is_refused():
    excess, raw = (Score("encoded", name, 0.1, 0.05, 0.2, 0.1, 14) for name in ("verbs_over_null", "verbs"))
    run = Judged("out=x", {("encoded", "verbs_over_null"): excess}, VERDICTS)
    reference = Judged("against=y", {("encoded", "verbs"): raw}, {"encoded": recorded("not clear", "verbs")})
    rule = gate("g", {"r": {"finding": "encoded", "score": "headline", "not_below_interval": True}})
    rule.check_reference(reference)
    with pytest.raises(InputError, match="against=y lacks the score 'verbs_over_null' of 'encoded'"):
        rule.judge(run, reference)
