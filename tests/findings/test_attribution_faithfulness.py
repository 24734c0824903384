"""The check sees planted faithfulness, and calls what is random random as often as it should."""

import numpy as np
import pytest
import torch

from shiftbench.explain.faithfulness import BASELINES, Faithfulness
from shiftbench.findings.attribution_faithfulness import AttributionFaithfulness, needed_prompts
from shiftbench.stats import Bootstrap
from shiftbench.store.explanation import Explanation, Unit

TOKENS = 20
FRACTIONS = (0.1, 0.5)
DRAWS = 3
METHODS = ("grad_x_input", "occlusion:mean")
KINDS = ["mean", "delete"]


def finding(resamples=1000, methods=METHODS):
    explain = Faithfulness(list(methods), KINDS, 8, 3, 1, list(FRACTIONS), DRAWS, None, None, 0, None)
    return AttributionFaithfulness(explain, Bootstrap(resamples, 0.95, 0))


def unit(generator, *truths):
    """A prompt whose token n adds weight_n to the probability, under every mask.

    truths: one for each of METHODS; the method's importance is that many parts the weight, and the rest noise.
    """

    def drawn():
        weight_P = torch.rand(TOKENS, generator=generator) ** 3
        return 0.5 * weight_P / weight_P.sum()

    weight_P = drawn()
    importance_MP = torch.stack([truth * weight_P + (1 - truth) * drawn() for truth in truths])
    others = [torch.randperm(TOKENS, generator=generator) for _ in range(len(BASELINES) + DRAWS)]
    orders = [*importance_MP.argsort(dim=1, descending=True), *others]
    count = [round(fraction * TOKENS) for fraction in FRACTIONS]
    removed_OF = torch.stack([torch.stack([0.6 - weight_P[o[:k]].sum() for k in count]) for o in orders])
    kept_OF = torch.stack([torch.stack([0.1 + weight_P[o[:k]].sum() for k in count]) for o in orders])
    both = {"removed_KOF": removed_OF, "removed_log_KOF": removed_OF.log(), "kept_KOF": kept_OF}
    both |= {"kept_log_KOF": kept_OF.log(), "change_KJ": weight_P}
    arrays = {
        "full_2": torch.tensor([0.6, float(np.log(0.6))]),
        **{name: torch.stack([array] * len(KINDS)) for name, array in both.items()},
        "token_J": torch.arange(TOKENS), "importance_MP": importance_MP,
    }  # fmt: skip
    names = [*METHODS, *BASELINES, *(f"random {i + 1}" for i in range(DRAWS))]
    return Unit(arrays, {"orders": names, "methods": list(METHODS), "perturbations": KINDS})


def explanation(*truths, count=30, seed=0):
    """truths: one for each of METHODS, or one for all."""
    generator = torch.Generator().manual_seed(seed)
    truths = truths if len(truths) > 1 else truths * len(METHODS)
    return Explanation({f"p{i}": unit(generator, *truths) for i in range(count)}, {}, {})


def named(result):
    return {score.name: score for score in result.scores}


def test_planted_faithfulness_is_found_and_its_size_is_the_formulas():
    base, tuned = explanation(0.0), explanation(1.0, seed=1)
    result = finding()(base, tuned)
    found = named(result)
    score = found["tuned_comprehensiveness_over_random"]
    by_prompt = []
    for u in tuned.units.values():
        removed_OF = u.arrays["removed_KOF"][0].double()
        by_prompt.append(float((0.6 - removed_OF[0]).mean() - (0.6 - removed_OF[-DRAWS:]).mean()))
    assert score.value == pytest.approx(np.mean(by_prompt), abs=1e-6) and score.n == 30
    assert 0 < score.low < score.value < score.high and score.p < 1e-3
    assert found["tuned_comprehensiveness_over_baselines"].low > 0
    assert found["tuned_correlation"].value == pytest.approx(1.0)
    assert found["tuned_sufficiency_over_random"].low > 0
    assert result.headline == score.name and "in tuned alone" in result.sentence
    assert result.flags == ["unfaithful:base"] and "base" in result.notes[0]
    assert result.unfaithful == {name: ["base"] for name in METHODS}


def test_both_are_flagged_where_both_are_random_and_none_where_none_is():
    assert finding()(explanation(0.0), explanation(0.0, seed=2)).flags == ["unfaithful:base", "unfaithful:tuned"]
    faithful = finding()(explanation(1.0), explanation(1.0, seed=2))
    assert faithful.flags == [] == faithful.notes and "in both models" in faithful.sentence


@pytest.mark.parametrize(
    ("base", "tuned", "chosen", "flags"),
    [
        ((1.0, 1.0), (1.0, 1.0), "grad_x_input", []),
        ((0.0, 1.0), (1.0, 1.0), "occlusion:mean", []),
        ((1.0, 1.0), (0.0, 1.0), "occlusion:mean", []),
        ((1.0, 0.0), (1.0, 1.0), "grad_x_input", []),
        ((0.0, 1.0), (0.0, 0.0), "occlusion:mean", ["unfaithful:tuned"]),
    ],
    ids=str,
)
def test_the_cheapest_method_that_is_faithful_in_both_is_chosen(base, tuned, chosen, flags):
    result = finding()(explanation(*base), explanation(*tuned, seed=3))
    assert (result.chosen_method, result.flags) == (chosen, flags)
    choice = result.tables["choice"].set_index("method")
    assert list(choice.index) == list(METHODS) and choice.loc[chosen, "chosen"] == "yes"
    for name, side in (("base", base), ("tuned", tuned)):
        assert list(choice[f"faithful in {name}"]) == ["yes" if truth else "no" for truth in side]


def test_a_method_that_a_baseline_equals_is_not_faithful():
    """It beats random orders, but the longest tokens first do as well."""
    both = explanation(1.0)
    for u in both.units.values():
        for name in ("removed_KOF", "kept_KOF", "removed_log_KOF", "kept_log_KOF"):
            place = u.words["orders"].index("longest first")
            u.arrays[name][:, place] = u.arrays[name][:, 0]
    result = finding()(both, both)
    assert named(result)["tuned_comprehensiveness_over_random"].low > 0
    assert named(result)["tuned_comprehensiveness_over_baselines"].value == 0.0
    assert result.flags == ["unfaithful:base", "unfaithful:tuned"] and "longest first" in result.notes[0]


def test_its_own_mask_judges_no_method():
    """Right under the mean and upside down under deletion: occlusion by the mean is judged by deletion alone."""
    both = explanation(1.0)
    for u in both.units.values():
        for name in ("removed_KOF", "removed_log_KOF"):
            u.arrays[name][1, :2] = u.arrays["full_2"][0]  # masking its tokens changes nothing
    result = finding(methods=METHODS)(both, both)
    assert result.unfaithful["occlusion:mean"] == ["base", "tuned"]
    own = result.tables["methods"].query("method == 'occlusion:mean' and mask == 'mean'")
    assert (own["method's own"] == "yes").all() and own["low"].max() > 0


def test_an_importance_that_is_upside_down_is_less_than_random():
    upside_down = explanation(1.0)
    for u in upside_down.units.values():
        for name in ("removed_KOF", "removed_log_KOF"):
            u.arrays[name][:, : len(METHODS)] = 0.6
        u.arrays["importance_MP"].neg_()
    result = finding()(upside_down, upside_down)
    assert named(result)["tuned_comprehensiveness_over_random"].high < 0 and "in neither model" in result.sentence
    assert named(result)["tuned_correlation"].value == pytest.approx(-1.0) and len(result.flags) == 2


@pytest.mark.long
def test_random_importance_passes_more_rarely_than_its_interval_says():
    """Under the null one interval lies above 0 in 2.5% of cases; all that decide must, so at most 6 of 100 pass."""
    passed = above = 0
    for seed in range(50):
        sides = {
            model: explanation(0.0, count=20, seed=2 * seed + place).units
            for place, model in enumerate(("base", "tuned"))
        }
        check = finding(200)
        rows = check._rows(list(sides["base"]), sides)
        for model in sides:
            passed += check._faithful(rows, "grad_x_input", model).is_faithful
            values = rows.query("method == 'grad_x_input' and perturbation == 'mean' and model == @model")
            above += check.bootstrap.mean(values["comprehensiveness_over_random"]).low > 0
    assert passed <= 6 and passed <= above <= 9  # 2.5 expected above 0; 9 and more in fewer than one of 1,000 cases


def test_the_prompts_needed_are_those_of_the_normal_approximation():
    values = np.random.default_rng(0).normal(0.5, 1.0, 200)
    wanted = ((1.96 + 0.84) * values.std(ddof=1) / values.mean()) ** 2
    assert needed_prompts(values) == np.ceil(wanted) and np.isnan(needed_prompts([1.0]))


def test_tables_hold_every_method_with_n_and_holm():
    result = finding()(explanation(0.0), explanation(1.0, seed=1))
    methods = result.tables["methods"]
    quantities = 1 + len(BASELINES) + 2
    assert len(methods) == len(METHODS) * 2 * len(KINDS) * quantities and (methods["n"] == 30).all()
    assert (methods["Holm p"] >= methods["sign-flip p, two-sided"]).all()
    curves = result.tables["curves"]
    assert len(curves) == 2 * len(KINDS) * 2 * (2 + len(BASELINES)) * len(FRACTIONS)
    masked = curves[(curves["order"] == "most important first, tuned") & (curves["tokens"] == "masked")]
    assert masked[masked["mask"] == "mean"]["probability"].is_monotonic_decreasing
    assert [figure.name for figure in result.figures] == [
        f"curves_{tokens}_{kind}" for kind in KINDS for tokens in ("masked", "alone_left")
    ]
    assert set(result.tables["prompts"]["model"]) == {"base", "tuned"}


def test_nothing_to_check_is_said_as_such():
    empty = Explanation({}, {}, {})
    result = finding()(empty, empty)
    assert all((score.value, score.n) == (0.0, 0) for score in result.scores)
    assert "No prompt has a response" in result.sentence and result.flags == []
    assert result.chosen_method == METHODS[0]


def test_a_constant_importance_has_no_correlation():
    flat = explanation(0.0, count=3)
    for u in flat.units.values():
        u.arrays["importance_MP"].fill_(0.0)
    assert named(finding()(flat, flat))["tuned_correlation"].n == 0
