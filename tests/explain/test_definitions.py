"""The definitions of importance are their formulas, and stand in the store beside gradient times input."""

import pytest
import torch

from shiftbench import ops
from shiftbench.config.composition import packaged
from shiftbench.config.instantiation import instantiate as from_configuration
from shiftbench.contracts.explainer import Inputs
from shiftbench.errors import InputError
from shiftbench.explain.attribution import Attribution
from shiftbench.explain.importance import (
    Definition,
    Options,
    importance,
    importance_by,
    integrated_gradients,
    log_probabilities,
    occlusion,
    total_importance,
)
from shiftbench.models import wrap
from tests import reference
from tests.explain.test_attribution import ANSWER, encoded
from tests.tiny import ARCHITECTURES, tiny_module, tiny_tokenizer

STEPS = 3
METHODS = [definition.value for definition in Definition]


@pytest.fixture(params=ARCHITECTURES)
def any64(request):
    with wrap(tiny_module(request.param).double(), tiny_tokenizer()) as model:
        yield model


def asked(model, prefix=(0,)):
    prompt = encoded(model, "Explain the answer now. Input: words", prefix)
    return prompt, prompt.response_ids(model.tokenizer, ANSWER)[:4]


def unknown(model):
    """The same model with a layer that the engine does not know."""
    model.module.get_submodule("model.layers.0.mlp.up_proj").__class__ = type("Quantised", (torch.nn.Linear,), {})
    model.__dict__.pop("transformer_or_reason", None)
    assert model.transformer_or_reason[0] is None
    return model


def close(found, wanted):
    return torch.allclose(found, wanted, rtol=1e-8, atol=1e-11 * float(wanted.abs().max()))


def test_occlusion_is_the_fall_where_a_token_is_zero(any64):
    prompt, response = asked(any64)
    found_PR, probability_R = occlusion(any64, prompt, response, 64)
    wanted_PR = reference.occlusion(any64.module, prompt.prefix_ids, prompt.prompt_ids, response)
    assert torch.allclose(found_PR, wanted_PR, rtol=1e-7, atol=1e-13)
    assert torch.allclose(probability_R, importance(any64, prompt, response, 64)[1])


def test_integrated_gradients_are_the_mean_along_the_path(any64):
    prompt, response = asked(any64)
    found_PR, probability_R, _ = integrated_gradients(any64, prompt, response, 64, Options(STEPS))
    wanted_PR = reference.integrated_gradients(any64.module, prompt.prefix_ids, prompt.prompt_ids, response, STEPS)
    assert close(found_PR, wanted_PR)
    assert torch.allclose(probability_R, importance(any64, prompt, response, 64)[1])


def test_totals_are_sums_over_the_response(any64):
    prompt, response = asked(any64)
    for definition in Definition:
        wanted_PR = importance_by(definition, Options(STEPS), any64, prompt, response, 64)[0]
        assert close(total_importance(definition, Options(STEPS), any64, prompt, response, 64), wanted_PR.sum(1))


def test_what_the_engine_does_not_know_goes_by_the_module(llama):
    prompt, response = asked(llama)
    ways = [
        *(lambda d=d: importance_by(d, Options(STEPS), llama, prompt, response, 64)[0] for d in Definition),
        *(lambda d=d: total_importance(d, Options(STEPS), llama, prompt, response, 64) for d in Definition),
    ]
    wanted = [way() for way in ways]
    unknown(llama)
    for way, values in zip(ways, wanted, strict=True):
        assert float((way() - values).abs().max() / values.abs().max()) < 1e-3


def test_integrated_gradients_sum_to_what_the_prompt_adds():
    """Completeness: with more steps the sum comes to p less p where the prompt's embeddings are zero.

    On a model whose norms are smooth near zero (a large epsilon); where they are not, docs/controls.md says so.
    """
    with wrap(tiny_module("llama", rms_norm_eps=1.0).double(), tiny_tokenizer()) as model:
        prompt, response = asked(model)
        count = len(prompt.prompt_ids)
        both_BP = torch.stack([torch.zeros(count, dtype=torch.bool), torch.ones(count, dtype=torch.bool)])
        full_R, none_R = log_probabilities(model, prompt, response, both_BP, 64).exp()
        error = []
        for steps in (1, 4, 16):
            found_PR, _, completeness = integrated_gradients(model, prompt, response, 64, Options(steps))
            off_R = (found_PR.sum(0) - (full_R - none_R)).abs()
            error.append(float(off_R.max() / (full_R - none_R).abs().max()))
            assert completeness.error == pytest.approx(float(off_R.sum() / (full_R - none_R).abs().sum()), rel=1e-6)
            assert completeness.points == steps
    assert error[2] < 0.01 and error[2] < error[1] / 8 < error[0] / 64  # the midpoint rule's second order


def test_gradient_times_input_is_occlusion_at_first_order(llama64):
    """Of an embedding that is made smaller by a thousandth instead of by all: the definition that is approximated."""
    prompt, response = asked(llama64, ())
    importance_PR, _ = importance(llama64, prompt, response, 64)
    module, token = llama64.module, 2
    ids = torch.tensor([[*prompt.prompt_ids, *response]])
    with torch.no_grad(), reference.in_one_dtype(module):
        embedding = module.get_input_embeddings()(ids).clone()
        embedding[0, token] *= 1 - 1e-5
        probability = module(inputs_embeds=embedding).logits[0].softmax(-1)
    count = len(prompt.prompt_ids)
    after_R = torch.stack([probability[count - 1 + r, y] for r, y in enumerate(response)])
    before_R = importance(llama64, prompt, response, 64)[1]
    assert torch.allclose((before_R - after_R) / 1e-5, importance_PR[token], rtol=1e-2, atol=1e-6)


def test_the_key_says_the_definition_but_not_the_default(llama):
    prompt, response = asked(llama)
    inputs = Inputs([(prompt, response)], None, None)

    def key(by, steps=32):
        return Attribution(10, 4, "float32", by, steps).work(llama, inputs)[0].key

    plain = Attribution(10, 4, "float32").work(llama, inputs)[0]
    assert plain.content["options"] == {"levels": 10} and key("grad_x_input", 7) == plain.key
    assert len({key(by) for by in METHODS}) == len(METHODS)
    assert key("occlusion", 7) == key("occlusion") and key("integrated_gradients", 7) != key("integrated_gradients")


@pytest.mark.parametrize("by", METHODS[1:])
def test_a_unit_holds_the_levels_of_its_definition(llama, by):
    prompt, response = asked(llama)
    (work,) = Attribution(10, 4, "float32", by, STEPS).work(llama, Inputs([(prompt, response)], None, None))
    arrays = work.compute().arrays
    wanted_PR, probability_R, _ = importance_by(Definition(by), Options(STEPS), llama, prompt, response, 4)
    assert torch.equal(arrays["level_PR"], ops.importance_levels(wanted_PR, 10))
    assert torch.allclose(arrays["probability_R"], importance(llama, prompt, response, 4)[1], rtol=1e-5)
    assert torch.equal(arrays["probability_R"], probability_R)
    assert ("path_error_1" in arrays) == ("path_points_1" in arrays) == (by == "integrated_gradients")
    assert arrays["level_PR"].shape == (len(prompt.prompt_ids), len(response))
    assert Attribution(10, 4, "float32", by).work(llama, Inputs([(prompt, ())], None, None))[0].compute()


def test_the_configuration_chooses_it():
    method = from_configuration(packaged("explain/attribution"))
    assert method == Attribution(10, None, "float32", "auto", 32) and method.is_open


def test_what_does_not_exist_is_refused():
    with pytest.raises(InputError, match=r"method='lime'.*grad_x_input, .*contrast, .*integrated_gradients, occlusion"):
        Attribution(10, 4, "float32", "lime")
    with pytest.raises(InputError, match="steps=0"):
        Attribution(10, 4, "float32", "integrated_gradients", 0)
    with pytest.raises(
        InputError, match=r"precision=bfloat16 is that of derivatives, and method=occlusion computes none"
    ):
        Attribution(10, 4, "bfloat16", "occlusion")


@pytest.mark.parametrize("by", METHODS)
def test_what_is_not_finite_is_an_error(llama, by):
    with torch.no_grad():
        llama.module.model.norm.weight.fill_(float("inf"))
    prompt, response = asked(llama)
    (work,) = Attribution(10, 4, "float32", by, 1).work(llama, Inputs([(prompt, response)], None, None))
    with pytest.raises(InputError, match=r"not finite.*prompt 'p'"):
        work.compute()
