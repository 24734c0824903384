"""A planted gain of the key parts is read back in nats, and one of every token is told from it."""

import numpy as np
import pytest
import torch

from shiftbench.findings.key_part_gain import KeyPartGain
from shiftbench.stats import Bootstrap
from shiftbench.store.explanation import Explanation, Unit

MASKS = ["nothing", "key parts", "random 1", "random 2"]


def finding():
    return KeyPartGain(None, Bootstrap(500, 0.95, 0))


def planted(key, random, seed, count=40):
    """Units whose key parts carry so many nats a token, and as many other tokens so many."""
    draws = np.random.default_rng(seed)
    units = {}
    for i in range(count):
        full = -1 + 0.1 * draws.normal()
        losses = np.array([0, key, random, random]) + 0.1 * draws.normal(size=4)
        log_M = torch.tensor([full, *(full - losses[1:])], dtype=torch.float32)
        units[f"p{i}"] = Unit({"log_M": log_M, "tokens_2": torch.tensor([5, 20])}, {"masks": MASKS})
    return Explanation(units, {}, {})


def named(result):
    return {score.name: score for score in result.scores}


def test_a_planted_gain_is_found_in_its_size():
    result = finding()(planted(0.5, 0.3, 0), planted(1.3, 0.3, 1))
    found = named(result)
    assert found["key_gain"].value == pytest.approx(0.8, abs=0.06) and found["key_gain"].low > 0.7
    assert found["key_gain_over_random"].value == pytest.approx(0.8, abs=0.1) and found[result.headline].n == 40
    assert found["random_gain"].low < 0 < found["random_gain"].high
    assert ", clearly a difference" in result.sentence


def test_what_every_token_gains_is_not_of_the_key_parts():
    found = named(finding()(planted(0.5, 0.3, 0), planted(1.3, 1.1, 1)))
    assert found["key_gain"].low > 0.7
    assert abs(found["key_gain_over_random"].value) < 0.1


@pytest.mark.long
def test_under_the_null_an_interval_misses_zero_as_often_as_it_says():
    missed = 0
    for seed in range(200):
        score = named(finding()(planted(0.5, 0.3, 2 * seed), planted(0.5, 0.3, 2 * seed + 1)))["key_gain_over_random"]
        missed += score.low > 0 or score.high < 0
    assert 2 <= missed <= 24  # of 200 at 5%; the bootstrap of 40 prompts is a little narrow


def test_a_model_and_itself_score_nothing():
    base = planted(0.5, 0.3, 0)
    result = finding()(base, base)
    assert all(score.value == 0 and score.n == 0 for score in result.scores) and "alike" in result.sentence
    empty = finding()(Explanation({}, {}, {}), Explanation({}, {}, {}))
    assert "No prompt" in empty.sentence
