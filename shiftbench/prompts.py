"""Prompt: a text, where its instruction stands, and how characters become tokens."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from shiftbench.errors import InputError
from shiftbench.words import word_lists

Span = tuple[int, int]  # characters [start, stop)
WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*")
STAND_IN = "\ue000shiftbench\ue001"  # private-use characters: in no template


@dataclass(frozen=True)
class Prompt:
    """A text given to a model, with the characters that state the task and those that are its material.

    key_spans: of the instruction, what the answer hangs on; empty: its words that are not of a closed class.
    skill: the type of skill that it asks for, by which mixtures of instructions are compared; no result depends on it.
    """

    id: str
    text: str
    instruction_spans: tuple[Span, ...]
    context_spans: tuple[Span, ...] = ()
    reference: str | None = None  # the response to explain in response mode 'reference'
    key_spans: tuple[Span, ...] = ()
    skill: str | None = None

    def __post_init__(self) -> None:
        kinds = {"instruction": self.instruction_spans, "context": self.context_spans, "key": self.key_spans}
        for kind, spans in kinds.items():
            for start, stop in spans:
                if stop > len(self.text):
                    raise InputError(
                        f"{kind} span [{start}, {stop}) ends beyond prompt {self.id!r} ({len(self.text)} characters)"
                    )
                if not 0 <= start < stop:
                    raise InputError(f"{kind} span [{start}, {stop}) of prompt {self.id!r} is empty or negative")


@dataclass(frozen=True)
class EncodedPrompt:
    """A prompt's tokens, ready for a response.

    prefix_ids: special tokens that the tokenizer puts in front; they take part in the forward pass, not in P.
    prompt_ids: the P prompt tokens, a chat template's included.
    instruction_P, context_P, key_P: bool [P], the tokens that spell any visible part of a span.
    """

    prompt: Prompt
    text: str  # as the model sees it: the prompt, inside a chat template where one is used
    prefix_ids: tuple[int, ...]
    prompt_ids: tuple[int, ...]
    tokens: tuple[str, ...]
    instruction_P: Tensor
    context_P: Tensor
    key_P: Tensor

    def response_ids(self, tokenizer: PreTrainedTokenizerBase, response: str) -> tuple[int, ...]:
        """Ids of a response given as text: tokenizer(prompt + response) cut at tokenizer(prompt).

        Where the prompt's ids are not a prefix of the joint ids, the response is tokenized apart.
        """
        whole = tuple(tokenizer(self.text + response, add_special_tokens=False)["input_ids"])
        alone = tuple(tokenizer(self.text, add_special_tokens=False)["input_ids"])
        if whole[: len(alone)] == alone:
            return whole[len(alone) :]
        return tuple(tokenizer(response, add_special_tokens=False)["input_ids"])


def encode(prompt: Prompt, tokenizer: PreTrainedTokenizerBase, template: str | None = None) -> EncodedPrompt:
    """Tokens of a prompt and its spans as token masks.

    template: a Jinja chat template around the prompt, or None for the bare text. Its tokens are in P, never in a span.
    Raises InputError where the tokenizer gives no offsets or the template does not contain the prompt's text.
    """
    if not tokenizer.is_fast:
        raise InputError(
            f"tokenizer {type(tokenizer).__name__} gives no character offsets; convert it to a fast tokenizer"
        )
    text, place, kept = prompt.text, 0, (0, len(prompt.text))
    if template is not None:
        text, place, kept = _templated(prompt, tokenizer, template)
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids, offsets = tuple(found["input_ids"]), found["offset_mapping"]
    # A template writes its own beginning of text; a bare prompt gets what the tokenizer puts in front.
    prefix = () if template is not None else special_prefix(tokenizer)

    def mask(spans: Sequence[Span]) -> Tensor:
        return token_mask(text, offsets, _moved(spans, kept, place))

    return EncodedPrompt(
        prompt=prompt,
        text=text,
        prefix_ids=prefix,
        prompt_ids=ids,
        tokens=token_texts(tokenizer, ids),
        instruction_P=mask(prompt.instruction_spans),
        context_P=mask(prompt.context_spans),
        key_P=mask(prompt.key_spans or content_words(prompt)),
    )


def content_words(prompt: Prompt) -> list[Span]:
    """The words of the instruction that are not of a closed class (articles, pronouns, prepositions, auxiliaries)."""
    closed = set(word_lists()["closed"])
    return [
        found.span()
        for start, stop in prompt.instruction_spans
        for found in WORD.finditer(prompt.text, start, stop)
        if found[0].lower() not in closed
    ]


def token_mask(text: str, offsets: Sequence[Span], spans: Sequence[Span]) -> Tensor:
    """bool [P]: the tokens that spell any visible character of a span; white space alone does not count."""
    visible = [False] * len(text)
    for start, stop in spans:
        for i in range(max(start, 0), min(stop, len(text))):
            visible[i] = not text[i].isspace()
    return torch.tensor([any(visible[start:stop]) for start, stop in offsets], dtype=torch.bool)


def special_prefix(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """The special tokens that the tokenizer puts in front of a text (BOS, or none)."""
    with_special = tokenizer("a")["input_ids"]
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    for cut in range(len(with_special)):
        if with_special[cut : cut + len(bare)] == bare:
            return tuple(with_special[:cut])
    return ()


def token_texts(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> tuple[str, ...]:
    """What each token spells; a byte that is part of a character is shown as its replacement character."""
    return tuple(tokenizer.decode([i], clean_up_tokenization_spaces=False) for i in ids)


def _templated(prompt: Prompt, tokenizer: PreTrainedTokenizerBase, template: str) -> tuple[str, int, Span]:
    """(text inside its template, where the prompt begins in it, which of the prompt's characters are left)."""

    def rendered(content: str) -> str:
        message = [{"role": "user", "content": content}]
        made = tokenizer.apply_chat_template(
            message, chat_template=template, tokenize=False, add_generation_prompt=True
        )
        return str(made)

    # A stand-in shows the place: the prompt's own words may stand in the template too.
    text, place = rendered(prompt.text), rendered(STAND_IN).find(STAND_IN)
    stripped = prompt.text.strip()  # what templates do to the text they are given
    lead = len(prompt.text) - len(prompt.text.lstrip())
    for kept in ((0, len(prompt.text)), (lead, lead + len(stripped))):
        if place >= 0 and text.startswith(prompt.text[slice(*kept)], place):
            return text, place, kept
    raise InputError(f"the chat template changes the text of prompt {prompt.id!r}; use template=none")


def _moved(spans: Sequence[Span], kept: Span, place: int) -> list[Span]:
    """Spans of a prompt as spans of its text in a template, without what the template trimmed."""
    clipped = ((max(start, kept[0]), min(stop, kept[1])) for start, stop in spans)
    return [(start - kept[0] + place, stop - kept[0] + place) for start, stop in clipped if start < stop]
