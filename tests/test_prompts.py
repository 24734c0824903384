"""Spans reach tokens, templates shift them, and what cannot be a span is refused."""

import pytest

from shiftbench.errors import InputError
from shiftbench.prompts import Prompt, encode, special_prefix
from tests.tiny import tiny_tokenizer

TEMPLATE = (
    "{% for m in messages %}User: {{ m['content'] }}\n{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


@pytest.mark.parametrize("span", [(0, 40), (12, 5), (3, 3), (-2, 3)])
def test_a_span_outside_its_prompt_is_refused(span):
    with pytest.raises(InputError, match="prompt 'lima_17'"):
        Prompt("lima_17", "Write a short poem.", (span,))


def test_span_tokens_spell_the_span(tokenizer):
    text = "Translate to French.\n\nInput: good morning\n\nOutput:"
    start = text.index("good")
    encoded = encode(Prompt("p", text, ((0, 20),), ((start, start + 12),)), tokenizer)
    spelled = "".join(t for t, on in zip(encoded.tokens, encoded.instruction_P.tolist(), strict=True) if on)
    context = "".join(t for t, on in zip(encoded.tokens, encoded.context_P.tolist(), strict=True) if on)
    assert spelled.strip() == "Translate to French."
    assert context.strip() == "good morning"
    assert not (encoded.instruction_P & encoded.context_P).any()
    assert "".join(encoded.tokens) == text


def test_every_byte_token_of_a_character_belongs_to_its_span(tokenizer):
    text = "Say 漢 now"
    place = text.index("漢")
    encoded = encode(Prompt("p", text, ((place, place + 1),)), tokenizer)
    inside = [i for i, on in enumerate(encoded.instruction_P.tolist()) if on]
    assert tokenizer.decode([encoded.prompt_ids[i] for i in inside]).strip() == "漢"


def test_white_space_alone_is_in_no_span(tokenizer):
    text = "A \n\n B"
    encoded = encode(Prompt("p", text, ((1, 5),)), tokenizer)
    assert not encoded.instruction_P.any()


def test_a_template_is_in_the_prompt_but_in_no_span(tokenizer):
    bare = Prompt("p", "  Write a poem.", ((2, 15),))
    encoded = encode(bare, tokenizer, TEMPLATE)
    spelled = "".join(t for t, on in zip(encoded.tokens, encoded.instruction_P.tolist(), strict=True) if on)
    assert spelled.strip() == "Write a poem."
    assert encoded.text.startswith("User:") and encoded.text.endswith("Assistant:")
    assert encoded.prefix_ids == ()


TRIMMING = "{% for m in messages %}[INST] {{ m['content'].strip() }} [/INST]{% endfor %}"
ROLES = "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}\n<|assistant|>{% endfor %}"


@pytest.mark.parametrize(
    ("text", "template"),
    [("\n\n\nWrite a poem.", TRIMMING), ("Write a poem.  \n\n\n", TRIMMING), ("user", ROLES), ("assistant", ROLES)],
)
def test_a_span_over_the_whole_prompt_marks_the_prompt_and_no_template(tokenizer, text, template):
    encoded = encode(Prompt("p", text, ((0, len(text)),)), tokenizer, template)
    marked = [i for i, on in enumerate(encoded.instruction_P.tolist()) if on]
    # A token may reach over the border where the tokenizer joins them; nothing beyond that token is marked.
    spelled = "".join(encoded.tokens[i] for i in marked)
    assert text.strip() in spelled and len(spelled) <= len(text.strip()) + 2
    before = "".join(encoded.tokens[: marked[0]])
    assert len(before) <= encoded.text.index("\n" if template is ROLES else " ") + 1


def test_a_template_that_rewrites_the_text_is_refused(tokenizer):
    shouting = "{% for m in messages %}{{ m['content'] | upper }}{% endfor %}"
    with pytest.raises(InputError, match="changes the text of prompt 'p'"):
        encode(Prompt("p", "Write a poem.", ((0, 5),)), tokenizer, shouting)


def test_response_ids_follow_the_prompt_in_the_joint_text(tokenizer):
    encoded = encode(Prompt("p", "Write a poem.", ((0, 5),)), tokenizer)
    ids = encoded.response_ids(tokenizer, " The sky is blue.")
    assert tokenizer.decode(list(ids)) == " The sky is blue."
    joint = tokenizer("Write a poem. The sky is blue.", add_special_tokens=False)["input_ids"]
    assert list(encoded.prompt_ids + ids) == joint


def test_a_tokenizer_without_special_tokens_has_no_prefix(tokenizer):
    assert special_prefix(tokenizer) == ()
