"""Masks are what they are called, on every architecture, by the engine and by the module's own pass."""

import dataclasses
import math

import pytest
import torch

from shiftbench.contracts.explainer import Inputs
from shiftbench.errors import InputError
from shiftbench.explain.attribution import Attribution
from shiftbench.explain.importance import log_probabilities, occlusion
from shiftbench.explain.masks import Mask, Masking, mask_named, mean_embedding, ordinary_tokens
from shiftbench.models import wrap
from shiftbench.prompts import Prompt, encode
from tests import reference
from tests.explain.test_definitions import any64, asked, unknown  # noqa: F401
from tests.tiny import tiny_module, tiny_tokenizer

REPLACING = [mask for mask in Mask if mask is not Mask.DELETE]


def usable(model, mask):
    """The model, with a tokenizer that has the token of the mask."""
    if mask is Mask.PAD and model.tokenizer.pad_token_id is None:
        model.tokenizer.pad_token = model.tokenizer.convert_ids_to_tokens(3)
    if mask is Mask.SPACE and len(model.tokenizer(" ", add_special_tokens=False)["input_ids"]) != 1:
        pytest.skip("the tiny tokenizer spells a space with several tokens")
    return model


def one_token_each(model, prompt, response, replacements):
    """The fall of p_r where token n gets each of the replacements, by one pass of the module for each; averaged."""
    given = (model.module, prompt.prefix_ids, prompt.prompt_ids, response)
    none_P = torch.zeros(len(prompt.prompt_ids), dtype=torch.bool)
    full_R = reference.masked_log_probability(*given, none_P).exp()
    rows = []
    for n in range(len(none_P)):
        one_P = none_P.clone()
        one_P[n] = True
        if replacements == [None]:
            q_R = reference.deleted_log_probability(*given, one_P).exp()
        else:
            each = [reference.masked_log_probability(*given, one_P, replacement_PD=r).exp() for r in replacements]
            q_R = torch.stack(each).mean(0)
        rows.append(full_R - q_R)
    return torch.stack(rows)


@pytest.mark.parametrize("mask", list(Mask), ids=lambda mask: mask.value)
def test_occlusion_is_the_fall_under_each_mask(any64, mask):  # noqa: F811
    model, masking = usable(any64, mask), Masking(mask, draws=2, seed=5)
    prompt, response = asked(model)
    found_PR, _ = occlusion(model, prompt, response, 64, masking=masking)
    wanted_PR = one_token_each(model, prompt, response, masking.replacements(model, prompt))
    assert torch.allclose(found_PR, wanted_PR, rtol=1e-7, atol=1e-13)


@pytest.mark.parametrize("mask", list(Mask), ids=lambda mask: mask.value)
def test_what_the_engine_does_not_know_goes_by_the_module(llama, mask):
    model, masking = usable(llama, mask), Masking(mask, draws=2)
    prompt, response = asked(model)
    wanted_PR, _ = occlusion(model, prompt, response, 64, masking=masking)
    found_PR, _ = occlusion(unknown(model), prompt, response, 64, masking=masking)
    assert float((found_PR - wanted_PR).abs().max() / wanted_PR.abs().max()) < 1e-3


def test_the_mean_is_the_vocabularys(llama64):
    weight_VD = llama64.module.get_input_embeddings().weight
    assert torch.allclose(mean_embedding(llama64), weight_VD.mean(0), rtol=1e-12, atol=1e-15)


def test_resampled_tokens_are_ordinary_and_depend_on_seed_and_prompt(llama64):
    prompt, _ = asked(llama64)
    drawn = Masking(Mask.RESAMPLE, 3, 1).replacements(llama64, prompt)
    assert len(drawn) == 3 and not torch.equal(drawn[0], drawn[1])
    again = Masking(Mask.RESAMPLE, 3, 1).replacements(llama64, prompt)
    assert all(torch.equal(one, other) for one, other in zip(drawn, again, strict=True))
    assert not torch.equal(drawn[0], Masking(Mask.RESAMPLE, 3, 2).replacements(llama64, prompt)[0])
    ordinary_VD = llama64.module.get_input_embeddings().weight[ordinary_tokens(llama64)]
    assert all((ordinary_VD == row_D).all(1).any() for one in drawn for row_D in one)
    assert not set(ordinary_tokens(llama64).tolist()) & set(llama64.tokenizer.all_special_ids)


def test_the_log_of_the_mean_probability_over_draws(llama64):
    prompt, response = asked(llama64)
    all_1P = torch.ones(1, len(prompt.prompt_ids), dtype=torch.bool)
    masking = Masking(Mask.RESAMPLE, 2)
    given = (llama64.module, prompt.prefix_ids, prompt.prompt_ids, response, all_1P[0])
    drawn = masking.replacements(llama64, prompt)
    single = [reference.masked_log_probability(*given, replacement_PD=one) for one in drawn]
    wanted_R = torch.stack(single).logsumexp(0) - math.log(2)
    assert torch.allclose(log_probabilities(llama64, prompt, response, all_1P, 64, masking)[0], wanted_R, rtol=1e-9)


def test_the_key_names_the_mask_but_not_zero(llama):
    prompt, response = asked(llama)
    inputs = Inputs([(prompt, response)], None, None)

    def options(by, masking):
        work = Attribution(10, 4, "float32", by, 32, masking).work(llama, inputs)[0]
        return {name: value for name, value in work.content["options"].items() if name.startswith("mask")}

    assert options("occlusion", Masking(Mask.ZERO, 5, 6)) == {}
    assert options("occlusion", Masking(Mask.MEAN, 5, 6)) == {"mask": "mean"}
    assert options("grad_x_input", Masking(Mask.MEAN)) == {}
    assert options("occlusion", Masking(Mask.RESAMPLE, 5, 6)) == {"mask": "resample", "mask_draws": 5, "mask_seed": 6}


def test_masks_that_cannot_be_used(llama):
    with pytest.raises(InputError, match="mask='x' is not known; choose from zero, mean, pad, space, resample, delete"):
        mask_named("attribution: mask", "x")
    with pytest.raises(InputError, match="draws"):
        Masking(Mask.RESAMPLE, 0)
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = None
    with wrap(tiny_module("llama"), tokenizer) as model:
        prompt, response = asked(model)
        with pytest.raises(InputError, match="has no padding token; use mask=mean"):
            Attribution(10, 4, "float32", "occlusion", 32, Masking(Mask.PAD)).work(
                model, Inputs([(prompt, response)], None, None)
            )


def test_a_prompt_of_one_token_is_not_deleted(llama):
    prompt = encode(Prompt("p", "a", ((0, 1),)), llama.tokenizer)
    prompt = dataclasses.replace(prompt, prefix_ids=())
    assert len(prompt.prompt_ids) == 1
    method = Attribution(10, 4, "float32", "occlusion", 32, Masking(Mask.DELETE))
    with pytest.raises(InputError, match="is a single token"):
        method.work(llama, Inputs([(prompt, (1, 2))], None, None))
    with pytest.raises(InputError, match="leaves nothing in front of the response"):
        occlusion(llama, prompt, (1, 2), 64, masking=Masking(Mask.DELETE))
