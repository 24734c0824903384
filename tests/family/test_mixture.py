"""A shift that was planted in one skill of one model is found there and nowhere else."""

from functools import partial

import numpy as np
import pytest

from shiftbench.family.mixture import by_skill
from shiftbench.stats import between_groups
from tests.family.planted import BOOTSTRAP, matrix

FLAT = {"chat": 0.3, "code": 0.3, "maths": 0.3}


def test_one_skill_of_one_model_is_found_and_no_other():
    (result,) = by_skill(matrix({"plain": FLAT, "coder": {**FLAT, "code": 0.8}}), BOOTSTRAP)
    models = result.tables["between_models"].set_index("skill")
    assert models.loc["code", "first - second"] == pytest.approx(-0.5, abs=0.12)
    assert (models["Holm p"] <= 0.05).to_dict() == {"chat": False, "code": True, "maths": False}
    uneven = result.tables["between_skills"].set_index("model")
    assert uneven.loc["coder", "Holm p"] < 0.01 and uneven.loc["coder", "share between skills"] > 0.2
    assert uneven.loc["plain", "Holm p"] > 0.05
    assert "coder most in code" in result.sentence and "1 of 2 models" in result.sentence
    assert {score.name for score in result.scores} == {"moved_of_plain", "moved_of_coder"}


@pytest.mark.long
def test_false_findings_are_no_more_frequent_than_the_level_allows(monkeypatch):
    """With Holm's correction, over three skills and over two models, at most 5% of families have a false finding.

    With 199 permutations instead of 10,000: the size of a permutation test does not depend on their number.
    """
    monkeypatch.setattr("shiftbench.family.mixture.between_groups", partial(between_groups, draws=199))
    wrong = uneven = 0
    for seed in range(60):
        (result,) = by_skill(matrix({"one": FLAT, "two": FLAT}, count=15, seed=seed), BOOTSTRAP)
        wrong += (result.tables["between_models"]["Holm p"] <= 0.05).any()
        uneven += (result.tables["between_skills"]["Holm p"] <= 0.05).any()
    assert wrong <= 8 and uneven <= 8


def test_a_finding_of_weights_alone_has_no_skills():
    found = by_skill(matrix({"one": FLAT, "two": FLAT}, turned={"one": 1.0, "two": 2.0}), BOOTSTRAP)
    assert [result.finding for result in found] == ["planted"]


def test_the_planted_share_between_groups_is_found_and_the_test_keeps_its_level():
    draws = np.random.default_rng(0)
    labels = np.repeat(list("abcd"), 200)
    centre = np.repeat([-1.0, 1.0, -1.0, 1.0], 200)
    found = between_groups(centre + draws.normal(size=800), labels, 0, draws=199)
    assert found.share == pytest.approx(0.5, abs=0.05) and found.p == 1 / 200
    null = [between_groups(draws.normal(size=40), np.arange(40) % 4, seed, draws=199) for seed in range(300)]
    assert np.mean([one.share for one in null]) == pytest.approx(0, abs=0.01)
    assert 0.02 <= np.mean([one.p <= 0.05 for one in null]) <= 0.08


@pytest.mark.parametrize(
    ("values", "labels"), [([], []), ([1, 2], ["a", "a"]), ([1, 1], ["a", "b"]), ([3, 3, 3], list("aab"))]
)
def test_a_permutation_test_without_possible_permutations_has_no_p_value(values, labels):
    found = between_groups(values, labels, 0)
    assert found.share == 0 and found.p is None and found.n == len(values)
