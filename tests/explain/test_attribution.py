"""Attribution agrees with one plain backward pass a token, in every architecture, and with what holds by nature."""

from dataclasses import fields

import pytest
import torch

from shiftbench import ops
from shiftbench.contracts.explainer import Inputs
from shiftbench.engine.product import Precision
from shiftbench.errors import InputError
from shiftbench.explain.attribution import Attribution, agreement
from shiftbench.explain.importance import importance, memory_bytes
from shiftbench.models import ModelSource
from shiftbench.prompts import EncodedPrompt, Prompt, encode
from tests import reference

TEXT = "Translate the sentence to French. Input: good morning to all people. Output:"
ANSWER = " The answer is a number and the sea"


def encoded(model, text=TEXT, prefix=()):
    found = encode(Prompt("p", text, ((0, 33),)), model.tokenizer)
    return EncodedPrompt(**{**found.__dict__, "prefix_ids": prefix})


def explained(model, prompt, memory=64):
    return importance(model, prompt, prompt.response_ids(model.tokenizer, ANSWER), memory)


@pytest.mark.parametrize("prefix", [(), (0,)])
def test_it_is_the_gradient_of_the_probability_times_the_embedding(any_model, prefix):
    prompt = encoded(any_model, prefix=prefix)
    importance_PR, probability_R = explained(any_model, prompt)
    response = prompt.response_ids(any_model.tokenizer, ANSWER)
    wanted_PR = reference.importance(any_model.module, prefix, prompt.prompt_ids, response)
    assert importance_PR.shape == (len(prompt.prompt_ids), len(response))
    error_R = (importance_PR - wanted_PR).abs().amax(0) / wanted_PR.abs().amax(0)
    assert float(error_R.max()) < 1e-4
    assert ((probability_R > 0) & (probability_R < 1)).all()


def test_in_float64_the_agreement_is_to_rounding(llama64):
    prompt = encoded(llama64)
    importance_PR, _ = explained(llama64, prompt)
    response = prompt.response_ids(llama64.tokenizer, ANSWER)
    wanted_PR = reference.importance(llama64.module, (), prompt.prompt_ids, response)
    assert importance_PR.dtype == torch.float64
    assert torch.allclose(importance_PR, wanted_PR, rtol=1e-9, atol=1e-12 * float(wanted_PR.abs().max()))


def test_what_the_engine_does_not_know_goes_by_autograd_and_says_why(llama):
    prompt = encoded(llama)
    wanted_PR, _ = explained(llama, prompt)
    with torch.no_grad():
        llama.module.model.layers[0].mlp.up_proj.__class__ = type("Quantised", (torch.nn.Linear,), {})
    del llama.__dict__["transformer_or_reason"]
    assert llama.transformer_or_reason == (None, "it has a Quantised where a plain layer is expected")
    found_PR, _ = explained(llama, prompt)
    assert float((found_PR - wanted_PR).abs().max() / wanted_PR.abs().max()) < 1e-5


def test_a_near_certain_token_keeps_its_gradient(llama64):
    """Through softmax the gradient of a p near 1 cancels in float32; written out, it does not."""
    prompt = encoded(llama64)
    module = llama64.module
    with torch.no_grad():
        state = module.model(torch.tensor([prompt.prompt_ids])).last_hidden_state[0, -1]
        # An output row along the last state makes its token as probable as wanted: logit 14 above the others.
        module.lm_head.weight.mul_(1e-3)
        module.lm_head.weight[7] = 14.0 * state / state.square().sum()
    wide_PR, probability_R = importance(llama64, prompt, (7,), 1)
    assert 0.999 < float(probability_R) < 1.0
    module.to(torch.float32)
    llama64.__dict__.pop("transformer_or_reason")  # views of the weights as they were
    narrow_PR, _ = importance(llama64, prompt, (7,), 1)
    through_softmax_PR = reference.importance(module, (), prompt.prompt_ids, (7,))
    largest = wide_PR.abs().max()
    assert float((narrow_PR - wide_PR).abs().max() / largest) < 1e-4
    assert float((narrow_PR - wide_PR).abs().max()) < float((through_softmax_PR - wide_PR).abs().max())


def test_chunks_and_reruns_give_the_same_levels(any_model):
    prompt = encoded(any_model)
    method = Attribution(levels=10, memory=1, precision="float32")
    inputs = Inputs([(prompt, prompt.response_ids(any_model.tokenizer, ANSWER))], None, None)
    made = [
        Attribution(10, memory, "float32").work(any_model, inputs)[0].compute().arrays["level_PR"]
        for memory in (1, 64, 64)
    ]
    assert all(torch.equal(made[0], other) for other in made[1:])
    assert method.work(any_model, inputs)[0].key == Attribution(10, 64, "float32").work(any_model, inputs)[0].key


def test_a_response_token_rests_on_nothing_that_follows_it(llama):
    """The first response token's importance does not depend on the rest of the response."""
    prompt = encoded(llama)
    ids = prompt.response_ids(llama.tokenizer, ANSWER)
    whole_PR, _ = importance(llama, prompt, ids, 4)
    alone_PR, _ = importance(llama, prompt, ids[:1], 4)
    assert torch.allclose(whole_PR[:, :1], alone_PR, rtol=1e-4, atol=1e-7)


def test_an_empty_response_has_no_importance(llama):
    importance_PR, probability_R = importance(llama, encoded(llama), (), 4)
    assert importance_PR.shape == (len(encoded(llama).prompt_ids), 0) and probability_R.shape == (0,)


def test_a_gradient_that_is_not_finite_is_an_error(llama):
    with torch.no_grad():
        llama.module.model.norm.weight.fill_(float("inf"))
    with pytest.raises(InputError, match=r"Llama.* in float32: the logits .*not finite.*prompt 'p'.*dtype=float64"):
        explained(llama, encoded(llama))


def test_the_key_names_all_that_a_unit_depends_on(llama):
    prompt = encoded(llama)
    ids = prompt.response_ids(llama.tokenizer, ANSWER)
    keys = {
        "same": work_key(llama, prompt, ids, 10),
        "levels": work_key(llama, prompt, ids, 5),
        "response": work_key(llama, prompt, ids[:-1], 10),
        "prompt": work_key(llama, encoded(llama, TEXT + " now"), ids, 10),
        "prefix": work_key(llama, encoded(llama, prefix=(0,)), ids, 10),
    }
    assert len(set(keys.values())) == len(keys)
    assert work_key(llama, prompt, ids, 10) == keys["same"]


def work_key(model, prompt, ids, levels, precision="float32"):
    return Attribution(levels, 4, precision).work(model, Inputs([(prompt, ids)], None, None))[0].key


def test_a_precision_is_part_of_the_key_but_float32_is_not(llama):
    """Units that were stored before there was a choice stay valid."""
    prompt = encoded(llama)
    ids = prompt.response_ids(llama.tokenizer, ANSWER)
    (work,) = Attribution(10, 4, "float32").work(llama, Inputs([(prompt, ids)], None, None))
    assert work.content["options"] == {"levels": 10}
    assert work_key(llama, prompt, ids, 10, "bfloat16") != work.key


def test_a_precision_that_is_not_known_is_refused():
    with pytest.raises(InputError, match=r"precision='half'.*float32, tf32, bfloat16"):
        Attribution(10, 4, "half")


@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
def test_a_precision_needs_a_float32_model_that_the_engine_knows(precision, llama64, llama):
    method = Attribution(10, 4, precision)
    with pytest.raises(InputError, match=rf"precision={precision} is for models in float32.*float64; use .*=float32"):
        method.work(llama64, Inputs([], None, None))
    llama.__dict__["transformer_or_reason"] = (None, "it has a Quantised where a plain layer is expected")
    with pytest.raises(InputError, match=r"autograd computes .*: it has a Quantised"):
        method.check_model(llama)


def test_tf32_needs_a_gpu(llama):
    method = Attribution(10, 4, "tf32")
    with pytest.raises(InputError, match=r"precision=tf32 is for GPUs, and .* is on the cpu"):
        method.work(llama, Inputs([], None, None))
    with pytest.raises(InputError, match="precision=tf32 is for GPUs, and x is on the cpu"):
        method.check_source(source(device="cpu"))
    with pytest.raises(InputError, match="x computes in bfloat16"):
        method.check_source(source(device="cpu", dtype="bfloat16"))
    method.check_source(source(device="auto", device_map="auto"))  # decided when the model is there
    Attribution(10, 4, "bfloat16").check_source(source(device="cpu"))
    Attribution(10, 4, "float32").check_source(source(device="cpu", dtype="float64"))


def source(**change):
    plain = dict.fromkeys(field.name for field in fields(ModelSource))
    return ModelSource(**{**plain, "path": "x", "dtype": "float32", "device": "cpu", **change})


def test_another_precision_is_measured_on_the_first_prompts(any_model):
    method = Attribution(10, 64, "bfloat16")
    ids = encoded(any_model).response_ids(any_model.tokenizer, ANSWER)
    prompts = [(encoded(any_model, TEXT + " now" * count), ids) for count in range(5)]
    empty = (prompts[0][0], ())
    work = method.work(any_model, Inputs([empty, *prompts], None, None))
    assert "came from the store" in method.notes()[0]  # nothing was computed yet
    work[0].compute()
    assert "only prompts with empty responses were computed, so" in method.notes()[0]
    units = [item.compute() for item in work]
    agreements = method.agreements[any_model.name]
    assert len(agreements) == 3
    wanted_PR, _ = importance(any_model, prompts[0][0], ids, 64)
    level_PR = ops.importance_levels(wanted_PR, 10)
    assert agreements[0].equal == pytest.approx(float((units[1].arrays["level_PR"] == level_PR).float().mean()))
    found_PR, _ = importance(any_model, prompts[0][0], ids, 64, Precision.BFLOAT16)
    error_R = (found_PR - wanted_PR).abs().amax(0) / wanted_PR.abs().amax(0)
    assert torch.allclose(agreements[0].error_R, error_R)
    errors = torch.cat([one.error_R for one in agreements])
    (note,) = method.notes()
    assert note.startswith(f"{any_model.name} was explained with derivatives in bfloat16. Beside float32, on 3 prompts")
    assert f"{float(errors.median()):.1e} (median) and {float(errors.max()):.1e} (worst)" in note and "% of" in note


def test_agreement_is_of_columns_and_of_levels():
    wanted_PR = torch.tensor([[1.0, 0.0, 4.0], [0.5, 0.0, -2.0]])
    found_PR = torch.tensor([[1.0, 0.0, 4.0], [0.35, 0.0, -3.0]])
    found = agreement(found_PR, wanted_PR, 10)
    assert found.error_R.tolist() == pytest.approx([0.15, 0.0, 0.25])
    assert found.equal == pytest.approx(5 / 6)


def test_float32_is_not_measured(llama):
    method = Attribution(10, 64, "float32")
    prompt = encoded(llama)
    inputs = Inputs([(prompt, prompt.response_ids(llama.tokenizer, ANSWER))], None, None)
    method.work(llama, inputs)[0].compute()
    assert method.agreements == {} and method.notes() == []


def test_memory_is_by_the_device_where_none_is_asked_for():
    assert memory_bytes(3, torch.device("cuda")) == 3 * 2**20
    assert memory_bytes(None, torch.device("cpu")) == 384 * 2**20
    with pytest.raises(InputError, match="memory=0"):
        Attribution(10, 0, "float32")


def test_no_hook_is_left_on_the_module(llama):
    def hooks():
        return sum(
            len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in llama.module.modules()
        )

    before = hooks()
    explained(llama, encoded(llama))
    assert hooks() == before
