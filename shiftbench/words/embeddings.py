"""A model's embeddings of whole words."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import dropwhile

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from shiftbench.errors import InputError

BOUNDARY_MARKS = "▁Ġ "  # SentencePiece's, byte-level BPE's, and the plain space


def word_embeddings(embedding_VD: Tensor, tokenizer: PreTrainedTokenizerBase, words: Sequence[str]) -> Tensor:
    """A row a word: the mean of its tokens' embeddings (docs/mathematics.md).

    embedding_VD: of tokens; float64 stays float64, everything else is averaged in float32.
    Returns [V words, D] on the same device. Raises InputError as word_ids does.
    """
    ids = word_ids(tokenizer, words)
    flat = torch.tensor([i for row in ids for i in row])
    if int(flat.max()) >= len(embedding_VD):
        raise InputError(f"the tokenizer gives token {int(flat.max())}, the model has {len(embedding_VD)} embeddings")
    lengths = torch.tensor([len(row) for row in ids])
    starts = lengths.cumsum(0) - lengths
    if embedding_VD.dtype != torch.float64:
        embedding_VD = embedding_VD.float()
    device = embedding_VD.device
    return torch.nn.functional.embedding_bag(flat.to(device), embedding_VD.detach(), starts.to(device), mode="mean")


def word_ids(tokenizer: PreTrainedTokenizerBase, words: Sequence[str]) -> list[list[int]]:
    """Token ids of " " + word for each word, without leading tokens that are only word-boundary marks.

    Raises InputError, naming the word, where nothing or only the unknown token is left.
    """
    if not words:
        raise InputError("the vocabulary holds no word")
    found = tokenizer([" " + word for word in words], add_special_tokens=False)["input_ids"]
    used = sorted({i for ids in found for i in ids})
    spelled = tokenizer.convert_ids_to_tokens(used)
    marks = {i for i, token in zip(used, spelled, strict=True) if not token.strip(BOUNDARY_MARKS)}
    # All of them: Llama's tokenizer puts its own mark before the space's.
    kept = [list(dropwhile(marks.__contains__, ids)) for ids in found]
    unknown = tokenizer.unk_token_id  # asked once: a tokenizer looks it up anew each time
    for word, ids in zip(words, kept, strict=True):
        if all(i == unknown for i in ids):
            raise InputError(f"the tokenizer gives no token for the vocabulary word {word!r}; leave the word out")
    return kept
