"""Forgetting that was planted in a chain is found on its group of prompts, with its size, and nowhere else."""

import numpy as np
import pytest

from shiftbench.family.chain import trajectories
from tests.family.planted import BOOTSTRAP, matrix

FIRST_STEPS = {"a": 1, "b": 2}


def compute_trajectories(moved, **options):
    return trajectories(matrix(moved, **options), FIRST_STEPS, BOOTSTRAP)


def scores_by_name(result):
    return {score.name: score for score in result.scores}


def test_planted_forgetting_is_found_and_the_best_step_named():
    (result,) = compute_trajectories(
        {"s1": {"a": 0.5, "b": 0.0}, "s2": {"a": 0.6, "b": 0.7}, "s3": {"a": 0.2, "b": 0.7}}
    )
    rows = result.tables["forgetting"].set_index(["prompts", "step"])
    lost = rows.loc[("a", 3)]
    assert lost["best"] == "s2" and lost["forgotten"] == pytest.approx(0.4, abs=0.12) and lost["low"] > 0.2
    assert rows.loc[("b", 3), "low"] < 0 < rows.loc[("b", 3), "high"]
    assert rows.loc[("a", 2), "forgotten"] < 0  # the second step gained on the first one's prompts
    assert ("b", 2) not in rows.index  # no step before it was tuned toward b
    score = scores_by_name(result)["moved_forgotten"]
    assert score.name == result.headline and score.n == 80 and score.value == pytest.approx(0.2, abs=0.08)
    assert "s2" in result.sentence


def test_a_trajectory_is_the_headline_of_every_step_on_every_set():
    planted = {"s1": {"a": 0.5, "b": 0.0}, "s2": {"a": 0.1, "b": 0.9}}
    (result,) = compute_trajectories(planted)
    table = result.tables["trajectory"].set_index(["prompts", "step"])["value"]
    for step, changes in enumerate(planted.values(), start=1):
        for group, value in changes.items():
            assert table[group, step] == pytest.approx(value, abs=0.15)
    assert scores_by_name(result)["moved_on_b"].value == table["b", 2]


def test_a_finding_without_prompts_has_no_interval_and_no_forgetting_score():
    result = compute_trajectories({"s1": {"a": 0.5}, "s2": {"a": 0.5}}, turned={"s1": 0.8, "s2": 0.3})[1]
    (row,) = result.tables["forgetting"].to_dict("records")
    assert row["forgotten"] == pytest.approx(0.5) and np.isnan(row["low"]) and row["n"] == 0
    assert [score.name for score in result.scores] == ["turned"] and result.headline == "turned"


def test_two_steps_with_the_same_model_forget_nothing():
    one = matrix({"s1": {"a": 0.5}, "s2": {"a": 0.5}})
    same = {key: one.results["s1", "a"] for key in one.results}
    (result,) = trajectories(type(one)(one.models, one.groups, same, None, []), {"a": 1}, BOOTSTRAP)
    score = scores_by_name(result)["moved_forgotten"]
    assert score.value == 0 and score.n == 0


@pytest.mark.long
def test_intervals_of_forgetting_cover_zero_as_often_as_they_claim():
    """With one earlier step there is no choice of the best step, so that choice causes no bias."""
    missed = 0
    for seed in range(200):
        (result,) = compute_trajectories({"s1": {"a": 0.3}, "s2": {"a": 0.3}}, seed=seed)
        row = result.tables["forgetting"].iloc[0]
        missed += row["low"] > 0 or row["high"] < 0
    assert 2 <= missed <= 24  # of 200 at 5%
