"""The special tokens that a tokenizer puts in front of every text."""

from __future__ import annotations

from contextlib import AbstractContextManager

from transformers import PreTrainedTokenizerBase

from shiftbench.readers import reading


def special_prefix(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """The special tokens that the tokenizer puts in front of a text (BOS, or none)."""
    with tokenizing(tokenizer, "'a'"):
        with_special = tokenizer("a")["input_ids"]
        bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    for cut in range(len(with_special)):
        if with_special[cut : cut + len(bare)] == bare:
            return tuple(with_special[:cut])
    return ()


def tokenizing(tokenizer: PreTrainedTokenizerBase, what: str) -> AbstractContextManager[None]:
    """A tokenizer that was read may still fail on a text: its files can name a token that they do not hold."""
    return reading(f"the tokenizer of {tokenizer.name_or_path or type(tokenizer).__name__} fails on {what}")
