"""A model's embeddings of whole words."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import dropwhile

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from shiftbench.errors import InputError

BOUNDARY_MARKS = "▁Ġ "  # word-boundary marks of SentencePiece and byte-level BPE, and the plain space


def word_embeddings(embedding_VD: Tensor, tokenizer: PreTrainedTokenizerBase, words: Sequence[str]) -> Tensor:
    """One row for each word: the mean of its tokens' embeddings (docs/mathematics.md, "Word pairs of attention heads").

    embedding_VD: the model's embeddings, one row a token id. A word's tokens are those of word_ids. Returns [words, D]
    on the same device, float64 where embedding_VD is float64, else float32. Raises InputError as word_ids does, and
    where the tokenizer gives a token id for which embedding_VD has no row.
    """
    flat, starts = _flat_ids(tokenizer, len(tokenizer), tuple(words))
    if int(flat.max()) >= len(embedding_VD):
        raise InputError(f"the tokenizer gives token {int(flat.max())}, the model has {len(embedding_VD)} embeddings")
    if embedding_VD.dtype != torch.float64:
        embedding_VD = embedding_VD.float()
    device = embedding_VD.device
    return torch.nn.functional.embedding_bag(flat.to(device), embedding_VD.detach(), starts.to(device), mode="mean")


@lru_cache(maxsize=4)  # null models share the tuned model's tokenizer object
def _flat_ids(tokenizer: PreTrainedTokenizerBase, tokens: int, words: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    """The token ids of all words, one after the other, and where each word's ids start.

    Starts are indices in the first tensor. tokens: the number of tokens of the tokenizer. It is only part of the
    cache's key: the ids are computed again after tokens were added to the tokenizer.
    """
    ids = word_ids(tokenizer, words)
    lengths = torch.tensor([len(row) for row in ids])
    return torch.tensor([i for row in ids for i in row]), lengths.cumsum(0) - lengths


def word_ids(tokenizer: PreTrainedTokenizerBase, words: Sequence[str]) -> list[list[int]]:
    """For each word the token ids of " " + word, without leading tokens that are nothing but word-boundary marks.

    Raises InputError where `words` is empty, and where nothing or only unknown tokens are left of a word; the message
    names the first such word.
    """
    if not words:
        raise InputError("the vocabulary holds no word")
    found = tokenizer([" " + word for word in words], add_special_tokens=False)["input_ids"]
    used = sorted({i for ids in found for i in ids})
    spelled = tokenizer.convert_ids_to_tokens(used)
    marks = {i for i, token in zip(used, spelled, strict=True) if not token.strip(BOUNDARY_MARKS)}
    # There can be several leading marks: Llama 2's tokenizer puts one in front of every text, before the space's mark.
    trimmed = [list(dropwhile(marks.__contains__, ids)) for ids in found]
    unknown = tokenizer.unk_token_id  # read once, because each access computes the property anew
    for word, ids in zip(words, trimmed, strict=True):
        if all(i == unknown for i in ids):
            raise InputError(f"the tokenizer gives no token for the vocabulary word {word!r}; leave the word out")
    return trimmed
