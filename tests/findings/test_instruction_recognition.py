"""Finding 1 reads back a planted shift, is 0 for a model and itself."""

import math

import numpy as np
import pytest
import torch

from shiftbench.findings.instruction_recognition import InstructionRecognition
from shiftbench.stats import Bootstrap
from shiftbench.store.explanation import Explanation, Unit
from tests import reference


def finding(saliency=2):
    return InstructionRecognition(None, cutoff=7, p=4, saliency=saliency, bootstrap=Bootstrap(2000, 0.95, 0))


def unit(level_PR, instruction, context=None):
    level_PR = torch.as_tensor(level_PR, dtype=torch.uint8)
    tokens, responses = level_PR.shape
    mask_P = torch.zeros(tokens, dtype=torch.bool)
    mask_P[instruction] = True
    context_P = torch.zeros(tokens, dtype=torch.bool)
    if context is not None:
        context_P[context] = True
    arrays = {"level_PR": level_PR, "instruction_P": mask_P, "context_P": context_P}
    words = {"prompt_tokens": [f"t{i}" for i in range(tokens)], "response_tokens": ["r"] * responses}
    return Unit(arrays, words)


def explanation(units):
    return Explanation({f"p{i}": u for i, u in enumerate(units)}, {}, {})


def planted(strength, count=40, seed=0):
    """Prompts whose 4 instruction tokens carry full levels in `strength` of the response tokens."""
    generator = torch.Generator().manual_seed(seed)
    units = []
    for _ in range(count):
        level_PR = torch.randint(0, 8, (12, 30), generator=generator)
        level_PR[11] = 10  # the last token sets the maximum, so densities are comparable between prompts
        level_PR[:4] = torch.where(torch.rand(4, 30, generator=generator) < strength, 9, level_PR[:4])
        units.append(unit(level_PR, slice(0, 4), slice(5, 10)))
    return explanation(units)


def test_a_planted_shift_is_found_with_its_sign_and_its_size():
    base, tuned = planted(0.2), planted(0.6, seed=1)
    result = finding()(base, tuned)
    score = result.scores[0]

    def mean(explained):
        values = []
        for u in explained.units.values():
            density_P = reference.importance_density(u.arrays["level_PR"].double(), cutoff=7, p=4)
            values.append(float(density_P[:4].sum()) / math.log2(6))
        return np.mean(values)

    assert score.name == "recognition" and score.n == 40
    assert score.value == pytest.approx(mean(tuned) - mean(base), abs=1e-5)
    assert 0 < score.low < score.value < score.high and score.p < 1e-6
    backwards = finding()(tuned, base).scores[0]
    assert backwards.value == pytest.approx(-score.value) and backwards.high < 0
    assert "more" in result.sentence and "40 prompts" in result.sentence


def test_a_model_and_itself_score_exactly_zero():
    base = planted(0.4)
    for score in finding()(base, base).scores:
        assert (score.value, score.low, score.high, score.p, score.n) == (0.0, 0.0, 0.0, None, 0)


def test_a_prompt_without_instruction_is_left_out_and_counted():
    base, tuned = planted(0.2, count=3), planted(0.6, count=3, seed=1)
    silent = unit(torch.ones(12, 30), slice(0, 0))
    base = explanation([*base.units.values(), silent])
    tuned = explanation([*tuned.units.values(), silent])
    result = finding()(base, tuned)
    assert result.scores[0].n == 3
    assert "1 prompts without an instruction" in result.sentence


def test_nothing_to_compare_is_said_as_such():
    silent = explanation([unit(torch.ones(12, 30), slice(0, 0))])
    assert "No prompt has an instruction" in finding()(silent, silent).sentence
    mute = explanation([unit(torch.zeros(12, 0), slice(0, 4))])
    assert "No response has a token" in finding()(mute, mute).sentence


def test_a_prompt_without_a_response_scores_zero_and_counts():
    empty = unit(torch.zeros(12, 0), slice(0, 4))
    base = explanation([*planted(0.2, count=3).units.values(), empty])
    tuned = explanation([*planted(0.6, count=3, seed=1).units.values(), empty])
    table = finding()(base, tuned).tables["prompts"]
    assert len(table) == 4 and table["recognition_base"].iloc[3] == 0.0 == table["recognition_tuned"].iloc[3]


def test_saliency_is_shown_only_where_both_models_see_the_same_tokens():
    base, tuned = planted(0.2, count=2), planted(0.6, count=2)
    tuned.units["p0"].words["prompt_tokens"][0] = "another"
    assert [shown.prompt_id for shown in finding()(base, tuned).saliency] == ["p1"]
