"""Logits with NaN or inf end in one InputError that names the model and its dtype, wherever they are read."""

import pytest
import torch

from shiftbench.contracts.explainer import Inputs
from shiftbench.errors import InputError
from shiftbench.explain.faithfulness import Faithfulness
from shiftbench.explain.finite import check_importance
from shiftbench.explain.importance import Definition, Options, importance, log_probabilities, total_importance
from shiftbench.explain.key_parts import KeyParts
from shiftbench.explain.response import GreedyResponse
from shiftbench.models import wrap
from shiftbench.prompts import Prompt, encode
from shiftbench.store.work import compute_all
from tests.tiny import tiny_module, tiny_tokenizer

TEXT, ANSWER = "Write a short poem about the sea", " The sky and the stars"
BY_ENGINE, BY_AUTOGRAD, HALF = ("llama", "float32"), ("unknown", "float32"), ("llama", "float16")
REMEDY = {"float32": "use dtype=float64", "float16": "float16 overflows at 65,504; use dtype=bfloat16 or dtype=float32"}


@pytest.fixture(params=[BY_ENGINE, BY_AUTOGRAD, HALF], ids=["engine", "autograd", "float16"])
def overflowing(request):
    """(a model whose logits are NaN, from its second layer on, and not its weights; what its errors say)."""
    kind, dtype = request.param
    module = tiny_module("llama").to(getattr(torch, dtype))
    with torch.no_grad():  # the product of the two projections overflows, none of the weights does
        large = 200.0 if dtype == "float16" else 1e19
        module.model.layers[0].mlp.up_proj.weight.mul_(large)
        module.model.layers[0].mlp.gate_proj.weight.mul_(large)
    if kind == "unknown":
        module.config.model_type = "unknown"
    assert all(parameter.isfinite().all() for parameter in module.parameters())
    with wrap(module, tiny_tokenizer()) as model:
        assert (model.transformer_or_reason[0] is not None) == (request.param == BY_ENGINE)
        yield model, rf"LlamaForCausalLM in {dtype}: the logits .*not finite \(NaN or inf\), on .*{REMEDY[dtype]}"


@pytest.fixture
def asked(overflowing):
    tokenizer = overflowing[0].tokenizer
    prompt = encode(Prompt("p", TEXT, ((0, 20),), key_spans=((8, 13),)), tokenizer)
    return prompt, prompt.response_ids(tokenizer, ANSWER)


def test_greedy_decoding(overflowing, asked):
    model, message = overflowing
    work = GreedyResponse(4).work(model, [asked[0]])
    with pytest.raises(InputError, match=message):
        work[0].compute()
    with pytest.raises(InputError, match=message):
        list(compute_all(work))


def test_importance(overflowing, asked):
    model, message = overflowing
    with pytest.raises(InputError, match=message):
        importance(model, *asked, 4)


@pytest.mark.parametrize("definition", Definition)
def test_every_definition_summed_over_the_response(overflowing, asked, definition):
    model, message = overflowing
    with pytest.raises(InputError, match=message):
        total_importance(definition, Options(1), model, *asked, 4)


def test_masked_passes(overflowing, asked):
    model, message = overflowing
    nothing_1P = torch.zeros(1, len(asked[0].prompt_ids), dtype=torch.bool)
    with pytest.raises(InputError, match=message):
        log_probabilities(model, *asked, nothing_1P, 4)
    for explainer in (Faithfulness(["grad_x_input"], ["zero"], 1, 1, 1, [0.5], 1, None, None, 0, 4), KeyParts(1, 0, 4)):
        (work,) = explainer.work(model, Inputs([asked], None, None))
        with pytest.raises(InputError, match=message):
            work.compute()


@pytest.mark.parametrize("token", [0, 7])
def test_one_logit_that_is_not_finite_is_enough(token, llama):
    """Of a large vocabulary, one row of the output embeddings overflows, whichever token would have been taken."""
    prompt = encode(Prompt("p", TEXT, ()), llama.tokenizer)
    with torch.no_grad():
        llama.module.lm_head.weight[token] = 3e38
    (work,) = GreedyResponse(2).work(llama, [prompt])
    for made in (work.compute, lambda: list(compute_all([work]))):
        with pytest.raises(InputError, match="not finite"):
            made()


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_importance_that_is_not_finite_is_an_error_though_the_logits_are(llama, value):
    check_importance(torch.zeros(3, 2), llama, "p")
    with pytest.raises(InputError, match=r"in float32: the importance of the tokens of prompt 'p' is not finite"):
        check_importance(torch.tensor([[0.0, value]]), llama, "p")
