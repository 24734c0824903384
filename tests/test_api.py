"""The notebook API does what README says, and leaves the caller's model as it was."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
    BertForMaskedLM,
    PreTrainedModel,
    T5ForConditionalGeneration,
)

import shiftbench
from shiftbench import api
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


@pytest.fixture(scope="module")
def options(folders, tmp_path_factory):  # noqa: F811
    """Options of `score` at a size for tiny models."""
    return dict(
        response__max_new_tokens=5, vocabulary="tsv", vocabulary__path=str(folders / "vocabulary.tsv"), vectors="model",
        findings__instruction_verbs__explain__k=10, findings__concept_rotation__explain__top=5,
        bootstrap__resamples=100, store__path=str(tmp_path_factory.mktemp("store")),
    )  # fmt: skip


PROMPTS = [shiftbench.Prompt(str(i), f"Write {word} now.", ((0, 5),)) for i, word in enumerate(WORDS[:4], start=1)]


@pytest.fixture(scope="module")
def scores(folders, options):  # noqa: F811
    return shiftbench.score(str(folders / "base"), folders / "tuned", prompts=PROMPTS, **options)


def test_score_gives_the_scores_of_the_command(scores):
    assert isinstance(scores, shiftbench.Scores) and all(isinstance(score, shiftbench.Score) for score in scores)
    assert {score.n for score in scores if score.name == "recognition"} == {4}
    assert scores[0].name == "recognition" and len(scores[:2]) == 2 and len(scores) == len(list(scores))


def test_score_writes_nothing_but_to_the_store(folders, options, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    store = tmp_path / "store"
    shiftbench.score(folders / "base", folders / "tuned", PROMPTS[:1], **{**options, "store__path": store})
    assert list(tmp_path.iterdir()) == [store]


def test_scores_have_verdicts_and_a_table(scores):
    assert scores.verdicts["instruction_recognition"].word.value == "not trustworthy"  # 4 prompts, and 10 are needed
    assert "instruction_recognition.prompt_density_rise" in scores.verdicts
    assert all(isinstance(verdict, shiftbench.Verdict) for verdict in scores.verdicts.values())
    frame = scores.to_frame()
    assert list(frame.columns) == ["finding", "name", "value", "low", "high", "p", "n"] and len(frame) == len(scores)
    assert frame["value"].tolist() == [score.value for score in scores]


def test_scores_fit_a_screen_and_say_what_to_call_next(scores):
    lines = repr(scores).splitlines()
    assert len(lines) <= 24 and any("recognises the instruction" in line for line in lines)
    assert not any("shiftbench score" in line for line in lines)
    calls = [line for line in lines if line.startswith("next: score(..., ")]
    for call in calls:
        compile(call.removeprefix("next: ").replace("(..., ", "("), "call", "eval")


def test_a_remedy_is_shown_as_a_call():
    assert api._call(["control=permuted"]) == "score(..., control='permuted')"
    assert api._call(["control.draws=39"]) == "score(..., control__draws=39)"
    assert api._call(["a.explain.methods=[occlusion]"]) == "score(..., a__explain__methods=['occlusion'])"
    assert api._call(["+finding@findings.x=y"]) == "score(..., **{'+finding@findings.x': 'y'})"


def test_scores_show_themselves_as_escaped_html(scores):
    summary = dataclasses.replace(scores._summary, pair={**scores._summary.pair, "tuned": "<script>alert(1)</script>"})
    html = shiftbench.Scores(summary, {})._repr_html_()
    assert "<script" not in html and "&lt;script" in html and "not trustworthy" in html
    assert html.count("<tr>") == 1 + len(scores.verdicts)


@pytest.mark.long
def test_the_report_is_written_where_it_is_asked_for(scores, tmp_path, monkeypatch):
    page = scores.report(tmp_path / "page.html")
    assert page == tmp_path / "page.html" and "Instruction recognition" in page.read_text(encoding="utf-8")
    assert list(tmp_path.iterdir()) == [page]
    whole = scores.report(tmp_path / "results")
    assert whole == tmp_path / "results" / "report.html" and (tmp_path / "results" / "scores.json").is_file()
    assert (
        json.loads((tmp_path / "results" / "scores.json").read_text())["pair"]["dataset"] == "prompts given in Python"
    )
    monkeypatch.chdir(tmp_path)
    assert scores.report() == Path("shiftbench-runs") / "tuned" / "report.html"
    other = shiftbench.Scores(scores._summary, {**scores._identity, "tuned_weights": "0" * 64})
    with pytest.raises(InputError, match="results of another pair"):
        other.report(tmp_path / "results")


def test_prompts_may_be_texts_and_dicts(folders, options, scores):  # noqa: F811
    texts = [{"prompt": prompt.text, "instruction": [(0, 5)]} for prompt in PROMPTS]
    pair = folders / "base", folders / "tuned"
    assert list(shiftbench.score(*pair, texts, **options)) == list(scores)
    (found,) = (
        row for row in shiftbench.score(*pair, ["Write a now.", "Write b now."], **options) if row.name == "recognition"
    )
    assert found.n == 2  # a text is an instruction as a whole
    for bad, why in (
        ("Write.", "prompts must be a list"),
        ([7], "prompt 1 must be a text, a dict or a Prompt, got int"),
        (["a", {"text": "b"}], "prompt 2: field 'prompt' is missing"),
        ([{"prompt": "b", "instruction": [[0, 9]]}], "prompt 1: .*ends beyond"),
        ([{"prompt": "b", "instruction": {1}}], "prompt 1: .*not JSON serializable"),
        ([""], "prompt 1: field 'prompt' is empty"),
    ):
        with pytest.raises(InputError, match=why):
            shiftbench.score(*pair, bad, **options)


@pytest.mark.long
def test_loaded_models_give_the_same_and_stay_as_they_were(folders, options, scores):  # noqa: F811
    models = []
    for name in ("base", "tuned"):
        module = AutoModelForCausalLM.from_pretrained(folders / name, dtype="float32").train()
        module.set_attn_implementation("sdpa")
        models.append((module, AutoTokenizer.from_pretrained(folders / name)))
    before = [held(module) for module, _ in models]
    found = shiftbench.score(*models, PROMPTS, **options)
    assert list(found) == list(scores)
    assert "next: shiftbench score" not in repr(found)
    for (module, _), (modes, attention, learning, tensors) in zip(models, before, strict=True):
        after = held(module)
        assert (modes, attention, learning) == after[:3] and module.config._attn_implementation == "sdpa"
        assert all(torch.equal(a, b) for a, b in zip(tensors, after[3], strict=True))
    mixed = shiftbench.score(folders / "base", models[1], PROMPTS, **options)
    assert list(mixed) == list(scores)
    # A model that was changed after it was loaded is not taken for the one on disk.
    with torch.no_grad():
        for parameter in models[0][0].parameters():
            parameter.mul_(1.01)
    changed = shiftbench.score(models[0], folders / "base", PROMPTS, **options)
    assert any(score.n for score in changed)
    with pytest.raises(InputError, match="dtype='bfloat16' would have no effect in Python; a model was given loaded"):
        shiftbench.score(*models, PROMPTS, dtype="bfloat16")


def test_what_is_no_model_is_refused(folders, loaded):  # noqa: F811
    module, tokenizer = loaded
    with pytest.raises(InputError, match="give the tokenizer together with the model"):
        shiftbench.score(module, folders / "base")
    with pytest.raises(InputError, match="not a pair: their width differ"):
        shiftbench.score((tiny_module("llama", hidden_size=64), tokenizer), (module, tokenizer), vectors="model")


@pytest.mark.long
def test_the_api_shows_in_dir_and_help():
    code = "import shiftbench, pydoc; print(dir(shiftbench)); print(pydoc.plain(pydoc.render_doc(shiftbench)))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    listed, _, described = shown.partition("\n")
    for name in ("attribute", "concepts", "score", "vocab_topk", "word_pairs", "Scores", "Prompt"):
        assert repr(name) in listed and name in described
    assert "The scores and verdicts of a pair on every finding" in described


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
