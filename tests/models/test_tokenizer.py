"""Which tokenizers count as equal, and the first token on which two differ."""

import json
import re

import pytest
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from shiftbench.errors import InputError
from shiftbench.models.tokenizer import can_share_ids, digest, first_difference, require_fast
from tests.tiny import tiny_tokenizer


def changed(change):
    """The tiny tokenizer with its description changed in place by `change`."""
    parts = json.loads(tiny_tokenizer().backend_tokenizer.to_str())
    change(parts)
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(parts)))


def swap(parts):
    vocabulary = parts["model"]["vocab"]
    vocabulary["A"], vocabulary["B"] = vocabulary["B"], vocabulary["A"]


def drop_last_merge(parts):
    parts["model"]["merges"].pop()


def lower_case(parts):
    parts["normalizer"] = {"type": "Lowercase"}


def begin(parts):
    token = {"id": "<|endoftext|>", "ids": [0], "tokens": ["<|endoftext|>"]}
    parts["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {"<|endoftext|>": token},
    }


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (swap, "'A' in base and 'B' in tuned"),
        (lower_case, "'W"),
        (begin, "token 0 is .* in base and .*endoftext"),
        (drop_last_merge, "in base and"),
    ],
)
def test_the_first_difference_is_named(change, named):
    base, tuned = tiny_tokenizer(), changed(change)
    found = first_difference(base, tuned)
    assert found is not None and re.search(named, found), found
    assert digest(base) != digest(tuned)


def test_a_tokenizer_and_itself():
    assert first_difference(tiny_tokenizer(), tiny_tokenizer()) is None
    assert digest(tiny_tokenizer()) == digest(tiny_tokenizer())


@pytest.mark.parametrize("special", [True, False])
def test_tokens_that_the_tuned_one_adds_are_no_difference(special):
    tuned = tiny_tokenizer()
    tuned.add_tokens(["<|user|>", "<|assistant|>"], special_tokens=special)
    assert first_difference(tiny_tokenizer(), tuned) is None
    assert "'<|user|>' in base and None in tuned" in first_difference(tuned, tiny_tokenizer())


def test_an_added_word_is_no_difference_by_itself_and_other_texts_must_keep_their_ids():
    tuned = tiny_tokenizer()
    tuned.add_tokens(["robot"])
    assert first_difference(tiny_tokenizer(), tuned) is None  # though a probe text holds "robots"
    other = changed(lower_case)
    other.add_tokens(["robot"])
    assert first_difference(tiny_tokenizer(), other).startswith('in "def f(x):')


def test_a_token_in_the_vocabulary_itself_is_a_difference():
    def learned(parts):
        parts["model"]["vocab"]["robot"] = max(parts["model"]["vocab"].values()) + 1

    assert "None in base and 'robot' in tuned" in first_difference(tiny_tokenizer(), changed(learned))


def test_base_ids_may_be_right_for_both_where_no_id_means_two_tokens():
    tuned = tiny_tokenizer()
    tuned.add_tokens(["robot"])
    assert can_share_ids(tiny_tokenizer(), tuned) and can_share_ids(tiny_tokenizer(), changed(begin))
    assert not can_share_ids(tiny_tokenizer(), changed(swap))


def test_the_same_ids_by_another_description_are_no_difference():
    def wrapped(parts):
        parts["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [parts["pre_tokenizer"]]}

    assert first_difference(tiny_tokenizer(), changed(wrapped)) is None


def test_use_and_template_are_not_in_the_digest():
    used = tiny_tokenizer()
    used(["a", "a longer text"], padding=True, truncation=True, max_length=2)
    used.chat_template = "{{ messages }}"
    assert digest(used) == digest(tiny_tokenizer())


def test_a_tokenizer_without_offsets_is_refused():
    class Slow:
        pass

    with pytest.raises(InputError, match=r"the tokenizer \(Slow\) gives no character offsets"):
        require_fast(Slow(), "the tokenizer")
