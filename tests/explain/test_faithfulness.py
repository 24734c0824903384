"""Masks are what they are called, and a token that was planted is found."""

import pytest
import torch

from shiftbench.config.composition import packaged
from shiftbench.config.instantiation import instantiate as from_configuration
from shiftbench.contracts.explainer import Inputs
from shiftbench.errors import InputError
from shiftbench.explain.faithfulness import Faithfulness
from shiftbench.explain.importance import importance, occlusion
from shiftbench.findings.attribution_faithfulness import prompt_quantities
from shiftbench.models import wrap
from tests import reference
from tests.explain.test_attribution import ANSWER, TEXT, encoded
from tests.tiny import tiny_module, tiny_tokenizer

METHODS = ["grad_x_input", "occlusion", "integrated_gradients"]


def method(**change):
    given = dict(methods=METHODS, steps=2, fractions=[0.2, 0.5], draws=3, prompts=None, tokens=None, seed=0, memory=64)
    return Faithfulness(**{**given, **change})


def asked(model, text=TEXT):
    prompt = encoded(model, text, (0,))
    return prompt, prompt.response_ids(model.tokenizer, ANSWER)


def explained(model, *prompts, **change):
    work = method(**change).work(model, Inputs(prompts or [asked(model)], None, None))
    return [item.compute() for item in work]


def test_probabilities_are_those_of_the_masked_prompt(llama64):
    prompt, response = asked(llama64)
    (unit,) = explained(llama64)
    importance_P = importance(llama64, prompt, response, 64)[0].mean(1)
    assert torch.allclose(unit.arrays["importance_MP"][0].double(), importance_P, rtol=1e-5, atol=1e-12)
    change_P = occlusion(llama64, prompt, response, 64)[0].mean(1)
    assert torch.allclose(unit.arrays["change_K"].double(), change_P, rtol=1e-5, atol=1e-12)
    assert torch.equal(unit.arrays["importance_MP"][1], unit.arrays["change_K"])
    order_P = importance_P.argsort(descending=True)
    for place, order in ((0, order_P), (3, order_P.flip(0))):
        for f, fraction in enumerate((0.2, 0.5)):
            removed = torch.zeros(len(order_P), dtype=torch.bool)
            removed[order[: round(fraction * len(order_P))]] = True
            for mask, kind in ((removed, "removed"), (~removed, "kept")):
                log_R = reference.masked_log_probability(llama64.module, (0,), prompt.prompt_ids, response, mask)
                assert float(unit.arrays[f"{kind}_OF"][place, f]) == pytest.approx(float(log_R.exp().mean()), rel=1e-5)
                assert float(unit.arrays[f"{kind}_log_OF"][place, f]) == pytest.approx(float(log_R.mean()), rel=1e-5)
    nothing = torch.zeros(len(order_P), dtype=torch.bool)
    log_R = reference.masked_log_probability(llama64.module, (0,), prompt.prompt_ids, response, nothing)
    assert unit.arrays["full_2"].tolist() == pytest.approx([float(log_R.exp().mean()), float(log_R.mean())], rel=1e-5)
    assert unit.words["orders"] == [*METHODS, *(f"{m} reversed" for m in METHODS), "random 1", "random 2", "random 3"]


def test_some_tokens_are_masked_alone_where_that_is_asked_for(llama64):
    prompt, response = asked(llama64)
    (unit,) = explained(llama64, methods=["grad_x_input"], tokens=5)
    token_K = unit.arrays["token_K"]
    assert len(token_K) == 5 == len(set(token_K.tolist()))
    change_P = occlusion(llama64, prompt, response, 64)[0].mean(1)
    assert torch.allclose(unit.arrays["change_K"].double(), change_P[token_K], rtol=1e-5, atol=1e-12)
    (every,) = explained(llama64, methods=["grad_x_input", "occlusion"], tokens=5)
    assert every.arrays["token_K"].tolist() == list(range(len(prompt.prompt_ids)))


def test_random_orders_are_the_prompts_and_not_the_models(llama):
    explainer = method(methods=["grad_x_input"])
    prompt, _ = asked(llama)
    count = len(prompt.prompt_ids)
    generator = torch.Generator().manual_seed(0)
    first, second = (explainer._orders(torch.rand(1, count, generator=generator), prompt)[1][2:] for _ in range(2))
    assert torch.equal(first, second) and not torch.equal(first[0], first[1])
    other = method(methods=["grad_x_input"], seed=1)._orders(torch.rand(1, count), prompt)[1][2:]
    assert not torch.equal(first, other)
    assert all(sorted(row) == list(range(count)) for row in first.tolist())


def test_the_estimate_counts_the_masks_that_are_made(llama):
    prompt, _ = asked(llama)
    explainer = method(methods=["grad_x_input"], tokens=5)
    orders = explainer._orders(torch.rand(1, len(prompt.prompt_ids)), prompt)[1]
    masks, gradient = len(explainer._masks_of_orders(orders)), 3  # a backward pass counts as two forward passes
    assert explainer._forward_passes(len(prompt.prompt_ids)) == 5 + 1 + masks + gradient


def planted(strength):
    """A model in which only the tokens of one embedding row reach any later position: the others' values are 0."""
    module = tiny_module("llama", num_hidden_layers=1, rms_norm_eps=1.0)
    marked = tiny_tokenizer()(" French")["input_ids"][-1]
    with torch.no_grad():
        embedding_VD = module.get_input_embeddings().weight
        embedding_VD[:, 0] = 0.0
        embedding_VD[marked, 0] = 6.0
        layer = module.model.layers[0]
        layer.self_attn.k_proj.weight.zero_()  # attention is uniform, whoever is there
        layer.self_attn.v_proj.weight[:, 1:] = 0.0  # and takes the mark only
        layer.self_attn.o_proj.weight.mul_(strength)
        module.lm_head.weight.mul_(5)
    return module, marked


def checked(strength):
    """(each method's row of numbers, whether its most important token is the planted one)."""
    module, marked = planted(strength)
    with wrap(module, tiny_tokenizer()) as model:
        prompt, _ = asked(model)
        answer: list[int] = []
        for _ in range(6):  # what the model itself answers, so that the mark raises it
            ids = torch.tensor([[0, *prompt.prompt_ids, *answer]])
            answer.append(int(module(ids).logits[0, -1].argmax()))
        (unit,) = explained(model, (prompt, tuple(answer)), steps=8, draws=8)
    place = prompt.prompt_ids.index(marked)
    found = [int(importance_P.argmax()) == place for importance_P in unit.arrays["importance_MP"]]
    return [prompt_quantities(unit, name) for name in METHODS], found


def test_a_planted_token_is_found_by_every_method():
    rows, found = checked(20)
    assert found == [True, True, True]
    for row in rows:
        assert row["comprehensiveness_over_random"] > 0.3 and row["sufficiency_over_random"] > 0.3
        assert row["log_comprehensiveness_over_random"] > 0.3
        assert abs(row["comprehensiveness_reversed"]) < 0.7 * row["comprehensiveness"]
        assert row["correlation"] == pytest.approx(1.0)


def test_where_the_gradient_is_flat_it_misses_the_token_and_the_check_says_so():
    """So strong a mark saturates the norm: making it a little weaker changes nothing, taking it away everything."""
    (gradient, occlusion_row, _), found = checked(200)
    assert found[:2] == [False, True]
    assert gradient["comprehensiveness_over_random"] < -0.2 < 0.3 < occlusion_row["comprehensiveness_over_random"]
    assert gradient["correlation"] < 0.1


def test_prompts_are_spread_and_without_a_response_left_out(llama):
    prompts = [(encoded(llama, f"{TEXT} {i}"), () if i == 3 else (5,)) for i in range(7)]
    for i, (prompt, _) in enumerate(prompts):
        object.__setattr__(prompt.prompt, "id", str(i))

    def units(wanted):
        return [work.unit for work in method(prompts=wanted).work(llama, Inputs(prompts, None, None))]

    assert units(3) == ["0", "2", "5"] and units(None) == units(50) == ["0", "1", "2", "4", "5", "6"]
    assert method().work(llama, Inputs([(prompts[0][0], ())], None, None)) == []


def test_the_key_names_all_that_a_unit_depends_on(llama):
    def key(**change):
        return method(**change).work(llama, Inputs([asked(llama)], None, None))[0].key

    ways = [{}, {"steps": 3}, {"fractions": [0.2]}, {"draws": 2}, {"seed": 1}, {"methods": METHODS[:1]}]
    ways.append({"methods": METHODS[:1], "tokens": 5})
    assert len({key(**way) for way in ways}) == len(ways)
    assert key(memory=1) == key() == key(prompts=1) == key(tokens=5)  # occlusion masks every token anyway
    assert key(methods=METHODS[:1], steps=3) == key(methods=METHODS[:1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": ["lime"]}, r"'lime' is not known; choose from grad_x_input"),
        ({"methods": []}, "at least one method"),
        ({"methods": ["occlusion", "occlusion"]}, "each once"),
        ({"fractions": [0.5, 1.0]}, r"fractions=\[0.5, 1.0\] must lie between 0 and 1"),
        ({"draws": 0}, "draws=0"),
        ({"prompts": 0}, "prompts=0"),
        ({"tokens": 2}, "tokens=2"),
    ],
)
def test_what_makes_no_sense_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        method(**change)


def test_the_configuration_makes_it():
    made = from_configuration(packaged("explain/faithfulness"))
    assert made.methods[0] == "grad_x_input" and made.fractions == [0.1, 0.2, 0.5]
