"""Prompts as token ids: the same characters' marks on tokens, and the special tokens in front."""

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
        with tokenizing(tokenizer, f"the response to prompt {self.prompt.id!r}"):
            whole = tuple(tokenizer(self.text + response, add_special_tokens=False)["input_ids"])
            alone = tuple(tokenizer(self.text, add_special_tokens=False)["input_ids"])
            if whole[: len(alone)] == alone:
                return whole[len(alone) :]
            return tuple(tokenizer(response, add_special_tokens=False)["input_ids"])


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
        texts = in_template(prompts, tokenizer, template, name)
    return [_encoded(prompt, text, tokenizer, prefix) for prompt, text in zip(prompts, texts, strict=True)]


def _encoded(
    prompt: Prompt, placed: Placed, tokenizer: PreTrainedTokenizerBase, prefix: tuple[int, ...]
) -> EncodedPrompt:
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
    """bool [P]: the tokens that spell any visible character of a span; white space alone does not count."""
    visible = [False] * len(text)
    for start, stop in spans:
        for i in range(max(start, 0), min(stop, len(text))):
            visible[i] = not text[i].isspace()
    return torch.tensor([any(visible[start:stop]) for start, stop in offsets], dtype=torch.bool)


def token_texts(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> tuple[str, ...]:
    """What each token spells; a byte that is part of a character is shown as its replacement character."""
    return tuple(tokenizer.decode([i], clean_up_tokenization_spaces=False) for i in ids)


def _moved(spans: Sequence[Span], kept: Span, place: int) -> list[Span]:
    """Spans of a prompt as spans of its text in a template, without what the template trimmed."""
    clipped = ((max(start, kept[0]), min(stop, kept[1])) for start, stop in spans)
    return [(start - kept[0] + place, stop - kept[0] + place) for start, stop in clipped if start < stop]
