"""Prompt: a text, where its instruction stands, and how characters become tokens."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from shiftbench.errors import InputError
from shiftbench.readers import reading
from shiftbench.readers.templates import INSTEAD, rendered
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
    spells_prefix: whether the prompt's own text begins with those special tokens. They are in front once all the same.
    """

    prompt: Prompt
    text: str  # as the model sees it: the prompt, inside a chat template where one is used
    prefix_ids: tuple[int, ...]
    prompt_ids: tuple[int, ...]
    tokens: tuple[str, ...]
    instruction_P: Tensor
    context_P: Tensor
    key_P: Tensor
    spells_prefix: bool = False

    def response_ids(self, tokenizer: PreTrainedTokenizerBase, response: str) -> tuple[int, ...]:
        """Ids of a response given as text: tokenizer(prompt + response) cut at tokenizer(prompt).

        Where the prompt's ids are not a prefix of the joint ids, the response is tokenized apart.
        """
        with _tokenizing(tokenizer, f"the response to prompt {self.prompt.id!r}"):
            whole = tuple(tokenizer(self.text + response, add_special_tokens=False)["input_ids"])
            alone = tuple(tokenizer(self.text, add_special_tokens=False)["input_ids"])
            if whole[: len(alone)] == alone:
                return whole[len(alone) :]
            return tuple(tokenizer(response, add_special_tokens=False)["input_ids"])


@dataclass(frozen=True)
class Placed:
    """A prompt's text in a chat template. place: where the prompt begins in it; kept: which of the prompt's characters
    are there; spells_prefix: as of an EncodedPrompt."""

    text: str
    place: int
    kept: Span
    spells_prefix: bool = False


def encode(prompt: Prompt, tokenizer: PreTrainedTokenizerBase, template: str | None = None) -> EncodedPrompt:
    """One prompt, as `encode_all` gives many."""
    return encode_all([prompt], tokenizer, template, tokenizer.name_or_path or type(tokenizer).__name__)[0]


def encode_all(
    prompts: Sequence[Prompt], tokenizer: PreTrainedTokenizerBase, template: str | None, name: str
) -> list[EncodedPrompt]:
    """Tokens of prompts and their spans as token masks.

    template: a Jinja chat template around each prompt, or None for the bare text. Its tokens are in P, never in a span.
    name: of the model, for messages. A prompt whose text begins with the special tokens that the tokenizer puts in
    front of every text gets them once, in prefix_ids.
    Raises InputError where the tokenizer gives no offsets or fails, and as `placed` does.
    """
    if not tokenizer.is_fast:
        raise InputError(
            f"tokenizer {type(tokenizer).__name__} gives no character offsets; convert it to a fast tokenizer"
        )
    # A template writes its own beginning of text; a bare prompt gets what the tokenizer puts in front.
    prefix = () if template is not None else special_prefix(tokenizer)
    if template is None:
        texts = [Placed(prompt.text, 0, (0, len(prompt.text))) for prompt in prompts]
    else:
        texts = placed(prompts, tokenizer, template, name)
    return [_encoded(prompt, text, tokenizer, prefix) for prompt, text in zip(prompts, texts, strict=True)]


def _encoded(
    prompt: Prompt, placed: Placed, tokenizer: PreTrainedTokenizerBase, prefix: tuple[int, ...]
) -> EncodedPrompt:
    with _tokenizing(tokenizer, f"prompt {prompt.id!r}"):
        found = tokenizer(placed.text, add_special_tokens=False, return_offsets_mapping=True)
        ids, offsets = tuple(found["input_ids"]), found["offset_mapping"]
    spells_prefix = bool(prefix) and ids[: len(prefix)] == prefix
    if spells_prefix:
        ids, offsets = ids[len(prefix) :], offsets[len(prefix) :]

    def mask(spans: Sequence[Span]) -> Tensor:
        return token_mask(placed.text, offsets, _moved(spans, placed.kept, placed.place))

    return EncodedPrompt(
        prompt=prompt,
        text=placed.text,
        prefix_ids=prefix,
        prompt_ids=ids,
        tokens=token_texts(tokenizer, ids),
        instruction_P=mask(prompt.instruction_spans),
        context_P=mask(prompt.context_spans),
        key_P=mask(prompt.key_spans or content_words(prompt)),
        spells_prefix=spells_prefix or placed.spells_prefix,
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
    with _tokenizing(tokenizer, "'a'"):
        with_special = tokenizer("a")["input_ids"]
        bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    for cut in range(len(with_special)):
        if with_special[cut : cut + len(bare)] == bare:
            return tuple(with_special[:cut])
    return ()


def token_texts(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> tuple[str, ...]:
    """What each token spells; a byte that is part of a character is shown as its replacement character."""
    return tuple(tokenizer.decode([i], clean_up_tokenization_spaces=False) for i in ids)


def placed(prompts: Sequence[Prompt], tokenizer: PreTrainedTokenizerBase, template: str, name: str) -> list[Placed]:
    """Each prompt inside a chat template, all rendered in one child process.

    name: of the model whose template it is. A prompt that begins with the beginning-of-text token loses it where the
    template writes it in front, so that the text has it once. Raises InputError where the template cannot be rendered
    or does not contain the text of a prompt.
    """
    # A stand-in shows the place: the prompt's own words may stand in the template too.
    frame, *texts = rendered([STAND_IN, *(prompt.text for prompt in prompts)], tokenizer, template, name)
    place, beginning = frame.find(STAND_IN), _beginning(tokenizer)
    written = bool(beginning) and place > 0 and frame.startswith(beginning)
    starts = [len(beginning) if written and prompt.text.startswith(beginning) else 0 for prompt in prompts]
    if any(starts):
        without = [prompt.text[start:] for prompt, start in zip(prompts, starts, strict=True)]
        texts = rendered(without, tokenizer, template, name)
    found = []
    for prompt, text, start in zip(prompts, texts, starts, strict=True):
        fitting = [kept for kept in _kept(prompt.text, start) if text.startswith(prompt.text[slice(*kept)], place)]
        if place < 0 or not fitting:
            raise InputError(f"the chat template of {name} changes the text of prompt {prompt.id!r}; {INSTEAD}")
        found.append(Placed(text, place, fitting[0], start > 0))
    return found


def _kept(text: str, start: int) -> list[Span]:
    """What a template may keep of a text from a character on: all of it, or what is left without white space around."""
    rest = text[start:]
    lead = start + len(rest) - len(rest.lstrip())
    return [(start, len(text)), (lead, lead + len(rest.strip()))]


def _beginning(tokenizer: PreTrainedTokenizerBase) -> str:
    """The text of the special tokens that the tokenizer puts in front, else of its beginning-of-text token, or none."""
    prefix = special_prefix(tokenizer)
    return "".join(tokenizer.convert_ids_to_tokens(list(prefix))) if prefix else str(tokenizer.bos_token or "")


def _tokenizing(tokenizer: PreTrainedTokenizerBase, what: str) -> AbstractContextManager[None]:
    """A tokenizer that was read may still fail on a text: its files can name a token that they do not hold."""
    return reading(f"the tokenizer of {tokenizer.name_or_path or type(tokenizer).__name__} fails on {what}")


def _moved(spans: Sequence[Span], kept: Span, place: int) -> list[Span]:
    """Spans of a prompt as spans of its text in a template, without what the template trimmed."""
    clipped = ((max(start, kept[0]), min(stop, kept[1])) for start, stop in spans)
    return [(start - kept[0] + place, stop - kept[0] + place) for start, stop in clipped if start < stop]
