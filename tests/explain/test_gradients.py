"""Definitions by gradients are their formulas, by the engine and by autograd, and their paths begin at any mask."""

import math

import pytest
import torch

from shiftbench import ops
from shiftbench.contracts.explainer import Inputs
from shiftbench.engine.probability import Objective, objective_gradient
from shiftbench.errors import InputError
from shiftbench.explain.attribution import Attribution
from shiftbench.explain.gradients import adaptive, completeness_error, fejer_point
from shiftbench.explain.importance import (
    Definition,
    Options,
    importance,
    importance_by,
    integrated_gradients,
    log_probabilities,
    smooth_gradients,
    total_importance,
)
from shiftbench.explain.keys import prompt_draws
from shiftbench.explain.masks import Mask, Masking, embedding_size
from shiftbench.explain.methods import method_named
from shiftbench.models import wrap
from tests import reference
from tests.explain.test_definitions import any64, asked, close, unknown  # noqa: F401
from tests.explain.test_masks import usable
from tests.tiny import ARCHITECTURES, tiny_module, tiny_tokenizer

OBJECTIVES = {Definition.GRAD_X_INPUT_LOG: "log p", Definition.CONTRAST: "contrast"}
STARTS = [mask for mask in Mask if mask is not Mask.DELETE]
MEAN = Masking(Mask.MEAN)
LENGTHS = [2, 12]  # of the response: reverse mode and forward mode


def text(model, length):
    prompt, response = asked(model)
    return prompt, (response * length)[:length]


def given(model, prompt, response):
    return model.module, prompt.prefix_ids, prompt.prompt_ids, response


def noises(model, prompt, noise, draws, seed):
    """The noise of smoothed gradients, as their docstring describes it."""
    generator = prompt_draws(prompt, seed, "noise on embeddings")
    shape = reference.prompt_embeddings(model.module, prompt.prompt_ids).shape
    size = noise * embedding_size(model)
    return [size * torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(draws)]


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("definition", OBJECTIVES)
def test_an_objective_is_its_formula(any64, definition, length):  # noqa: F811
    prompt, response = text(any64, length)
    found_PR, probability_R, path = importance_by(definition, Options(), any64, prompt, response, 64)
    wanted_PR = reference.objective_x_input(*given(any64, prompt, response), OBJECTIVES[definition])
    assert close(found_PR, wanted_PR) and path is None
    assert torch.allclose(probability_R, importance(any64, prompt, response, 64)[1], rtol=1e-12)


@pytest.mark.parametrize("definition", Definition)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_autograd_gives_what_the_engine_gives(architecture, definition):
    with wrap(tiny_module(architecture).double(), tiny_tokenizer()) as model:
        prompt, response = asked(model)
        options = Options(3, MEAN)
        ways = [
            lambda: importance_by(definition, options, model, prompt, response, 64)[0],
            lambda: total_importance(definition, options, model, prompt, response, 64),
        ]
        wanted = [way() for way in ways]
        model.__dict__["transformer_or_reason"] = (None, "by test")
        with reference.in_one_dtype(model.module):
            for way, values in zip(ways, wanted, strict=True):
                assert close(way(), values)


def test_the_gradient_of_log_p_is_that_of_p_over_p(llama64):
    prompt, response = asked(llama64)
    plain_PR, probability_R = importance(llama64, prompt, response, 64)
    log_PR = importance_by(Definition.GRAD_X_INPUT_LOG, Options(), llama64, prompt, response, 64)[0]
    assert close(log_PR, plain_PR / probability_R)
    assert torch.equal(ops.importance_levels(log_PR, 10), ops.importance_levels(plain_PR * 1e6, 10))


@pytest.mark.parametrize("objective", Objective)
def test_slopes_are_the_derivatives_by_the_logits(objective):
    logit_RV = torch.randn(6, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 3
    logit_RV[0, 4] = 60.0  # p_y of almost 1
    logit_RV[1, 4] = -60.0
    target_R = torch.tensor([4, 4, 0, 8, 3, 5])
    found_RV, probability_R = objective_gradient(objective, logit_RV, target_R)
    name = {"PROBABILITY": "p", "LOG_PROBABILITY": "log p", "CONTRAST": "contrast"}[objective.name]
    for logit_V, found_V, token, p in zip(logit_RV, found_RV, target_R.tolist(), probability_R, strict=True):
        leaf_V = logit_V.clone().requires_grad_(True)
        probability_V = leaf_V.softmax(-1)
        (wanted_V,) = torch.autograd.grad(reference.number_of(name, probability_V, token), leaf_V)
        assert torch.allclose(found_V, wanted_V, rtol=1e-9, atol=1e-15)
        assert float(p) == float(probability_V[token].detach())


def test_where_p_is_zero_the_gradient_of_its_logarithm_is_not():
    logit_RV = torch.tensor([[0.0, 1.0, -2000.0]])
    found_RV, probability_R = objective_gradient(Objective.LOG_PROBABILITY, logit_RV, torch.tensor([2]))
    assert float(probability_R) == 0
    assert torch.allclose(found_RV, torch.tensor([[-1 / (1 + math.e), -math.e / (1 + math.e), 1.0]]))


@pytest.mark.parametrize("length", LENGTHS)
def test_smooth_gradients_are_the_mean_over_noise(any64, length):  # noqa: F811
    prompt, response = text(any64, length)
    options = Options(masking=Masking(Mask.ZERO, draws=2, seed=7), noise=0.2)
    found_PR, probability_R = smooth_gradients(any64, prompt, response, 64, options)
    wanted_PR = reference.smooth_gradients(*given(any64, prompt, response), noises(any64, prompt, 0.2, 2, 7))
    assert close(found_PR, wanted_PR)
    assert torch.allclose(probability_R, importance(any64, prompt, response, 64)[1], rtol=1e-9)


def test_the_noise_is_a_share_of_the_embeddings_size(llama64):
    weight_VD = llama64.module.get_input_embeddings().weight
    assert embedding_size(llama64) == pytest.approx(float(weight_VD.square().mean().sqrt()), rel=1e-12)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("mask", STARTS, ids=lambda mask: mask.value)
def test_a_path_begins_at_the_masked_prompt(any64, mask, length):  # noqa: F811
    model, masking = usable(any64, mask), Masking(mask, draws=2, seed=5)
    prompt, response = text(model, length)
    found_PR, _, path = integrated_gradients(model, prompt, response, 64, Options(3, masking))
    starts = masking.replacements(model, prompt)
    each = [reference.integrated_gradients(*given(model, prompt, response), 3, start_PD) for start_PD in starts]
    assert close(found_PR, sum(each) / len(each)) and path.points == 3
    all_1P = torch.ones(1, len(prompt.prompt_ids), dtype=torch.bool)
    start_R = log_probabilities(model, prompt, response, all_1P, 64, masking)[0].exp()
    added_R = importance(model, prompt, response, 64)[1] - start_R
    off_R = (found_PR.sum(0) - added_R).abs()
    assert path.error == pytest.approx(float(off_R.sum() / added_R.abs().sum()), rel=1e-6)


@pytest.mark.parametrize("count", [2, 4, 8, 32])
def test_the_rule_is_exact_for_polynomials_of_its_degree(count):
    points = [fejer_point(k, count) for k in range(1, count)]
    assert all(0 < share < 1 and weight > 0 for share, weight in points)
    for degree in range(count - 1):
        assert sum(weight * share**degree for share, weight in points) == pytest.approx(1 / (degree + 1), rel=1e-12)


def test_points_of_a_rule_are_points_of_the_next_one():
    for count in (2, 4, 8, 16):
        for k in range(1, count):
            assert fejer_point(k, count)[0] == pytest.approx(fejer_point(2 * k, 2 * count)[0], abs=1e-15)


@pytest.mark.parametrize(("steps", "points"), [(1, 1), (2, 1), (3, 3), (6, 3), (7, 7), (30, 15), (31, 31), (64, 63)])
def test_no_more_points_than_steps_and_none_twice(steps, points):
    seen = []

    def along(share):
        seen.append(share)
        return torch.tensor([share * math.exp(8 * share)], dtype=torch.float64)

    _, found = adaptive(along, torch.tensor(0.0), steps, 1e-30)
    assert found == points == len(seen) == len(set(seen))


def test_points_are_added_until_the_sum_is_close_enough():
    def along(share):  # the gradient is 1 / (share + 1 / 20)
        return torch.tensor([share / (share + 0.05)], dtype=torch.float64)

    wanted, errors = torch.tensor(math.log(21), dtype=torch.float64), []
    for tolerance, points in ((0.5, 7), (1e-3, 15), (1e-9, 63)):
        integral, found = adaptive(along, wanted, 64, tolerance)
        errors.append(completeness_error(integral, wanted))
        assert found == points and errors[-1] <= tolerance
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_adaptive_rule_is_its_formula_and_reaches_its_tolerance(architecture):
    with wrap(tiny_module(architecture).double(), tiny_tokenizer()) as model:
        prompt, response = asked(model)
        found_PR, _, path = integrated_gradients(model, prompt, response, 64, Options(255, MEAN, tolerance=1e-3))
        assert path.error <= 1e-3 and path.points in (7, 15, 31, 63, 127, 255)
        points = [fejer_point(k, path.points + 1) for k in range(1, path.points + 1)]
        (start_PD,) = MEAN.replacements(model, prompt)
        assert close(found_PR, reference.integral(*given(model, prompt, response), points, start_PD))
        total_P = total_importance(
            Definition.INTEGRATED_GRADIENTS, Options(255, MEAN, tolerance=1e-3), model, prompt, response, 64
        )
        assert float((total_P - found_PR.sum(1)).abs().max() / total_P.abs().max()) < 0.02


def test_keys_have_the_options_that_are_used(llama):
    prompt, response = asked(llama)

    def options(by, masking=Masking(Mask.RESAMPLE, 5, 6), tolerance=0.05, noise=0.3):  # noqa: B008
        explainer = Attribution(10, 4, "float32", by, 9, masking, tolerance, noise)
        return explainer.work(llama, Inputs([(prompt, response)], None, None))[0].content["options"]

    drawn = {"mask": "resample", "mask_draws": 5, "mask_seed": 6}
    assert options("grad_x_input") == {"levels": 10}
    for by in ("grad_x_input_log", "contrast"):
        assert options(by) == {"levels": 10, "method": by}
    path = {"levels": 10, "method": "integrated_gradients", "steps": 9}
    assert options("integrated_gradients", Masking(Mask.ZERO), None) == path
    assert options("integrated_gradients", MEAN, None) == {**path, "mask": "mean"}
    assert options("integrated_gradients") == {**path, **drawn, "tolerance": 0.05}
    noise = {"noise": 0.3, "noise_draws": 5, "noise_seed": 6}
    assert options("smooth_gradients") == {"levels": 10, "method": "smooth_gradients", **noise}


def test_a_note_has_the_error_that_remains(llama):
    prompt, response = asked(llama)
    explainer = Attribution(10, 4, "float32", "integrated_gradients", 15, MEAN, 1e-30)
    stored = explainer.work(llama, Inputs([(prompt, response), (prompt, ())], None, None))
    assert "all came from the store, so how well they sum" in explainer.notes()[0]
    assert stored[1].compute().arrays["path_points_1"].tolist() == [0.0]
    assert "only prompts with empty responses were computed" in explainer.notes()[0]
    arrays = stored[0].compute().arrays
    assert arrays["path_error_1"].dtype == arrays["path_points_1"].dtype == torch.float32
    assert arrays["path_points_1"].tolist() == [15.0]
    (note,) = explainer.notes()
    error = f"{float(arrays['path_error_1']):.1e}"
    assert f"at most 15 points on a path. On 1 prompts their sum is off by {error} (median) and {error} (worst)" in note
    assert "On 1 of them the error is above the tolerance of 1e-30." in note
    assert Attribution(10, 4, "float32").notes() == []


def test_what_cannot_be_is_refused(llama):
    message = "mask=delete leaves no embeddings at which the path of method=integrated_gradients could begin.*mask=mean"
    deleted = Masking(Mask.DELETE)
    prompt, response = asked(llama)
    with pytest.raises(InputError, match=message):
        Attribution(10, 4, "float32", "integrated_gradients", 3, deleted)
    with pytest.raises(InputError, match=message):
        total_importance(Definition.INTEGRATED_GRADIENTS, Options(3, deleted), llama, prompt, response, 4)
    for option, value in (("noise", 0), ("noise", None), ("tolerance", 0), ("tolerance", "x"), ("noise", math.inf)):
        with pytest.raises(InputError, match=f"attribution: {option}="):
            Attribution(10, 4, "float32", **{option: value})
    unpadded = tiny_tokenizer()
    unpadded.pad_token = None
    with wrap(tiny_module("llama"), unpadded) as model, pytest.raises(InputError, match="has no padding token"):
        Attribution(10, 4, "float32", "integrated_gradients", 3, Masking(Mask.PAD)).check_model(model)


def test_a_path_is_named_with_its_mask():
    options = Options(4, Masking(Mask.ZERO, 1, 0))
    named = method_named("methods", "integrated_gradients:mean", options)
    assert named.options == Options(4, Masking(Mask.MEAN, 1, 0)) and named.name == "integrated_gradients:mean"
    assert named.options.content(named.definition) == {"steps": 4, "mask": "mean"}
    with pytest.raises(InputError, match="mask=delete leaves no embeddings"):
        method_named("methods", "integrated_gradients:delete", options)
    with pytest.raises(InputError, match="contrast uses no mask; write contrast"):
        method_named("methods", "contrast:mean", options)


def test_operations_are_counted_for_each_gradient():
    from tests.pipeline.test_estimate import LARGE

    def flops(by, masking=MEAN):
        return Attribution(10, 4, "float32", by, 9, masking).flops(LARGE, [100], 150)

    drawn = Masking(Mask.RESAMPLE, 5)
    assert flops("contrast") == flops("grad_x_input_log") == flops("grad_x_input")
    assert flops("integrated_gradients") == 9 * flops("grad_x_input")
    assert flops("integrated_gradients", drawn) == 45 * flops("grad_x_input")
    assert flops("smooth_gradients", drawn) == 5 * flops("grad_x_input")
