"""The one function that decides: each word, its precedence, and what each lack of evidence leads to."""

import dataclasses
import itertools

import pytest

from shiftbench.contracts.claim import Claim
from shiftbench.contracts.result import Score
from shiftbench.verdicts import Evidence, Null, Word, decide
from shiftbench.verdicts.decision import deciding_p
from shiftbench.verdicts.sentences import command, sentence

CLAIM = Claim(
    score="s", short="does it", statement="the tuned model does it", opposite="the tuned model does it less",
    observations="prompts", floor=10, zero_is_null=True, attributions=True, specific=("special",),
    not_specific="the rest did it too",
)  # fmt: skip
BY_NULL = dataclasses.replace(CLAIM, zero_is_null=False, attributions=False, specific=(), not_specific="")


def score(value, half=0.1, n=60, p=1e-4, name="s"):
    return Score("f", name, value, value - half, value + half, p, n)


def null(draws=199, mean=0.0):
    return Null("permuted", draws, mean, mean - 0.05, mean + 0.05, draws)


GOOD = Evidence(score(0.5), score(0.4, name="s_over_null"), null(), [score(0.3, name="special")], p=1e-3, tests=3)


def changed(**fields):
    return dataclasses.replace(GOOD, **fields)


def test_all_evidence_for_a_claim_supports_it():
    verdict = decide(CLAIM, GOOD)
    assert (verdict.word, list(verdict.reasons), verdict.remedy) == (Word.SUPPORTED, [], None)
    assert sentence(verdict) == (
        "The tuned model does it: +0.500 [+0.400, +0.600] over 60 prompts, more than 199 permuted changes of the same "
        "size, which score +0.000 [-0.050, +0.050]."
    )


def test_all_evidence_against_it_is_opposite():
    verdict = decide(CLAIM, changed(score=score(-0.5), excess=score(-0.4), specific=[score(-0.3)]))
    assert verdict.word is Word.OPPOSITE
    assert sentence(verdict).startswith("The tuned model does it less: -0.500")


@pytest.mark.parametrize(
    ("lack", "reason"),
    [
        ({"score": score(0.05)}, "contains 0"),
        ({"excess": None, "null": None}, "not controlled"),
        ({"null": null(38)}, "38 null models give a range"),
        ({"null": null(1)}, "one control model"),
        ({"excess": score(0.05)}, "the excess"),
        ({"excess": score(-0.4)}, "differ in sign"),
        ({"specific": [score(0.05, name="special")]}, "the rest did it too"),
        ({"specific": [score(0.3, n=9, name="special")]}, "fewer than 10"),
        ({"checked": False}, "not checked"),
        ({"p": 0.051}, "corrected for 3 claims"),
        ({"p": None}, "no test"),
    ],
)
def test_each_lack_of_evidence_alone_leaves_the_claim_open(lack, reason):
    verdict = decide(CLAIM, changed(**lack))
    assert verdict.word is Word.NOT_CLEAR
    assert reason in verdict.reasons[0]
    assert "is not clear" in sentence(verdict)


@pytest.mark.parametrize(
    ("confidence", "draws", "reason", "remedy"),
    [
        (0.95, 39, "", ()),
        (0.99, 39, "39 null models give a range", ("control.draws=199",)),
        (0.99, 198, "198 null models give a range", ("control.draws=199",)),
        (0.99, 199, "", ()),
        (0.99, 1, "one control model", ("control=random", "control.draws=199")),
        (0.95, 1, "one control model", ("control=random",)),
        (0.9, 18, "18 null models give a range", ("control.draws=39",)),
        (0.9, 19, "19 null models, and at least 39 are needed", ("control.draws=39",)),
        (0.9, 39, "", ()),
    ],
)
def test_how_many_null_models_decide_follows_from_the_confidence(confidence, draws, reason, remedy):
    verdict = decide(CLAIM, changed(null=null(draws), confidence=confidence))
    if not reason:
        assert verdict.word is Word.SUPPORTED
    else:
        assert verdict.word is Word.NOT_CLEAR and verdict.reasons[0].startswith(reason)
        assert tuple(verdict.remedy.overrides) == remedy


@pytest.mark.parametrize(
    ("lack", "reason"),
    [
        ({"unfaithful": frozenset({"base", "tuned"})}, "the attributions of base and tuned"),
        ({"score": score(0.5, n=9)}, "9 prompts, and at least 10"),
    ],
)
def test_what_cannot_be_trusted_is_not_said_however_clear_it_looks(lack, reason):
    verdict = decide(CLAIM, changed(**lack))
    assert verdict.word is Word.NOT_TRUSTWORTHY
    assert reason in verdict.reasons[0]


def test_labels_without_static_vectors_are_not_trustworthy():
    claim = dataclasses.replace(BY_NULL, static_vectors=True)
    verdict = decide(claim, changed(static_vectors=False))
    assert verdict.word is Word.NOT_TRUSTWORTHY
    assert command(["pair=demo"], verdict.remedy).startswith("pip install ")


def test_an_unfaithful_model_does_not_matter_to_a_claim_about_weights():
    assert decide(BY_NULL, changed(unfaithful=frozenset({"base"}))).word is Word.SUPPORTED


def test_nothing_to_judge_is_not_applicable():
    assert decide(CLAIM, changed(score=score(0.0, half=0.0, n=0))).word is Word.NOT_APPLICABLE
    assert decide(CLAIM, changed(inapplicable="no prompt has an instruction")).reasons == [
        "no prompt has an instruction"
    ]


def test_where_zero_is_not_the_null_only_the_excess_counts():
    verdict = decide(BY_NULL, changed(score=score(-0.5), excess=score(0.4, name="s_over_null")))
    assert (verdict.word, verdict.headline.name) == (Word.SUPPORTED, "s_over_null")
    assert decide(BY_NULL, changed(excess=score(0.05))).word is Word.NOT_CLEAR


def test_the_larger_of_both_tests_counts_where_zero_is_the_null():
    assert deciding_p(CLAIM, score(0.5, p=0.01), score(0.4, p=0.2)) == 0.2
    assert deciding_p(CLAIM, score(0.5, p=None), score(0.4, p=0.2)) is None
    assert deciding_p(BY_NULL, score(0.5, p=0.9), score(0.4, p=0.2)) == 0.2
    assert deciding_p(BY_NULL, score(0.5, p=0.9), None) is None


def test_no_evidence_that_is_taken_away_makes_a_word_stronger():
    """Every combination of lacks: the word is never decided where a single lack leaves it open."""
    lacks = [
        {"excess": None, "null": None}, {"checked": False}, {"p": 0.2}, {"unfaithful": frozenset({"tuned"})},
        {"specific": [score(0.0, name="special")]},
    ]  # fmt: skip
    for count in range(1, len(lacks) + 1):
        for chosen in itertools.combinations(lacks, count):
            fields = {key: value for lack in chosen for key, value in lack.items()}
            assert not decide(CLAIM, changed(**fields)).word.decided


def test_the_words_keep_their_order():
    everything = changed(inapplicable="why", unfaithful=frozenset({"base"}), excess=None, null=None)
    assert decide(CLAIM, everything).word is Word.NOT_APPLICABLE
    assert decide(CLAIM, dataclasses.replace(everything, inapplicable="")).word is Word.NOT_TRUSTWORTHY


def test_the_command_that_would_decide_keeps_what_was_given_and_replaces_what_it_must():
    uncontrolled = decide(CLAIM, changed(excess=None, null=None))
    assert command(["pair=demo", "suite=demo"], uncontrolled.remedy) == (
        "shiftbench score pair=demo suite=demo control=random"
    )
    one_model = decide(CLAIM, changed(null=null(1)))
    given = ["pair=demo", "control=continued", "control.path=a b"]
    assert command(given, one_model.remedy) == "shiftbench score pair=demo control=random"
    few = decide(CLAIM, changed(null=null(19)))
    assert command(["pair=demo", "control=permuted", "control.draws=19"], few.remedy) == (
        "shiftbench score pair=demo control=permuted control.draws=39"
    )


def test_the_smallest_effect_that_would_have_been_found_has_a_power_of_80_percent():
    verdict = decide(CLAIM, changed(score=score(0.05, half=1.96)))
    assert verdict.detectable == pytest.approx(1.96 + 0.8416)
