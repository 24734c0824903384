"""The check sees planted faithfulness, and calls what is random random as often as it should."""

import numpy as np
import pytest
import torch

from shiftbench.explain.faithfulness import Faithfulness
from shiftbench.findings.attribution_faithfulness import AttributionFaithfulness
from shiftbench.stats import Bootstrap
from shiftbench.store.explanation import Explanation, Unit

TOKENS = 20
FRACTIONS = (0.1, 0.5)
DRAWS = 3


def finding(resamples=1000, methods=("grad_x_input",)):
    explain = Faithfulness(list(methods), 8, list(FRACTIONS), DRAWS, None, None, 0, None)
    return AttributionFaithfulness(explain, Bootstrap(resamples, 0.95, 0))


def unit(generator, truth):
    """A prompt whose token n adds weight_n to the probability; importance is `truth` parts that and the rest noise."""
    weight_P = torch.rand(TOKENS, generator=generator) ** 3
    weight_P = 0.5 * weight_P / weight_P.sum()
    noise_P = torch.rand(TOKENS, generator=generator) ** 3
    importance_P = truth * weight_P + (1 - truth) * 0.5 * noise_P / noise_P.sum()
    best_P = importance_P.argsort(descending=True)
    random = [torch.randperm(TOKENS, generator=generator) for _ in range(DRAWS)]
    orders = [best_P, best_P.flip(0), *random]
    count = [round(fraction * TOKENS) for fraction in FRACTIONS]
    removed_OF = torch.stack([torch.stack([0.6 - weight_P[o[:k]].sum() for k in count]) for o in orders])
    kept_OF = torch.stack([torch.stack([0.1 + weight_P[o[:k]].sum() for k in count]) for o in orders])
    arrays = {
        "full_2": torch.tensor([0.6, float(np.log(0.6))]),
        "removed_OF": removed_OF, "removed_log_OF": removed_OF.log(),
        "kept_OF": kept_OF, "kept_log_OF": kept_OF.log(),
        "change_K": weight_P, "token_K": torch.arange(TOKENS), "importance_MP": importance_P[None],
    }  # fmt: skip
    names = ["grad_x_input", "grad_x_input reversed", *(f"random {i + 1}" for i in range(DRAWS))]
    return Unit(arrays, {"orders": names, "methods": ["grad_x_input"]})


def explanation(truth, count=30, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Explanation({f"p{i}": unit(generator, truth) for i in range(count)}, {}, {})


def named(result):
    return {score.name: score for score in result.scores}


def test_planted_faithfulness_is_found_and_its_size_is_the_formulas():
    base, tuned = explanation(0.0), explanation(1.0, seed=1)
    result = finding()(base, tuned)
    found = named(result)
    score = found["tuned_comprehensiveness_over_random"]
    by_prompt = []
    for u in tuned.units.values():
        removed_OF = u.arrays["removed_OF"].double()
        by_prompt.append(float((0.6 - removed_OF[0]).mean() - (0.6 - removed_OF[2:]).mean()))
    assert score.value == pytest.approx(np.mean(by_prompt), abs=1e-6) and score.n == 30
    assert 0 < score.low < score.value < score.high and score.p < 1e-3
    assert found["tuned_correlation"].value == pytest.approx(1.0)
    assert found["tuned_sufficiency_over_random"].low > 0
    assert result.headline == score.name and "the tuned model's attributions" in result.sentence
    assert result.flags == ["unfaithful:base"] and "base" in result.notes[0]
    assert found["base_comprehensiveness_over_random"].low <= 0 < found["base_comprehensiveness_over_random"].high


def test_both_are_flagged_where_both_are_random_and_none_where_none_is():
    assert finding()(explanation(0.0), explanation(0.0, seed=2)).flags == ["unfaithful:base", "unfaithful:tuned"]
    faithful = finding()(explanation(1.0), explanation(1.0, seed=2))
    assert faithful.flags == [] == faithful.notes


def test_an_importance_that_is_upside_down_is_less_than_random():
    upside_down = explanation(1.0)
    for u in upside_down.units.values():
        for name in ("removed_OF", "kept_OF", "removed_log_OF", "kept_log_OF"):
            u.arrays[name][:2] = u.arrays[name][:2].flip(0)
        u.arrays["importance_MP"].neg_()
    result = finding()(upside_down, upside_down)
    assert named(result)["tuned_comprehensiveness_over_random"].high < 0 and "less than" in result.sentence
    assert named(result)["tuned_correlation"].value == pytest.approx(-1.0) and len(result.flags) == 2


@pytest.mark.long
def test_random_importance_passes_as_rarely_as_its_interval_says():
    """Under the null the interval lies above 0 in 2.5 % of cases: 200 of them, at most 12 (p = 0.003 for more)."""
    passed = rejected = 0
    for seed in range(100):
        found = named(finding(200)(explanation(0.0, 20, seed=2 * seed), explanation(0.0, 20, seed=2 * seed + 1)))
        for model in ("base", "tuned"):
            score = found[f"{model}_comprehensiveness_over_random"]
            passed += score.low > 0
            rejected += score.p <= 0.05
    assert passed <= 12
    assert 2 <= rejected <= 20  # of 10 expected


def test_tables_hold_every_method_with_n_and_holm():
    result = finding()(explanation(0.0), explanation(1.0, seed=1))
    methods = result.tables["methods"]
    assert len(methods) == 6 and (methods["n"] == 30).all()
    assert (methods["Holm p"] >= methods["sign-flip p, two-sided"]).all()
    curves = result.tables["curves"]
    assert len(curves) == 2 * 2 * 3 * len(FRACTIONS)
    masked = curves[(curves["order"] == "most important first, tuned") & (curves["tokens"] == "masked")]
    assert masked["probability"].is_monotonic_decreasing
    assert [figure.name for figure in result.figures] == ["curves_masked", "curves_alone_left"]
    assert set(result.tables["prompts"]["model"]) == {"base", "tuned"}


def test_nothing_to_check_is_said_as_such():
    empty = Explanation({}, {}, {})
    result = finding()(empty, empty)
    assert all((score.value, score.n) == (0.0, 0) for score in result.scores)
    assert "No prompt has a response" in result.sentence and result.flags == []


def test_a_constant_importance_has_no_correlation():
    flat = explanation(0.0, 3)
    for u in flat.units.values():
        u.arrays["importance_MP"].fill_(0.0)
    assert named(finding()(flat, flat))["tuned_correlation"].n == 0
