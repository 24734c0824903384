"""A planted dependence on where the instruction stands is read back, in recognition and in probability."""

import pytest
import torch

from shiftbench.explain.position import POSITIONS, unit_name
from shiftbench.findings.instruction_position import InstructionPosition
from shiftbench.stats import Bootstrap
from shiftbench.store.explanation import Explanation
from tests.findings.test_instruction_recognition import unit


def finding():
    return InstructionPosition(None, cutoff=7, p=4, bootstrap=Bootstrap(1000, 0.95, 0))


def planted(share, log, seed, count=40):
    """share, log: by where the instruction stands; the chance that it carries a response token, and log p of one."""
    generator = torch.Generator().manual_seed(seed)
    units = {}
    for i in range(count):
        for place in POSITIONS:
            for answered in POSITIONS:
                level_PR = torch.zeros(10, 20, dtype=torch.uint8)
                level_PR[5] = 10
                level_PR[:4] = torch.where(torch.rand(4, 20, generator=generator) < share[place], 9, 0)
                made = unit(level_PR, slice(0, 4))
                noise_R = 0.1 * torch.randn(20, generator=generator)
                made.arrays["probability_R"] = (log[place] + noise_R).exp()
                units[unit_name(f"p/{i}", place, answered)] = made
    return Explanation(units, {}, {})


def named(result):
    return {score.name: score for score in result.scores}


SAME = {"first": -1.0, "last": -1.0}


def test_a_model_that_learned_only_to_look_first_is_told_from_one_that_follows_the_instruction():
    base = planted({"first": 0.3, "last": 0.3}, SAME, 0)
    place = named(finding()(base, planted({"first": 0.8, "last": 0.3}, SAME, 1)))
    follows = named(finding()(base, planted({"first": 0.8, "last": 0.8}, SAME, 2)))
    assert place["recognition_first"].low > 0 and follows["recognition_first"].low > 0
    assert place["recognition_last"].low < 0 < place["recognition_last"].high
    assert follows["recognition_last"].low > 0
    assert place["recognition_last_over_first"].high < 0
    assert follows["recognition_last_over_first"].low < 0 < follows["recognition_last_over_first"].high
    assert follows["recognition_last"].n == 40


def test_a_planted_cost_of_the_place_is_read_in_nats():
    share = {"first": 0.5, "last": 0.5}
    base, tuned = planted(share, {"first": -1.0, "last": -2.0}, 0), planted(share, {"first": -1.0, "last": -1.25}, 1)
    result = finding()(base, tuned)
    score = named(result)["log_probability_last_over_first"]
    assert score.value == pytest.approx(0.75, abs=0.02) and score.low > 0.7
    table = result.tables["positions"].set_index(["quantity", "instruction stands", "model"])["mean"]
    assert table["log_probability", "last", "base"] == pytest.approx(-2.0, abs=0.02)
    assert "+0." in result.sentence or "-0." in result.sentence


def test_a_model_and_itself_score_nothing_and_no_prompt_is_said():
    base = planted({"first": 0.3, "last": 0.6}, SAME, 0)
    assert all(score.value == 0 and score.n == 0 for score in finding()(base, base).scores)
    empty = finding()(Explanation({}, {}, {}), Explanation({}, {}, {}))
    assert "No prompt" in empty.sentence and all(score.n == 0 for score in empty.scores)


def test_a_prompt_without_an_answer_is_left_out_and_one_answer_is_enough():
    base, tuned = (planted({"first": 0.3, "last": 0.3}, SAME, seed, count=5) for seed in (0, 1))
    for side in (base, tuned):
        for answered, names in (("first", [0, 1]), ("last", [0])):
            for i in names:
                for place in POSITIONS:
                    cut = side.units[unit_name(f"p/{i}", place, answered)].arrays
                    cut["level_PR"], cut["probability_R"] = cut["level_PR"][:, :0], cut["probability_R"][:0]
    result = finding()(base, tuned)
    assert list(result.tables["prompts"]["prompt"]) == [f"p/{i}" for i in range(1, 5)]
    assert result.tables["prompts"].notna().all().all()
