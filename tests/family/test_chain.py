"""A chain that forgets is told from one that does not, set by set, and by as much as was planted."""

import numpy as np
import pytest

from shiftbench.family.chain import trajectories
from tests.family.planted import BOOTSTRAP, matrix

OWNERS = {"a": 1, "b": 2}


def found(moved, **change):
    return trajectories(matrix(moved, **change), OWNERS, BOOTSTRAP)


def named(result):
    return {score.name: score for score in result.scores}


def test_what_was_planted_is_forgotten_and_by_whom_it_was_had():
    (result,) = found({"s1": {"a": 0.5, "b": 0.0}, "s2": {"a": 0.6, "b": 0.7}, "s3": {"a": 0.2, "b": 0.7}})
    rows = result.tables["forgetting"].set_index(["prompts", "step"])
    lost = rows.loc[("a", 3)]
    assert lost["best"] == "s2" and lost["forgotten"] == pytest.approx(0.4, abs=0.12) and lost["low"] > 0.2
    assert rows.loc[("b", 3), "low"] < 0 < rows.loc[("b", 3), "high"]
    assert rows.loc[("a", 2), "forgotten"] < 0  # the second step gained on the first one's prompts
    assert ("b", 2) not in rows.index  # nothing was learned there before
    score = named(result)["moved_forgotten"]
    assert score.name == result.headline and score.n == 80 and score.value == pytest.approx(0.2, abs=0.08)
    assert "s2" in result.sentence


def test_a_trajectory_is_the_headline_of_every_step_on_every_set():
    planted = {"s1": {"a": 0.5, "b": 0.0}, "s2": {"a": 0.1, "b": 0.9}}
    (result,) = found(planted)
    table = result.tables["trajectory"].set_index(["prompts", "step"])["value"]
    for step, of in enumerate(planted.values(), start=1):
        for group, value in of.items():
            assert table[group, step] == pytest.approx(value, abs=0.15)
    assert named(result)["moved_on_b"].value == table["b", 2]


def test_what_no_prompt_carries_has_no_interval_and_no_score_of_forgetting():
    result = found({"s1": {"a": 0.5}, "s2": {"a": 0.5}}, turned={"s1": 0.8, "s2": 0.3})[1]
    (row,) = result.tables["forgetting"].to_dict("records")
    assert row["forgotten"] == pytest.approx(0.5) and np.isnan(row["low"]) and row["n"] == 0
    assert [score.name for score in result.scores] == ["turned"] and result.headline == "turned"


def test_steps_that_are_one_model_forget_nothing():
    one = matrix({"s1": {"a": 0.5}, "s2": {"a": 0.5}})
    same = {key: one.results["s1", "a"] for key in one.results}
    (result,) = trajectories(type(one)(one.models, one.groups, same, None, []), {"a": 1}, BOOTSTRAP)
    score = named(result)["moved_forgotten"]
    assert score.value == 0 and score.n == 0


@pytest.mark.long
def test_intervals_of_forgetting_cover_zero_as_often_as_they_say():
    """With one earlier step there is no choice of the best, and so no bias of it."""
    missed = 0
    for seed in range(200):
        (result,) = found({"s1": {"a": 0.3}, "s2": {"a": 0.3}}, seed=seed)
        row = result.tables["forgetting"].iloc[0]
        missed += row["low"] > 0 or row["high"] < 0
    assert 2 <= missed <= 24  # of 200 at 5%
