"""Spans reach tokens, templates shift them, and what cannot be a span is refused."""

import json
import os
import time

import pytest
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from shiftbench.api import attribute
from shiftbench.errors import InputError
from shiftbench.prompts import Prompt, encode, encode_all
from shiftbench.prompts.special_tokens import special_prefix
from shiftbench.prompts.templates import in_template
from shiftbench.readers import templates
from tests.tiny import END_OF_TEXT, tiny_module, tiny_tokenizer

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


@pytest.mark.parametrize(
    ("trim", "kept"),
    [("", " \n Write a poem. \n"), (".rstrip()", " \n Write a poem."), (".lstrip()", "Write a poem. \n"),
     (".strip()", "Write a poem.")],
)  # fmt: skip
def test_a_template_may_trim_either_end(tokenizer, trim, kept):
    text, template = " \n Write a poem. \n", TRIMMING.replace(".strip()", trim)
    (placed,) = in_template([Prompt("p", text, ((3, 8),))], tokenizer, template, "M")
    assert text[slice(*placed.kept)] == kept
    assert placed.text == f"[INST] {kept} [/INST]" and placed.place == len("[INST] ")
    encoded = encode(Prompt("p", text, ((3, 8),)), tokenizer, template)
    assert spelled(encoded, encoded.instruction_P).strip() == "Write"


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


def beginning():
    """The tiny tokenizer with a beginning-of-text token that it puts in front of every text."""
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"bos_token": "<s>"})
    number = tokenizer.bos_token_id
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", number)])
    assert tokenizer("a")["input_ids"][0] == number == special_prefix(tokenizer)[0]
    return tokenizer


def spelled(encoded, mask_P):
    return "".join(token for token, on in zip(encoded.tokens, mask_P.tolist(), strict=True) if on)


def test_a_prompt_that_begins_with_bos_has_it_once_and_not_as_a_prompt_token():
    tokenizer = beginning()
    bare = encode(Prompt("p", "Write a poem. Input: sea", ((0, 13),), ((21, 24),)), tokenizer)
    begun = encode(Prompt("p", "<s>Write a poem. Input: sea", ((0, 16),), ((24, 27),)), tokenizer)
    assert (begun.prefix_ids, begun.prompt_ids, begun.tokens) == (bare.prefix_ids, bare.prompt_ids, bare.tokens)
    assert spelled(begun, begun.instruction_P) == "Write a poem." and spelled(begun, begun.context_P).strip() == "sea"
    assert (bare.spells_prefix, begun.spells_prefix) == (False, True)
    assert begun.response_ids(tokenizer, " The sky.") == bare.response_ids(tokenizer, " The sky.")


def test_an_attribution_of_a_prompt_with_its_own_bos_is_that_of_the_prompt_without():
    module, tokenizer = tiny_module("llama"), beginning()
    bare, begun = (attribute(module, tokenizer, text, " The sky.") for text in ("Write it.", "<s>Write it."))
    assert begun.prompt_tokens == bare.prompt_tokens and begun.importance_PR.equal(bare.importance_PR)


def test_a_prompt_of_nothing_but_bos_has_no_token():
    assert encode(Prompt("p", "<s>", ()), beginning()).prompt_ids == ()


def test_a_beginning_of_text_that_nobody_puts_in_front_stays_a_prompt_token(tokenizer):
    encoded = encode(Prompt("p", f"{END_OF_TEXT}Write a poem.", ((0, 10),)), tokenizer)
    assert encoded.tokens[0] == END_OF_TEXT and encoded.prefix_ids == () and not encoded.spells_prefix


@pytest.mark.parametrize(("own", "count"), [("{{ bos_token }}", 1), ("", 1)])
def test_bos_stands_once_in_front_of_a_templated_prompt(own, count):
    tokenizer = beginning()
    template = own + TEMPLATE
    plain = encode(Prompt("p", "Write a poem.", ((0, 13),)), tokenizer, template)
    begun = encode(Prompt("p", "<s>Write a poem.", ((0, 16),)), tokenizer, template)
    assert begun.prefix_ids == () and list(begun.prompt_ids).count(tokenizer.bos_token_id) == count
    assert begun.spells_prefix is bool(own)
    if own:  # the template's own stays, the prompt's goes
        assert (begun.text, begun.prompt_ids) == (plain.text, plain.prompt_ids)
        assert begun.instruction_P.equal(plain.instruction_P)


def test_many_prompts_in_one_template_take_one_child_process_and_give_what_each_gives_alone(tokenizer, monkeypatch):
    forks, fork = [], os.fork
    monkeypatch.setattr(os, "fork", lambda: forks.append(1) or fork())
    prompts = [Prompt(f"{i}", f"  Write {i} é 漢\u2028 poem.\n", ((2, 9),)) for i in range(50)]
    together = encode_all(prompts, tokenizer, TRIMMING, "M")
    assert len(forks) == 1
    for prompt, one in zip(prompts[:3], together, strict=False):
        alone = encode(prompt, tokenizer, TRIMMING)
        message = [{"role": "user", "content": prompt.text}]
        direct = tokenizer.apply_chat_template(
            message, chat_template=TRIMMING, tokenize=False, add_generation_prompt=True
        )
        assert one.text == alone.text == direct and one.prompt_ids == alone.prompt_ids
        assert one.instruction_P.equal(alone.instruction_P)


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ raise_exception('System role required') }}", "System role required"),
        ("{% for m in messages %}{{ m.content }}", "Unexpected end of template"),
        ("{{ nothing.here }}", "'nothing' is undefined"),
        ("{{ messages[0].content | nofilter }}", "nofilter"),
        ("{{ messages[9].content }}{{ 1 // 0 }}", "ZeroDivisionError|zero|no element"),
        ("{{ 'a' * 6000000000 }}", "it takes too much memory|makes more than"),
        ("{{ 9 ** (9 ** 9) }}", "does not end within"),
        (
            "{% for i in range(99999) %}{% for j in range(99999) %}{% for k in range(99999) %}{% endfor %}"
            "{% endfor %}{% endfor %}",
            "does not end within",
        ),
        ("{% for i in range(9999) %}{{ 'a' * 9999 }}{% endfor %}", "makes more than"),
    ],
)
def test_a_template_that_fails_or_never_ends_is_one_refusal_that_says_whose_it_is(
    tokenizer, monkeypatch, template, reason
):
    monkeypatch.setattr(templates, "SECONDS", 1.0)
    began = time.monotonic()
    with pytest.raises(InputError, match=f"^the chat template of M: .*({reason}).*; use template=none$"):
        encode_all([Prompt("p", "Write a poem.", ())], tokenizer, template, "M")
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("found", [7, ["a"], {"default": 3}])
def test_a_template_that_is_no_text_is_refused(tokenizer, found):
    class Holder:
        chat_template = found

    with pytest.raises(InputError, match=r"^the chat template of M: it is no text but \w+; use template=none$"):
        templates.chat_template(Holder(), "M")


def test_a_tokenizer_that_fails_on_a_text_is_named_with_the_text():
    parts = {
        **json.loads(tiny_tokenizer().backend_tokenizer.to_str()),
        "model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "[UNK]"},
        "added_tokens": [],
    }
    broken = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(parts)))
    with pytest.raises(InputError, match=r"^the tokenizer of .* fails on prompt 'p': .*UNK"):
        encode(Prompt("p", "Write a poem.", ()), broken)
