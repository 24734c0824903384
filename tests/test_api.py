"""The notebook API does what README says, and leaves the caller's model as it was."""

import shutil
import subprocess
import sys

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    BertForMaskedLM,
    PreTrainedModel,
    T5ForConditionalGeneration,
)

import shiftbench
from shiftbench.errors import InputError
from tests import reference
from tests.command.conftest import WORDS, folders  # noqa: F401 (a fixture)
from tests.tiny import tiny_module, tiny_tokenizer

PROMPT, RESPONSE = "Write a short poem about the sea", " The sky and the stars"


@pytest.fixture
def loaded():
    return tiny_module("llama"), tiny_tokenizer()


def test_attribute_gives_tokens_importance_levels_and_density(loaded):
    module, tokenizer = loaded
    module.train().set_attn_implementation("sdpa")
    found = shiftbench.attribute(module, tokenizer, PROMPT, RESPONSE)
    assert module.training and module.config._attn_implementation == "sdpa"
    assert all(parameter.requires_grad for parameter in module.parameters())
    assert "".join(found.prompt_tokens) == PROMPT and "".join(found.response_tokens) == RESPONSE
    shape = (len(found.prompt_tokens), len(found.response_tokens))
    assert found.importance_PR.shape == found.level_PR.shape == shape
    assert torch.equal(found.level_PR.double(), reference.importance_levels(found.importance_PR.double(), 10))
    wanted_P = reference.importance_density(found.level_PR.double(), cutoff=7, p=4)
    assert found.density_P.tolist() == pytest.approx(wanted_P.tolist(), abs=1e-6)


def test_attribution_shows_itself_as_escaped_html(loaded):
    html = shiftbench.attribute(*loaded, "<script>alert(1)</script>", RESPONSE)._repr_html_()
    assert "<script" not in html and "&lt;" in html


def test_attribute_refuses_an_empty_prompt_or_response(loaded):
    with pytest.raises(InputError, match="response has no token"):
        shiftbench.attribute(*loaded, PROMPT, "")
    with pytest.raises(InputError, match="prompt has no token"):
        shiftbench.attribute(*loaded, "", RESPONSE)


# --- models that the engine does not know, as transformers loads them

TEXT_SHAPE = dict(
    vocab_size=400, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    intermediate_size=64, max_position_embeddings=256,
)  # fmt: skip
VISION = dict(
    hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=28, patch_size=14
)
QWEN_VISION = dict(hidden_size=32, depth=1, num_heads=2, intermediate_size=32, out_hidden_size=32)
MROPE = {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 1e4}
OTHERS = {
    "gemma3": dict(
        text_config=dict(TEXT_SHAPE, head_dim=16, query_pre_attn_scalar=16, sliding_window=8),
        vision_config=VISION, mm_tokens_per_image=1,
    ),
    "mistral3": dict(
        text_config=dict(TEXT_SHAPE, model_type="mistral", head_dim=8),
        vision_config=dict(VISION, model_type="pixtral", head_dim=16),
    ),
    "qwen3_vl": dict(
        text_config=dict(TEXT_SHAPE, head_dim=8, rope_parameters=MROPE),
        vision_config=dict(QWEN_VISION, deepstack_visual_indexes=[0]),
    ),
    "llava": dict(
        text_config=dict(TEXT_SHAPE, model_type="llama"), vision_config=dict(VISION, model_type="clip_vision_model")
    ),
    "mamba": dict(vocab_size=400, hidden_size=32, num_hidden_layers=2, state_size=8),
    "rwkv": dict(vocab_size=400, hidden_size=32, attention_hidden_size=32, num_hidden_layers=2, intermediate_size=64,
                 rescale_every=1),
    "recurrent_gemma": dict(vocab_size=400, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, lru_width=32,
                            num_key_value_heads=1, head_dim=8, intermediate_size=64, attention_window_size=16),
    "bloom": dict(vocab_size=400, hidden_size=32, n_layer=2, n_head=4),
}  # fmt: skip


def other(kind):
    """A tiny random model of another kind, as its Auto class makes it."""
    config = AutoConfig.for_model(kind, **OTHERS[kind])
    auto = AutoModelForImageTextToText if hasattr(config, "vision_config") else AutoModelForCausalLM
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = auto.from_config(config)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return module.eval()


def held(module):
    """Everything that a call may not change: modes, attention, weights, buffers and other tensors."""
    parts = list(module.modules())
    tensors = [value for part in parts for value in (*part.__dict__.values(), *part._buffers.values())]
    tensors = [value for value in (*module.parameters(), *tensors) if isinstance(value, torch.Tensor)]
    configs = [part.config._attn_implementation for part in parts if isinstance(part, PreTrainedModel)]
    learning = [parameter.requires_grad for parameter in module.parameters()]
    return [part.training for part in parts], configs, learning, [tensor.detach().clone() for tensor in tensors]


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("training", [False, True])
def test_attribute_takes_wrapped_and_recurrent_models_and_leaves_them_as_they_were(kind, training):
    module, tokenizer = other(kind).train(training), tiny_tokenizer()
    before = held(module)
    found = shiftbench.attribute(module, tokenizer, PROMPT, RESPONSE)
    after = held(module)
    assert before[:3] == after[:3] and len(before[3]) == len(after[3])
    assert all(torch.equal(a, b) for a, b in zip(before[3], after[3], strict=True))
    torch.testing.assert_close(found.importance_PR, by_plain_autograd(module, tokenizer), rtol=1e-3, atol=1e-7)


def by_plain_autograd(module, tokenizer):
    """importance_PR by the definition: a forward and a backward pass for each response token, of what precedes it."""
    prompt, ids = (tokenizer(text)["input_ids"] for text in (PROMPT, PROMPT + RESPONSE))
    module = module.eval()
    module.set_attn_implementation("eager")
    columns = []
    for place in range(len(prompt), len(ids)):
        embedding_TD = module.get_input_embeddings()(torch.tensor([ids[:place]])).detach().requires_grad_(True)
        p = module(inputs_embeds=embedding_TD, use_cache=False).logits[0, -1].softmax(-1)[ids[place]]
        (grad_TD,) = torch.autograd.grad(p, embedding_TD)
        columns.append((grad_TD * embedding_TD).sum(-1)[0, : len(prompt)].detach())
    return torch.stack(columns, dim=1)


def test_attribute_refuses_what_is_no_causal_language_model():
    sizes = dict(vocab_size=400, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    refused = {
        r"T5ForConditionalGeneration encodes the prompt": T5ForConditionalGeneration(
            AutoConfig.for_model("t5", vocab_size=400, d_model=32, num_layers=1, num_heads=2, d_ff=32)
        ),
        r"logits depend on later tokens": BertForMaskedLM(AutoConfig.for_model("bert", **sizes)),
        r"LlamaModel has no output embeddings: load it with AutoModelForCausalLM": AutoModel.from_config(
            AutoConfig.for_model("llama", **sizes)
        ),
    }
    for why, module in refused.items():
        with pytest.raises(InputError, match=why):
            shiftbench.attribute(module.eval(), tiny_tokenizer(), PROMPT, RESPONSE)


def test_attribute_refuses_a_model_that_takes_no_embeddings(loaded):
    module, tokenizer = loaded
    module.config.model_type = "unknown"
    module.forward = lambda input_ids, use_cache=False: None
    with pytest.raises(InputError, match=r"LlamaForCausalLM fails on input embeddings: .*unexpected keyword"):
        shiftbench.attribute(module, tokenizer, PROMPT, RESPONSE)


def test_attribute_gives_the_same_after_a_longer_prompt():
    rope = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 1e4}
    module, tokenizer = tiny_module("llama", max_position_embeddings=8, rope_parameters=rope), tiny_tokenizer()
    first = shiftbench.attribute(module, tokenizer, PROMPT, RESPONSE).importance_PR
    shiftbench.attribute(module, tokenizer, PROMPT * 4, RESPONSE)
    assert torch.equal(shiftbench.attribute(module, tokenizer, PROMPT, RESPONSE).importance_PR, first)


def test_word_pairs_and_concepts_are_tables(loaded):
    words = [f"{a}{b}" for a in WORDS for b in ("", "s", "er", "ing", "ed", "ly")]
    pairs = shiftbench.word_pairs(*loaded, words, None, layers=[1])
    assert list(pairs.columns) == ["layer", "head", "neuron", "query_word", "key_word", "score"]
    assert len(pairs) and set(pairs["layer"]) == {1} and set(pairs["query_word"]) <= set(words)
    concepts = shiftbench.concepts(*loaded, words, rank=4, top=7)
    assert list(concepts.columns) == ["layer", "component", "variance_ratio", "words", "values"]
    assert concepts.groupby("layer").size().tolist() == [4, 4]
    assert all(len(row) == 7 and set(row) <= set(words) for row in concepts["words"])
    assert all(abs(row[0]) >= abs(row[-1]) for row in concepts["values"])


def test_what_does_not_exist_is_refused(loaded):
    with pytest.raises(InputError, match="layer 9 does not exist"):
        shiftbench.concepts(*loaded, WORDS, layers=[9], top=3)
    with pytest.raises(InputError, match="at least 100 words"):
        shiftbench.word_pairs(*loaded, WORDS, None)
    with pytest.raises(InputError, match="empty"):
        shiftbench.score("a", "b", prompts=[])


def test_vocab_topk_is_the_op():
    values_CK, indices_CK = shiftbench.vocab_topk(torch.eye(4), torch.tensor([[1.0, -3.0, 2.0, 0.0]]), k=2)
    assert values_CK.tolist() == [[-3.0, 2.0]] and indices_CK.tolist() == [[1, 2]]


def test_score_gives_the_scores_of_the_command(folders, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    prompts = [shiftbench.Prompt(f"p{i}", f"Write {word} now.", ((0, 5),)) for i, word in enumerate(WORDS[:4])]
    scores = shiftbench.score(
        str(folders / "base"), str(folders / "tuned"), prompts=prompts, response__max_new_tokens=5,
        vocabulary="tsv", vocabulary__path=str(folders / "vocabulary.tsv"), vectors="model",
        findings__instruction_verbs__explain__k=10, findings__concept_rotation__explain__top=5,
        bootstrap__resamples=100, store__path=str(tmp_path / "store"),
    )  # fmt: skip
    assert all(isinstance(score, shiftbench.Score) for score in scores)
    assert {score.n for score in scores if score.name == "recognition"} == {4}
    assert list(tmp_path.iterdir()) == [tmp_path / "store"]


@pytest.mark.parametrize(
    ("option", "instead"),
    [
        ({"dry_run": True}, "dry_run=true"),
        ({"dry_run": False}, "dry_run=true"),
        ({"out": "results"}, "command line"),
        ({"tracking": "mlflow"}, "nothing is tracked"),
        ({"tracking__uri": "sqlite:///x.db"}, "nothing is tracked"),
        ({"gpus": 2}, "device"),
        ({"pair": "demo"}, "base and tuned"),
        ({"pair__name": "mine"}, "base and tuned"),
        ({"pair__base": "x"}, "base and tuned"),
        ({"hydra__job__chdir": True}, "sweep"),
        ({"findings__instruction_recognition__saliency": 3}, "report"),
        ({"prompts": [shiftbench.Prompt("p", "Write.", ((0, 5),))], "dataset__limit": 3}, "prompts="),
    ],
)
def test_options_that_would_do_nothing_are_refused_with_what_to_do_instead(option, instead):
    with pytest.raises(InputError, match=f"would have no effect in Python; .*{instead}"):
        shiftbench.score("a", "b", **option)


def test_names_that_nothing_can_be_written_under_are_refused_at_once():
    for bad in ("x\udcff", "x\0"):
        with pytest.raises(InputError, match=r"UTF-8|NUL"):
            shiftbench.score("a", bad)
        with pytest.raises(InputError, match=r"UTF-8|NUL"):
            shiftbench.score("a", "b", store__path=bad)


def test_any_path_is_taken_as_it_is(folders, tmp_path):  # noqa: F811
    place = tmp_path / "v1.0 (final) ${x}, it's #1"
    (place / "store").mkdir(parents=True)
    shutil.copytree(folders / "base", place / "base")
    with pytest.raises(InputError, match="there is no such folder"):
        shiftbench.score(str(place / "base"), str(place / "nothing"), store__path=place / "store", device="cpu")


@pytest.mark.long
def test_importing_the_engine_needs_none_of_the_harness():
    """A GPU machine for benchmarks has torch and transformers only."""
    code = "import sys, shiftbench.engine.importance, shiftbench.models, shiftbench.explain.attribution as _\n"
    code += "print(sorted({'peft', 'mlflow', 'hydra'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
