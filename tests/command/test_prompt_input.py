"""Unusual prompts, tokenizers and chat templates end in a note, or in one line that says why they are refused."""

import csv
import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from tokenizers.processors import TemplateProcessing

from tests.command.conftest import arguments, scores
from tests.command.test_bad_input import refused
from tests.tiny import tiny_tokenizer


@pytest.fixture
def quick(job_options):
    """The small job with one finding, which depends on responses."""
    return {
        **job_options,
        "~findings.concept_rotation": None,
        "~findings.instruction_verbs": None,
        "~findings.attribution_faithfulness": None,
        "response.beside": "null",
    }


def words(job_options, **changes):
    """The arguments of a job; an option that begins with ~ is appended as it is."""
    plain = {key: value for key, value in job_options.items() if not key.startswith("~")}
    return [*arguments(plain, **changes), *(key for key in job_options if key.startswith("~"))]


def with_tokenizers(folders, place, change=lambda tokenizer: None, base=lambda tokenizer: None, template=None):
    """The tiny pair with other tokenizers. change: changes that of tuned; base: changes that of base.

    template: the chat template of both. Returns the changed options.
    """
    for name, make in (("base", base), ("tuned", change)):
        shutil.copytree(folders / name, place / name, dirs_exist_ok=True)
        tokenizer = tiny_tokenizer()
        make(tokenizer)
        if template is not None:
            tokenizer.chat_template = template
        tokenizer.save_pretrained(place / name)
    return {"pair__base": str(place / "base"), "pair__tuned": str(place / "tuned")}


def with_prompts(place, *rows):
    path = place / "given.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return str(path)


def prompt_row(name, text="Write a poem.", spans=((0, 13),), **more):
    return {"id": name, "prompt": text, "instruction": list(map(list, spans)), **more}


def notes_of(job_options):
    return " ".join(scores(job_options["out"])["notes"])


def explained(job_options):
    """The response tokens of every attribution in the store."""
    records = [json.loads(path.read_bytes())["body"] for path in Path(job_options["store.path"]).rglob("record.json")]
    return [record["words"]["response_tokens"] for record in records if "response_tokens" in record["words"]]


def add(*tokens, special=True):
    return lambda tokenizer: tokenizer.add_tokens(list(tokens), special_tokens=special)


@pytest.mark.parametrize("template", ["none", "own"])
def test_a_reference_with_other_token_ids_in_base_is_left_out_of_both_models(
    shiftbench, quick, folders, tmp_path, template
):
    models = with_tokenizers(folders, tmp_path, add("<|end|>"), template="{{ messages[0].content }}\nAnswer:")
    rows = [prompt_row(f"q{i}", response=" the sea") for i in range(3)]
    path = with_prompts(tmp_path, *rows, prompt_row("other", response=" the<|end|>"))
    ran = shiftbench(*words(quick, dataset__path=path, response__mode="reference", template=template, **models))
    assert ran.code == 0, ran.err
    assert "1 prompts have a response that base and tuned spell by different token ids and were left out: other." in (
        notes_of(quick)
    )
    assert [score["n"] for score in scores(quick["out"])["scores"] if score["name"] == "recognition"] == [3]
    assert len(explained(quick)) > 0 and all("end" not in "".join(tokens) for tokens in explained(quick))


@pytest.mark.long
def test_references_that_all_have_other_token_ids_in_base_are_refused_with_a_remedy(
    shiftbench, quick, folders, tmp_path
):
    models = with_tokenizers(folders, tmp_path, add("<|end|>"))
    path = with_prompts(tmp_path, *(prompt_row(f"q{i}", response=" the<|end|>") for i in range(3)))
    job_options = {**quick, "dataset.path": path, "response.mode": "reference"}
    refused(
        shiftbench(*words(job_options, **models)), "q0, q1, q2", f"pair.tuned_model.tokenizer={models['pair__base']}"
    )
    assert not (Path(quick["out"]) / "scores.json").exists()
    ran = shiftbench(*words({**job_options, "pair.tuned_model.tokenizer": models["pair__base"]}, **models))
    assert ran.code == 0, ran.err


def test_a_difference_after_the_explained_tokens_leaves_nothing_out(shiftbench, quick, folders, tmp_path):
    models = with_tokenizers(folders, tmp_path, add("<|end|>"))
    path = with_prompts(tmp_path, *(prompt_row(f"q{i}", response=" the sea" * 9 + "<|end|>") for i in range(3)))
    ran = shiftbench(*words(quick, dataset__path=path, response__mode="reference", **models))
    assert ran.code == 0, ran.err
    assert "different token ids" not in notes_of(quick) and "3 references are longer than 6 tokens" in notes_of(quick)


def test_with_one_template_for_both_models_one_tokenizer_encodes_the_references(shiftbench, quick, folders, tmp_path):
    template = "<|user|>{{ messages[0].content }}<|end|>"
    models = with_tokenizers(folders, tmp_path, add("<|user|>", "<|end|>"), template=template)
    path = with_prompts(tmp_path, *(prompt_row(f"q{i}", response=" the sea<|end|>") for i in range(3)))
    ran = shiftbench(*words(quick, dataset__path=path, response__mode="reference", template="tuned", **models))
    assert ran.code == 0, ran.err
    assert {len(tokens) for tokens in explained(quick)} == {len(tiny_tokenizer()(" the sea")["input_ids"]) + 1}
    assert "left out" not in notes_of(quick)


def begin(tokenizer):
    """Give a tokenizer a beginning-of-text token, which it puts before every text."""
    tokenizer.add_special_tokens({"bos_token": "<s>"})
    number = tokenizer.bos_token_id
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", number)])


@pytest.mark.long
def test_a_prompt_that_contains_the_bos_token_is_noted_and_scored_as_without_it(shiftbench, quick, folders, tmp_path):
    models = with_tokenizers(folders, tmp_path, begin, begin)
    found = []
    for own in ("", "<s>"):
        span = (0, len(own) + 13)
        path = with_prompts(tmp_path, *(prompt_row(f"q{i}", f"{own}Write a poem. {i}", [span]) for i in range(3)))
        ran = shiftbench(*words(quick, dataset__path=path, out=quick["out"] + own[:1].replace("<", "2"), **models))
        assert ran.code == 0, ran.err
        found.append(scores(quick["out"] + own[:1].replace("<", "2")))
    assert found[0]["scores"] == found[1]["scores"]
    notes = [note for note in found[1]["notes"] if note not in found[0]["notes"]]
    assert len(notes) == 1 and notes[0].startswith("3 prompts begin with the beginning-of-text token")


BYTES = "Übersetze naïve Wörter. Input: äöü und mehr"


@pytest.mark.long
def test_spans_in_bytes_are_noted_by_a_run_and_by_a_dry_run(shiftbench, quick, tmp_path):
    stop = len(BYTES[:22].encode())
    path = with_prompts(tmp_path, *(prompt_row(f"q{i}", BYTES, [(0, stop)]) for i in range(3)))
    dry = shiftbench(*words(quick, dataset__path=path, dry_run="true"))
    ran = shiftbench(*words(quick, dataset__path=path))
    assert dry.code == ran.code == 0, ran.err
    for notes in (dry.out, notes_of(quick)):
        assert "3 prompts have a span that begins or ends inside a word" in notes and "not bytes" in notes
    right = with_prompts(tmp_path, *(prompt_row(f"q{i}", BYTES, [(0, 22)]) for i in range(3)))
    assert "inside a word" not in shiftbench(*words(quick, dataset__path=right, dry_run="true")).out


BAD_TEMPLATES = {
    "raises": ("{{ raise_exception('System role required') }}", "System role required"),
    "syntax": ("{% if %}", "Expected an expression"),
    "absent": ("{{ messages[0].tools.first }}", "no attribute 'tools'"),
    "memory": ("{{ 'a' * 6000000000 }}", "memory"),
}


@pytest.mark.parametrize("name", BAD_TEMPLATES)
@pytest.mark.parametrize("mode", ["tuned", "own"])
def test_a_template_that_fails_is_refused_before_weights_are_read(shiftbench, quick, folders, tmp_path, name, mode):
    template, reason = BAD_TEMPLATES[name]
    models = with_tokenizers(folders, tmp_path, template=template)
    file = tmp_path / "base" / "model.safetensors"  # a NaN in it would be reported when weights are read
    weights = load_file(file)
    next(iter(weights.values())).flatten()[0] = float("nan")
    save_file(weights, file, metadata={"format": "pt"})
    model = models["pair__tuned" if mode == "tuned" else "pair__base"]
    ran = shiftbench(*words(quick, template=mode, **models))
    refused(ran, f"the chat template of {model}: ", reason, "use template=none")
    assert "NaN" not in ran.err


@pytest.mark.long
def test_added_tokens_matter_only_where_a_prompt_uses_them(shiftbench, quick, folders, tmp_path):
    models = with_tokenizers(folders, tmp_path, add("<|im_start|>", special=False))
    assert shiftbench(*words(quick, **models)).code == 0
    path = with_prompts(tmp_path, *(prompt_row(f"q{i}", "Write <|im_start|> now.", [(0, 5)]) for i in range(3)))
    hint = f"pair.tuned_model.tokenizer={models['pair__base']}"
    for template in ("none", "own"):
        changed = with_tokenizers(
            folders, tmp_path / template, add("<|im_start|>", special=False), template="{{ messages[0].content }}"
        )
        ran = shiftbench(*words(quick, dataset__path=path, template=template, **changed))
        refused(ran, "'q0'", "different token ids", f"pair.tuned_model.tokenizer={changed['pair__base']}")
    ran = shiftbench(
        *words({**quick, "pair.tuned_model.tokenizer": models["pair__base"]}, dataset__path=path, **models)
    )
    assert ran.code == 0, ran.err + hint


def test_a_word_of_the_vocabulary_that_tuning_added_is_refused(shiftbench, job_options, folders, tmp_path):
    models = with_tokenizers(folders, tmp_path, add(" explain", special=False))
    refused(shiftbench(*arguments(job_options, **models)), "'explain'", "pair.tuned_model.tokenizer=")


def test_the_message_about_different_tokenizers_suggests_the_tokenizer_of_base(
    shiftbench, job_options, folders, tmp_path
):
    models = with_tokenizers(folders, tmp_path, begin)
    refused(
        shiftbench(*arguments(job_options, **models)),
        "different token ids",
        f"pair.tuned_model.tokenizer={models['pair__base']}",
    )


@pytest.mark.parametrize(
    ("row", "part"),
    [
        ('{"id": "b", "prompt": "x", "prompt": "y", "instruction": []}', "key 'prompt' twice"),
        ('{"id": "b", "prompt": "x", "instruction": [[0, ' + "1" * 4301 + "]]}", "not JSON"),
        ('{"id": "b", "prompt": "x\\udc00", "instruction": []}', "surrogate"),
        ('{"id": "b", "prompt": "x", "instruction": ' + "[" * 900 + "]" * 900 + "}", "instruction"),
    ],
)
def test_malformed_lines_of_a_prompt_file_are_refused(shiftbench, job_options, tmp_path, row, part):
    refused(
        shiftbench(*arguments(job_options, dataset__path=with_prompts(tmp_path, prompt_row("a"), row))), "line 2", part
    )


@pytest.mark.long
def test_nul_and_strange_letters_in_prompts_and_ids_do_no_harm(shiftbench, quick, tmp_path):
    names = ["a\0b", "../../x", "é\u2028", "<script>", "x" * 3000]
    path = with_prompts(tmp_path, *(prompt_row(name, f"Write \0 {name[:9]} poem.", [(0, 5)]) for name in names))
    ran = shiftbench(*words(quick, dataset__path=path))
    assert ran.code == 0, ran.err
    with (Path(quick["out"]) / "tables" / "instruction_recognition.prompts.csv").open(encoding="utf-8-sig") as file:
        assert len(list(csv.DictReader(file))) == len(names)
