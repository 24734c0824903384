"""A shift that only length makes goes where length is controlled, and the curve says where in the response it is."""

import pytest
import torch

from shiftbench.findings.length import by_length, cut_to_shorter, response_tokens
from shiftbench.stats import Bootstrap
from tests.findings.test_instruction_recognition import explanation, finding, planted, unit

BOOTSTRAP = Bootstrap(500, 0.95, 0)


def drawn(tokens, share, generator):
    """One prompt: each response token leans on each of 3 instruction tokens with a chance, on one other token always.

    share: the chance, or one for each response token.
    """
    level_PR = torch.zeros(8, tokens, dtype=torch.uint8)
    level_PR[7] = 10
    level_PR[:3] = torch.where(torch.rand(3, tokens, generator=generator) < torch.as_tensor(share), 9, 0)
    return unit(level_PR, slice(0, 3))


def side(lengths, share, seed):
    generator = torch.Generator().manual_seed(seed)
    shares = [share[:tokens] if isinstance(share, torch.Tensor) else share for tokens in lengths]
    return explanation([drawn(*one, generator) for one in zip(lengths, shares, strict=True)])


def named(result):
    return {score.name: score for score in result.scores}


def test_a_longer_response_alone_is_no_shift_once_both_are_cut():
    """Both lean on the instruction from the tenth token on, and all that tuned does is to go on for longer."""
    late = torch.tensor([0.2] * 10 + [0.9] * 30)
    base, tuned = side([10] * 80, late, 0), side([40] * 80, late, 1)
    found = named(finding()(base, tuned))
    assert found["recognition"].low > 0.2
    cut = found["recognition_min_len"]
    assert cut.low < 0 < cut.high and cut.n == 80


def test_a_planted_shift_stays_when_both_are_cut():
    found = named(finding()(side([30] * 60, 0.2, 0), side([12] * 60, 0.7, 1)))
    assert found["recognition_min_len"].low > 0
    assert found["recognition_min_len"].value > found["recognition"].value  # which the shorter response hides


def test_responses_of_equal_length_have_no_second_score_and_an_empty_one_no_value():
    assert "recognition_min_len" not in named(finding()(planted(0.2), planted(0.6, seed=1)))
    base, tuned = side([5, 0, 5], 0.5, 0), side([9, 4, 0], 0.5, 1)
    pairs = list(zip(base.units.values(), tuned.units.values(), strict=True))
    assert len(cut_to_shorter(pairs, finding()._recognition)) == 1


def test_a_cut_response_is_as_if_the_model_had_stopped_there():
    (whole,) = side([20], 0.5, 3).units.values()
    short = unit(whole.arrays["level_PR"][:, :6], slice(0, 3))
    assert finding()._recognition(whole, 6) == finding()._recognition(short, response_tokens(short))


def test_the_curve_says_where_in_the_response_the_shift_is():
    """Tuned turns to the instruction after 16 tokens, and only then."""
    base = side([40] * 50, 0.3, 0)
    early, late = side([16] * 50, 0.3, 1), side([24] * 50, 0.95, 2)
    joined = [
        unit(torch.cat([a.arrays["level_PR"], b.arrays["level_PR"]], dim=1), slice(0, 3))
        for a, b in zip(early.units.values(), late.units.values(), strict=True)
    ]
    pairs = list(zip(base.units.values(), explanation(joined).units.values(), strict=True))
    table = by_length(pairs, finding()._recognition, BOOTSTRAP).set_index(["model", "response_tokens"])
    change = table.loc["tuned - base"]
    assert list(change.index) == [1, 2, 4, 8, 16, 32] and (table["n"] == 50).all()
    assert (change.loc[:16, "low"] < 0).all() and change.loc[32, "low"] > 0
    assert change.loc[32, "recognition"] == pytest.approx(
        table.loc[("tuned", 32), "recognition"] - table.loc[("base", 32), "recognition"]
    )


def test_lengths_that_few_reach_are_left_out():
    base = side([3, 9, 40], 0.5, 0)
    pairs = [(u, u) for u in base.units.values()]
    table = by_length(pairs, finding()._recognition, BOOTSTRAP)
    assert table.groupby("response_tokens")["n"].first().to_dict() == {1: 3, 2: 3, 4: 2, 8: 2}
    assert (table.loc[table["model"] == "tuned - base", "recognition"] == 0).all()
