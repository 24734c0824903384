"""Key parts are the words that carry the task, and what is masked is what is said."""

import pytest
import torch

from shiftbench.contracts.explainer import Inputs
from shiftbench.errors import InputError
from shiftbench.explain.key_parts import KeyParts
from shiftbench.prompts import Prompt, encode
from shiftbench.prompts.prompt import content_words
from tests import reference


def asked(model, key=(), text="Translate the word into French: le chat"):
    prompt = encode(Prompt("a", text, ((0, 31),), ((32, 39),), key_spans=key), model.tokenizer)
    return prompt, tuple(model.tokenizer(" the cat")["input_ids"])


def explained(model, *prompts, **change):
    method = KeyParts(**{"draws": 3, "seed": 0, "memory": 64, **change})
    return [item.compute() for item in method.work(model, Inputs(prompts, None, None))]


def test_key_parts_are_words_of_the_instruction_that_are_of_no_closed_class():
    prompt = Prompt("a", "Don't write it in the user's well-known style. cats", ((0, 46),))
    assert [prompt.text[a:b] for a, b in content_words(prompt)] == ["Don't", "write", "user's", "well-known", "style"]


def test_spans_that_are_given_come_before_words_that_are_found(llama):
    found, _ = asked(llama)
    given, _ = asked(llama, key=((19, 23),))
    assert 0 < int(given.key_P.sum()) < int(found.key_P.sum()) and bool((found.instruction_P | ~found.key_P).all())


def test_probabilities_are_those_of_the_masked_prompt(llama64):
    prompt, response = asked(llama64)
    (unit,) = explained(llama64, (prompt, response))
    names, masked_MP = KeyParts(3, 0, 64)._named_masks(prompt)
    assert unit.words["masks"] == names == ["nothing", "key parts", "random 1", "random 2", "random 3"]
    assert torch.equal(masked_MP[1], prompt.key_P)
    for mask_P, value in zip(masked_MP, unit.arrays["log_M"].tolist(), strict=True):
        log_R = reference.masked_log_probability(llama64.module, prompt.prefix_ids, prompt.prompt_ids, response, mask_P)
        assert value == pytest.approx(float(log_R.mean()), rel=1e-5)
    assert unit.arrays["tokens_2"].tolist() == [int(prompt.key_P.sum()), len(prompt.prompt_ids)]


def test_random_masks_are_as_large_of_other_tokens_and_the_prompts_own(llama):
    prompt, _ = asked(llama, key=((0, 9),))
    _, masked_MP = KeyParts(8, 0, 64)._named_masks(prompt)
    assert not (masked_MP[2:] & prompt.key_P).any()
    assert (masked_MP[2:].sum(1) == prompt.key_P.sum()).all()
    assert torch.equal(masked_MP, KeyParts(8, 0, 64)._named_masks(prompt)[1])
    assert not torch.equal(masked_MP, KeyParts(8, 1, 64)._named_masks(prompt)[1])


def test_the_key_says_which_parts_are_key(llama):
    keys = {
        item.key
        for key in ((), ((0, 9),), ((10, 13),))
        for item in KeyParts(2, 0, 64).work(llama, Inputs([asked(llama, key)], None, None))
    }
    assert len(keys) == 3


def test_what_has_no_key_part_or_no_response_is_left_out(llama):
    prompt, response = asked(llama)
    whole = encode(Prompt("b", "Translate", ((0, 9),)), llama.tokenizer)
    assert bool(whole.key_P.all())
    assert explained(llama, (prompt, ()), (whole, response)) == []


def test_no_draw_is_refused():
    with pytest.raises(InputError, match="draws=0 must be a whole number of at least 1"):
        KeyParts(0, 0, 64)


def test_random_masks_keep_to_instruction_and_context_where_they_hold_enough(llama):
    text = "Translate the word into French: le chat noir\n\nOutput:"
    few = encode(Prompt("a", text, ((0, 31),), ((32, 44),), key_spans=((0, 9),)), llama.tokenizer)
    many = encode(Prompt("a", text, ((0, 31),), (), key_spans=((0, 31),)), llama.tokenizer)
    within_P = few.instruction_P | few.context_P
    assert not (KeyParts(8, 0, 64)._named_masks(few)[1][2:] & ~within_P).any() and not within_P.all()
    assert KeyParts(8, 0, 64)._named_masks(many)[1][2:].any()  # outside, where nothing is left within


def test_the_estimate_counts_the_masks_that_are_made(llama):
    prompt, _ = asked(llama)
    method = KeyParts(5, 0, 64)
    assert method._mask_count() == len(method._named_masks(prompt)[0])
