"""Words that co-occur, and the word pairs of neuron pairs, on a GPU (shiftbench/ops/pairs.py)."""

from __future__ import annotations

import torch
from torch import Tensor

from shiftbench import _C
from shiftbench.errors import InputError
from shiftbench.ops.cuda.launch import device_and_stream, refusal_counters


class Cooccurrence:
    """Finds the words that co-occur on a GPU (ops.cooccurrence says which these are).

    It has the same methods as the CPU's classes _C.Cooccurrence32 and _C.Cooccurrence64, for both dtypes. `error` is a
    bound on the error of the approximate cosines that `scan` gets.
    """

    def __init__(self, unit_VG: Tensor, cutoff_V: Tensor, spelling_V: Tensor, error: float) -> None:
        largest = torch.finfo(unit_VG.dtype).max
        low_V = (cutoff_V - error).clamp(-largest, largest).to(unit_VG.dtype)
        low_V = torch.nextafter(low_V, torch.full_like(low_V, -torch.inf))
        self._words = unit_VG, low_V, cutoff_V, spelling_V
        self._found: list[tuple[Tensor, Tensor, Tensor]] = []

    def scan(self, score_VV: Tensor, first_row: int, first_col: int) -> None:
        """Find the pairs of co-occurring words in one block of the V x V matrix of approximate cosines.

        The block's first element belongs to the words first_row and first_col. Only elements above the matrix's
        diagonal are read. Waits for the GPU, to learn how many pairs the block has.
        """
        size, device = score_VV.numel(), score_VV.device
        a, b = (torch.empty(size, dtype=torch.int32, device=device) for _ in range(2))
        cosine, count = score_VV.new_empty(size), torch.zeros(1, dtype=torch.int64, device=device)
        found = [a, b, cosine, count]
        _C.cuda.cooccurrence_scan(score_VV, first_row, first_col, *self._words, found, *device_and_stream(score_VV))
        n = int(count)
        self._found.append((a[:n].clone(), b[:n].clone(), cosine[:n].clone()))

    def size(self) -> int:
        """The number of entries of other_N: every pair found so far has two, one for each of its words."""
        return 2 * sum(len(a) for a, _, _ in self._found)

    def write(self, first_V: Tensor, other_N: Tensor, cosine_N: Tensor) -> None:
        """Fill the results of ops.cooccurrence. The pairs of all blocks are sorted here, once."""
        a, b, cosine = (torch.cat(parts) for parts in zip(*self._found, strict=True)) if self._found else (other_N,) * 3
        word_N, other_word_N = torch.cat([a, b]).long(), torch.cat([b, a])
        order_N = (word_N * len(first_V) + other_word_N).argsort()
        other_N.copy_(other_word_N[order_N])
        cosine_N.copy_(cosine.repeat(2)[order_N])
        first_V[0] = 0
        first_V[1:] = torch.bincount(word_N, minlength=len(first_V) - 1).cumsum(0)


class WordPairs:
    """Finds the word pairs of every neuron pair on a GPU (ops.word_pairs says which these are).

    It has the same methods as the CPU's classes _C.WordPairs32 and _C.WordPairs64.

    Raises InputError where a neuron pair has more than _C.cuda.max_key_words key words: the kernel has room for that
    many.
    """

    def __init__(
        self, first_V: Tensor, other_N: Tensor, cosine_N: Tensor,
        query_CK: Tensor, query_sign_CK: Tensor, key_CK: Tensor, key_sign_CK: Tensor,
    ) -> None:  # fmt: skip
        if key_CK.shape[1] > _C.cuda.max_key_words:
            raise InputError(
                f"word_pairs: on a GPU a neuron pair may have at most {_C.cuda.max_key_words} key words, got "
                f"{key_CK.shape[1]}; pass tensors on the CPU"
            )
        self._inputs = [[first_V, other_N, cosine_N], [query_CK, query_sign_CK], [key_CK, key_sign_CK]]
        self._count_C = torch.zeros(len(key_CK), dtype=torch.int64, device=key_CK.device)
        self._refused = refusal_counters(key_CK, 2)
        _C.cuda.count_word_pairs(*self._inputs, self._count_C, self._refused, *device_and_stream(key_CK))

    def first_bad_query(self) -> int:
        """The lowest flat index in query_CK of a word that is not in the vocabulary, or -1."""
        return int(self._refused[0])

    def first_bad_key(self) -> int:
        """The lowest flat index in key_CK of a word that is not in the vocabulary or also earlier in its row, or -1."""
        return int(self._refused[1])

    def size(self) -> int:
        """The number of word pairs of all neuron pairs."""
        return int(self._count_C.sum())

    def write(self, neuron_N: Tensor, query_N: Tensor, key_N: Tensor, cosine_N: Tensor) -> None:
        """Fill the results of ops.word_pairs, in its order. The kernel writes them unordered; they are sorted here."""
        _, (query_CK, _), (key_CK, _) = self._inputs
        place_N, cosine = torch.empty_like(neuron_N), torch.empty_like(cosine_N)
        next_C = self._count_C.cumsum(0) - self._count_C
        _C.cuda.write_word_pairs(*self._inputs, next_C, place_N, cosine, *device_and_stream(key_CK))
        neuron = torch.repeat_interleave(torch.arange(len(key_CK), device=key_CK.device), self._count_C)
        # The order is by neuron pair, then by descending cosine, then by place (query position * K + key position). It
        # takes one sort for each of the three, the least important first; the later two must be stable.
        order_N = place_N.argsort()
        order_N = order_N[cosine[order_N].argsort(descending=True, stable=True)]
        order_N = order_N[neuron[order_N].argsort(stable=True)]
        neuron_N.copy_(neuron[order_N])
        place_N = place_N[order_N]
        query_N.copy_(query_CK[neuron_N, place_N // key_CK.shape[1]])
        key_N.copy_(key_CK[neuron_N, place_N % key_CK.shape[1]])
        cosine_N.copy_(cosine[order_N])


Cooccurrence32 = Cooccurrence64 = Cooccurrence
WordPairs32 = WordPairs64 = WordPairs
