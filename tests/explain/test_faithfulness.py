"""Masks are what they are called, and a token that was planted is found."""

import dataclasses

import pytest
import torch

from shiftbench.config.composition import packaged
from shiftbench.config.instantiation import instantiate as from_configuration
from shiftbench.contracts.explainer import Inputs
from shiftbench.errors import InputError
from shiftbench.explain.faithfulness import BASELINES, Faithfulness, maskable
from shiftbench.explain.importance import importance, occlusion
from shiftbench.explain.masks import Mask, Masking
from shiftbench.findings.attribution_faithfulness import prompt_quantities
from shiftbench.models import wrap
from tests import reference
from tests.explain.test_attribution import ANSWER, TEXT, encoded
from tests.tiny import tiny_module, tiny_tokenizer

METHODS = ["grad_x_input", "occlusion", "integrated_gradients"]
PERTURBATIONS = ["zero", "delete"]


def method(**change):
    given = dict(
        methods=METHODS, perturbations=PERTURBATIONS, steps=2, method_draws=2, mask_draws=1,
        fractions=[0.2, 0.5], draws=3, prompts=None, tokens=None, seed=0, memory=64,
    )  # fmt: skip
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
    token_N = maskable(prompt)
    assert unit.arrays["token_J"].tolist() == token_N.tolist()
    for k, kind in enumerate((Mask.ZERO, Mask.DELETE)):
        change_P = occlusion(llama64, prompt, response, 64, masking=Masking(kind))[0].mean(1)
        assert torch.allclose(unit.arrays["change_KJ"][k].double(), change_P[token_N], rtol=1e-5, atol=1e-12)
    assert torch.allclose(unit.arrays["importance_MP"][1][token_N], unit.arrays["change_KJ"][0])
    longest_P = torch.tensor([float(len(token.strip())) for token in prompt.tokens])
    orders = ((0, importance_P), (3, longest_P), (4, torch.arange(len(longest_P))))
    given = (llama64.module, (0,), prompt.prompt_ids, response)
    logs = {"zero": reference.masked_log_probability, "delete": reference.deleted_log_probability}
    for k, kind in enumerate(PERTURBATIONS):
        for place, number_P in orders:
            order_N = token_N[number_P[token_N].argsort(descending=True, stable=True)]
            for f, fraction in enumerate((0.2, 0.5)):
                removed = torch.zeros(len(longest_P), dtype=torch.bool)
                removed[order_N[: round(fraction * len(token_N))]] = True
                kept = torch.zeros_like(removed)
                kept[order_N[round(fraction * len(token_N)) :]] = True
                for mask, name in ((removed, "removed"), (kept, "kept")):
                    log_R = logs[kind](*given, mask)
                    mean, mean_log = (unit.arrays[f"{name}_{log}KOF"][k, place, f] for log in ("", "log_"))
                    assert float(mean) == pytest.approx(float(log_R.exp().mean()), rel=1e-5)
                    assert float(mean_log) == pytest.approx(float(log_R.mean()), rel=1e-5)
    log_R = reference.masked_log_probability(*given, torch.zeros_like(removed))
    assert unit.arrays["full_2"].tolist() == pytest.approx([float(log_R.exp().mean()), float(log_R.mean())], rel=1e-5)
    assert unit.words["orders"] == [*METHODS, *BASELINES, "random 1", "random 2", "random 3"]


def test_labels_are_never_masked(llama):
    """Only tokens of instruction and context are: the end of the prompt, `Output:`, fixes the answer's form."""
    prompt, _ = asked(llama)
    assert 1 < len(maskable(prompt)) < len(prompt.prompt_ids)
    assert bool((prompt.instruction_P | prompt.context_P)[maskable(prompt)].all())
    bare = dataclasses.replace(prompt, instruction_P=torch.zeros_like(prompt.instruction_P))
    assert maskable(bare).tolist() == list(range(len(prompt.prompt_ids)))
    (unit,) = explained(llama, asked(llama))
    assert set(unit.arrays["token_J"].tolist()) == set(maskable(prompt).tolist())


def test_baselines_look_at_no_model(llama):
    prompt, response = asked(llama)
    numbers = {name: number(prompt, response) for name, number in BASELINES.items()}
    assert numbers["last first"] == list(range(len(prompt.prompt_ids)))
    assert numbers["rarest first"] == [float(token) for token in prompt.prompt_ids]
    longest = max(range(len(prompt.tokens)), key=lambda n: len(prompt.tokens[n].strip()))
    assert numbers["longest first"].index(max(numbers["longest first"])) == longest
    again = BASELINES["repeated first"](prompt, (prompt.prompt_ids[2], prompt.prompt_ids[2], -1))
    assert again[2] == 2.0 and sum(again) == 2.0 * prompt.prompt_ids.count(prompt.prompt_ids[2])


def test_a_method_is_not_judged_by_its_own_mask():
    explainer = method(methods=["grad_x_input", "occlusion", "occlusion:delete"])
    assert explainer.perturbations_for("grad_x_input") == PERTURBATIONS
    assert explainer.perturbations_for("occlusion") == ["delete"]
    assert explainer.perturbations_for("occlusion:delete") == ["zero"]
    with pytest.raises(InputError, match="occlusion:mean is right by definition where its own mask judges it"):
        method(methods=["occlusion:mean"], perturbations=["mean"])


def test_a_method_by_resampling_is_not_judged_by_its_own_draws(llama):
    explainer = method(methods=["occlusion:resample"], perturbations=["resample", "delete"])
    assert explainer.maskings[0] != explainer.attributions[0].options.masking
    assert explainer.perturbations_for("occlusion:resample") == ["delete"]


def test_some_tokens_are_masked_alone_where_that_is_asked_for(llama64):
    prompt, response = asked(llama64)
    (unit,) = explained(llama64, methods=["grad_x_input"], tokens=5)
    token_J = unit.arrays["token_J"]
    assert len(token_J) == 5 == len(set(token_J.tolist())) and set(token_J.tolist()) <= set(maskable(prompt).tolist())
    change_P = occlusion(llama64, prompt, response, 64)[0].mean(1)
    assert torch.allclose(unit.arrays["change_KJ"][0].double(), change_P[token_J], rtol=1e-5, atol=1e-12)


def test_random_orders_are_the_prompts_and_not_the_models(llama):
    explainer = method(methods=["grad_x_input"])
    prompt, response = asked(llama)
    count = len(prompt.prompt_ids)
    generator = torch.Generator().manual_seed(0)

    def random(explainer):
        return explainer._orders(torch.rand(1, count, generator=generator), prompt, response)[1][1 + len(BASELINES) :]

    first, second = random(explainer), random(explainer)
    assert torch.equal(first, second) and not torch.equal(first[0], first[1])
    assert not torch.equal(first, random(method(methods=["grad_x_input"], seed=1)))
    assert all(sorted(row) == maskable(prompt).tolist() for row in first.tolist())


@pytest.mark.parametrize("perturbations", [["zero"], ["zero", "resample"]], ids=str)
def test_the_estimate_counts_the_masks_that_are_made(llama, perturbations):
    prompt, response = asked(llama)
    count = len(prompt.prompt_ids)
    explainer = method(methods=["grad_x_input"], tokens=5, perturbations=perturbations, mask_draws=4)
    orders = explainer._orders(torch.rand(1, count), prompt, response)[1]
    masks, gradient = len(explainer._masks_of_orders(orders, count)), 3  # a backward pass counts as two forward passes
    draws = sum({"zero": 1, "resample": 4}[kind] for kind in perturbations)
    assert explainer._forward_passes(count) == 1 + draws * (5 + masks) + gradient


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
    return [prompt_quantities(unit, name, "zero") for name in METHODS], found


def test_a_planted_token_is_found_by_every_method():
    rows, found = checked(20)
    assert found == [True, True, True]
    for row in rows:
        assert row["comprehensiveness_over_random"] > 0.3 and row["sufficiency_over_random"] > 0.3
        assert row["log_comprehensiveness_over_random"] > 0.3
        assert row["comprehensiveness_over_longest first"] > 0.3
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

    ways = [{}, {"steps": 3}, {"fractions": [0.2]}, {"draws": 2}, {"seed": 1}, {"methods": METHODS[:1]}, {"tokens": 5}]
    ways += [{"methods": ["occlusion:mean"]}, {"methods": ["occlusion:delete"]}, {"perturbations": ["mean", "delete"]}]
    drawn = {"perturbations": ["zero", "resample"]}
    ways += [drawn, {**drawn, "mask_draws": 2}]
    assert len({key(**way) for way in ways}) == len(ways)
    assert key(memory=1) == key() == key(prompts=1) == key(mask_draws=2)
    assert key(methods=METHODS[:1], steps=3) == key(methods=METHODS[:1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": ["lime"]}, r"'lime' is not known; choose from grad_x_input"),
        ({"methods": ["occlusion:grey"]}, r"'grey' is not known; choose from zero, mean"),
        ({"methods": ["grad_x_input:mean"]}, "uses no mask; write grad_x_input"),
        ({"perturbations": ["grey"]}, r"perturbations='grey' is not known"),
        ({"perturbations": []}, "perturbations must name at least one"),
        ({"mask_draws": 0}, "mask_draws=0"),
        ({"methods": []}, "methods must name at least one"),
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
    assert made.methods[0] == "grad_x_input" and made.fractions == [0.1, 0.3]
    assert all(len(made.perturbations_for(name)) >= 2 for name in made.methods)
