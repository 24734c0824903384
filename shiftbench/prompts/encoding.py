"""Prompts as token ids, with their spans as masks over tokens and the special tokens in front."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from shiftbench.errors import InputError
from shiftbench.prompts.prompt import Prompt, Span, content_words
from shiftbench.prompts.special_tokens import special_prefix, tokenizing
from shiftbench.prompts.templates import Placed, in_template


@dataclass(frozen=True)
class EncodedPrompt:
    """A prompt as token ids.

    text: the text that the model gets: the prompt, inside a chat template where one is used.
    prefix_ids: the special tokens that the tokenizer puts in front. The model gets them, but they are no prompt tokens.
    prompt_ids: the P prompt tokens, those of a chat template included. tokens: the text of each prompt token.
    instruction_P, context_P, key_P: bool [P], whether a token contains a character of one of the prompt's instruction,
    context or key spans; white space is not counted. key_P marks the instruction's content words where the prompt has
    no key spans.
    spells_prefix: whether the prompt's own text begins with the special tokens that the tokenizer or the chat template
    puts in front. The model then gets them once, not twice.
    """

    prompt: Prompt
    text: str
    prefix_ids: tuple[int, ...]
    prompt_ids: tuple[int, ...]
    tokens: tuple[str, ...]
    instruction_P: Tensor
    context_P: Tensor
    key_P: Tensor
    spells_prefix: bool = False

    def response_ids(self, tokenizer: PreTrainedTokenizerBase, response: str) -> tuple[int, ...]:
        """Token ids of a response given as text: those ids of prompt + response that follow the ids of the prompt.

        Where the ids of prompt + response do not begin with the ids of the prompt, the response is tokenized alone.
        Raises InputError where the tokenizer fails.
        """
        with tokenizing(tokenizer, f"the response to prompt {self.prompt.id!r}"):
            whole = tuple(tokenizer(self.text + response, add_special_tokens=False)["input_ids"])
            alone = tuple(tokenizer(self.text, add_special_tokens=False)["input_ids"])
            if whole[: len(alone)] == alone:
                return whole[len(alone) :]
            return tuple(tokenizer(response, add_special_tokens=False)["input_ids"])


def encode(prompt: Prompt, tokenizer: PreTrainedTokenizerBase, template: str | None = None) -> EncodedPrompt:
    """One prompt as token ids, with its spans as token masks.

    template: a Jinja chat template to put the prompt into; None: the prompt's text alone. Raises InputError as
    `encode_all` does; messages name the tokenizer instead of a model.
    """
    return encode_all([prompt], tokenizer, template, tokenizer.name_or_path or type(tokenizer).__name__)[0]


def encode_all(
    prompts: Sequence[Prompt], tokenizer: PreTrainedTokenizerBase, template: str | None, name: str
) -> list[EncodedPrompt]:
    """Prompts as token ids, with their spans as token masks; in the order of `prompts`.

    template: a Jinja chat template to put each prompt into, or None for the prompt's text alone. The template's tokens
    are prompt tokens, but in no span. prefix_ids is empty then, because a template writes its own special tokens.
    Without a template, where a prompt's text begins with the special tokens that the tokenizer puts in front of every
    text, their ids are in prefix_ids only, not in prompt_ids too. name: the model's name, for messages.
    Raises InputError where the tokenizer gives no character offsets or fails on a prompt, and as `in_template` does.
    """
    if not tokenizer.is_fast:
        raise InputError(
            f"tokenizer {type(tokenizer).__name__} gives no character offsets; convert it to a fast tokenizer"
        )
    # A template writes its own beginning-of-text token, so special tokens are put in front only without a template.
    prefix = () if template is not None else special_prefix(tokenizer)
    if template is None:
        texts = [Placed(prompt.text, 0, (0, len(prompt.text))) for prompt in prompts]
    else:
        texts = in_template(prompts, tokenizer, template, name)
    return [_encoded(prompt, text, tokenizer, prefix) for prompt, text in zip(prompts, texts, strict=True)]


def _encoded(
    prompt: Prompt, placed: Placed, tokenizer: PreTrainedTokenizerBase, prefix: tuple[int, ...]
) -> EncodedPrompt:
    """One prompt as token ids. placed: the text to tokenize, and where the prompt is in it. prefix: special tokens."""
    with tokenizing(tokenizer, f"prompt {prompt.id!r}"):
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


def token_mask(text: str, offsets: Sequence[Span], spans: Sequence[Span]) -> Tensor:
    """bool [P]: whether each token contains a character of one of the spans; white space is not counted.

    offsets: for each token, the characters [start, stop) of `text` that it contains. Where several tokens are parts of
    one character, all of them contain it.
    """
    visible = [False] * len(text)
    for start, stop in spans:
        for i in range(max(start, 0), min(stop, len(text))):
            visible[i] = not text[i].isspace()
    return torch.tensor([any(visible[start:stop]) for start, stop in offsets], dtype=torch.bool)


def token_texts(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> tuple[str, ...]:
    """The text of each token id. A token that is only a part of a character is decoded to U+FFFD."""
    return tuple(tokenizer.decode([i], clean_up_tokenization_spaces=False) for i in ids)


def _moved(spans: Sequence[Span], kept: Span, place: int) -> list[Span]:
    """Spans of a prompt as spans of the templated text.

    kept: the characters [start, stop) of the prompt that the template did not trim; spans are cut to them, and a span
    of which nothing is left is dropped. place: the character of the templated text at which they begin.
    """
    clipped = ((max(start, kept[0]), min(stop, kept[1])) for start, stop in spans)
    return [(start - kept[0] + place, stop - kept[0] + place) for start, stop in clipped if start < stop]
