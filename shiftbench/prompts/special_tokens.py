"""The special tokens that a tokenizer puts in front of every text."""

from __future__ import annotations

from contextlib import AbstractContextManager

from transformers import PreTrainedTokenizerBase

from shiftbench.readers import reading


def special_prefix(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Ids of the special tokens that the tokenizer puts in front of a text (usually one token, or none).

    The text "a" is tokenized with and without special tokens, and the ids that come first only with them are returned.
    """
    with tokenizing(tokenizer, "'a'"):
        with_special = tokenizer("a")["input_ids"]
        bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    for cut in range(len(with_special)):
        if with_special[cut : cut + len(bare)] == bare:
            return tuple(with_special[:cut])
    return ()


def tokenizing(tokenizer: PreTrainedTokenizerBase, what: str) -> AbstractContextManager[None]:
    """A context that turns a tokenizer's failure on a text into an InputError. what: names the text in the message.

    A tokenizer that loads may still fail on a text: its files may name a token that its vocabulary lacks.
    """
    return reading(f"the tokenizer of {tokenizer.name_or_path or type(tokenizer).__name__} fails on {what}")
