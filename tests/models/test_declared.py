"""Malformed and absurd files of a model end quickly in one line that names the file, whatever the library would do."""

import json
import os
import resource
import shutil
import time

import pytest

from shiftbench import models
from shiftbench.errors import InputError
from shiftbench.models.hub import without_panics
from tests.models.gguf_file import write_gguf


@pytest.fixture
def changed(saved, tmp_path):
    """A copy of a tiny model's folder with one JSON file changed: by an object, by a function or to a whole text."""

    def make(file, change, architecture="llama"):
        folder = tmp_path / "model"
        shutil.copytree(saved(architecture), folder, dirs_exist_ok=True)
        if isinstance(change, str):
            (folder / file).write_text(change)
            return folder
        content = json.loads((folder / file).read_text()) if (folder / file).exists() else {}
        if callable(change):
            change(content)
        else:
            content.update(change)
        (folder / file).write_text(json.dumps(content))
        return folder

    return make


def refused(source, said, load=True):
    """The message of the InputError. It must be one line, and come quickly and without much memory."""
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(InputError, match=said) as error:
        (models.load if load else models.check)(source)
    assert "\n" not in str(error.value)
    assert time.process_time() - started < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 * 2**10  # in KiB
    return str(error.value)


# --- config.json


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"num_labels": 10**9}, "num_labels declares 1,000,000,000 labels"),
        ({"id2label": {str(i): "x" for i in range(200_000)}}, "id2label declares 200,000 labels"),
        ({"text_config": {"num_labels": 10**9}}, "num_labels declares 1,000,000,000 labels"),
        ({"num_hidden_layers": 2**31}, r"num_hidden_layers is 2,147,483,648, and its files hold \d+ tensors"),
        ({"num_hidden_layers": 20}, r"describes a model of [\d,]+ weights, and its files hold 44,192"),
        ({"vocab_size": 10**12}, "vocab_size is 1,000,000,000,000, and its files hold 44,192 weights"),
        ({"vocab_size": 401}, r"describes 'model.embed_tokens.weight' with shape \(401, 32\).*hold it as \(400, 32\)"),
        ({"hidden_size": 2**40}, "hidden_size is 1,099,511,627,776"),
        ({"intermediate_size": 10**15}, "intermediate_size is 1,000,000,000,000,000"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_declared_sizes_are_held_against_the_files(source, changed, change, said):
    refused(source(changed("config.json", change)), rf"^model .*model: config.json:? {said}", load=False)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"attention_bias": ""}, "'attention_bias' expected bool"),
        ({"head_dim": 7}, "head_dim"),
        ({"num_attention_heads": 0}, "num_attention_heads must be a whole number of at least 1, got 0"),
        ({"num_hidden_layers": "2"}, "num_hidden_layers must be a whole number of at least 1, got '2'"),
        ({"sliding_window": "x"}, "sliding_window must be a whole number of at least 1, got 'x'"),
        ({"sliding_window": 0}, "sliding_window must be a whole number"),
        ({"max_position_embeddings": -5}, "max_position_embeddings must be"),
        ({"hidden_act": "nonsense"}, "KeyError: 'nonsense'"),
        ({"dtype": "load"}, "dtype is 'load', which is no dtype"),
        ({"model_type": None}, "has no model_type"),
        ({"model_type": ["llama"]}, "has no model_type"),
        ({"auto_map": 5}, "not iterable"),
        ({"to_dict": 5}, "not callable"),
        ({"get_text_config": 5}, "not callable"),
        ({"id2label": [1]}, "no attribute 'items'"),
        ({"rope_parameters": []}, "rope_parameters"),
        (
            {"rope_scaling": {"rope_type": "quantum"}},
            r"rope_scaling is of type 'quantum', .*known are default, dynamic, ",
        ),
        (
            {"rope_parameters": {"rope_type": ["yarn"]}},
            r"rope_parameters is of type \['yarn'\], which this version of transformers",
        ),
        ("null", "must hold a JSON object, got NoneType"),
        ("[" * 5000, "not JSON"),
        ('{"a": 1, "a": 2}', "the key 'a' twice"),
        ('{"a": ' + "9" * 4301 + "}", "not JSON"),
        (" " * (5 * 2**20), "the file is too large"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_malformed_configuration(source, changed, change, said):
    refused(source(changed("config.json", change)), rf"^model .*model:? .*{said}", load=False)


def test_what_fails_only_in_the_first_pass_is_refused_there(source, changed):
    """Loading includes a forward pass over a few tokens."""
    folder = changed("config.json", {"return_dict": False})
    models.check(source(folder))
    refused(source(folder), r"^model .*model: ")


def test_a_text_config_that_is_quantised(source, changed):
    folder = changed("config.json", {"text_config": {"quantization_config": {"quant_method": "fp8"}}})
    refused(source(folder), "is quantised", load=False)


def test_a_folder_without_a_configuration(source, changed):
    folder = changed("config.json", {})
    (folder / "config.json").unlink()
    refused(source(folder), r"has no config.json; give the folder that save_pretrained wrote", load=False)
    os.mkfifo(folder / "config.json")
    refused(source(folder), r"config.json: cannot read the file", load=False)


# --- GGUF


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({"block_count": 2**31}, r"block_count is 2,147,483,648, and its files hold \d+ tensors"),
        ({"embedding_length": 2**31}, "embedding_length is 2,147,483,648"),
        ({"attention.head_count": 2**31}, "head_count is 2,147,483,648"),
        ({"vocab_size": 2**32 - 1}, "vocab_size is 4,294,967,295"),
    ],
)
def test_metadata_are_held_against_the_file(source, tmp_path, metadata, said):
    write_gguf(tmp_path / "m.gguf", **metadata)
    refused(source(tmp_path, gguf_file="m.gguf"), f"m.gguf: {said}", load=False)


def test_a_gguf_file_of_another_architecture(source, tmp_path):
    content = write_gguf(tmp_path / "m.gguf").read_bytes()
    (tmp_path / "m.gguf").write_bytes(content.replace(b"\x05\0\0\0\0\0\0\0llama", b"\x05\0\0\0\0\0\0\0lfm2x", 1))
    refused(source(tmp_path, gguf_file="m.gguf"), "m.gguf: architecture 'lfm2x' is not known; known are gemma2, gpt2")


# --- tokenizers


def model_type(parts):
    parts["model"]["type"] = "BPX"


def far_id(parts):
    parts["model"]["vocab"]["A"] = 2**31


def far_added_id(parts):
    parts["added_tokens"].append({**parts["added_tokens"][0], "content": "zz", "id": 2**31})


def id_without_a_row(parts):
    parts["model"]["vocab"]["A"] = 400


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (model_type, "cannot read its files: .*untagged enum"),
        (far_id, "has a token of id 2,147,483,648, and at most 10,000,000"),
        (far_added_id, "tokenizer.json: it has a token of id 2,147,483,648"),
        (id_without_a_row, "its tokenizer gives token id 400, and the model has 400 rows of embeddings"),
        (lambda parts: parts.pop("added_tokens"), "added_tokens"),
        ("null", "tokenizer.json must hold a JSON object, got NoneType"),
        ("[" * 100_000, "tokenizer.json: cannot read the file"),
    ],
    ids=lambda value: getattr(value, "__name__", None) or str(value),
)
def test_a_malformed_tokenizer(source, changed, change, said):
    refused(source(changed("tokenizer.json", change)), said)


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("tokenizer_config.json", "null", "must hold a JSON object, got NoneType"),
        ("special_tokens_map.json", "-1", "must hold a JSON object, got int"),
        ("added_tokens.json", "[]", "must hold a JSON object, got list"),
        ("added_tokens.json", {"x": 2**31}, "a token of id 2,147,483,648"),
        ("generation_config.json", "null", "must hold a JSON object, got NoneType"),
        ("generation_config.json", {"eos_token_id": "x"}, "eos_token_id must be the id of a token or a list of such"),
        ("tokenizer_config.json", {"tokenizer_class": 5}, "removesuffix"),
        ("tokenizer_config.json", {"added_tokens_decoder": {"x": 5}}, "added_tokens_decoder"),
        ("tokenizer_config.json", {"added_tokens_decoder": {str(2**31): {"content": "zz"}}}, "of id 2,147,483,648"),
        ("tokenizer_config.json", {"model_max_length": "x"}, "not supported between"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_settings_beside_that_are_malformed(source, changed, file, change, said):
    refused(source(changed(file, change)), rf"^(model|tokenizer of) .*model: .*{said}")


def test_a_tokenizer_from_elsewhere_with_an_absurd_configuration(source, saved, changed):
    folder = changed("config.json", {"num_labels": 10**9, "model_type": "bert"})
    refused(source(saved(), tokenizer=str(folder)), r"tokenizer of .*: config.json: num_labels declares 1,000,000,000")


def test_a_tokenizer_that_is_far_too_large(source, changed):
    folder = changed("tokenizer.json", {})
    os.truncate(folder / "tokenizer.json", 2**29)
    refused(source(folder), "tokenizer.json has 536,870,912 bytes, and at most")


class PanicException(BaseException):
    """Has the name that pyo3 gives the exception for a panic of Rust."""


def test_the_noise_of_a_panic_is_dropped_and_all_else_is_kept(capfd, monkeypatch):
    with pytest.raises(PanicException), without_panics():
        os.write(2, b"thread panicked")
        raise PanicException
    with without_panics():
        os.write(2, b"kept")
    assert capfd.readouterr().err == "kept"

    def closed(_):
        raise OSError("bad file descriptor")

    with monkeypatch.context() as patch:
        patch.setattr(os, "dup", closed)  # as in a process without standard error
        with without_panics():
            os.write(2, b"kept")
    assert capfd.readouterr().err == "kept"


def test_a_panic_of_the_library_is_one_line(source, changed, capfd):
    """The tokenizers library panics while encoding where a template names a special token that is missing."""

    def panics(parts):
        parts["post_processor"] = {
            "type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "Q", "type_id": 0}}], "pair": [],
            "special_tokens": {},
        }  # fmt: skip

    refused(source(changed("tokenizer.json", panics)), r"tokenizer of .*: cannot read its files: ")
    assert capfd.readouterr().err == ""
