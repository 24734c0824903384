"""The compiled core on a GPU, under the names and arguments that `_C` has for the CPU.

It allocates scratch memory through torch, whose allocator knows streams, and leaves matrix products and sorting to it.
Unchecked: ops.py has checked the arguments, the engine has made them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from shiftbench import _C
from shiftbench.errors import InputError

DIRECTIONS = 4096  # directions of vocab_topk that a tile of scores has
TILE = 16 << 20  # bytes of such a tile where the L2 cache's size is not known
NOTHING = -1  # all ones: no index has been refused
# Of a float32 that becomes TF32 this much is lost at most, relatively: 10 bits of its fraction stay.
TF32 = 2.0**-10

Rows = tuple[Tensor, Tensor]


def serves(tensor: Tensor) -> bool:
    """Whether these functions compute on the tensor."""
    return tensor.is_cuda and _C.has_cuda


def _on(tensor: Tensor) -> tuple[int, int]:
    """The tensor's device and the stream that torch uses there. Emulated kernels have neither."""
    if not tensor.is_cuda:
        return 0, 0
    return tensor.device.index, torch.cuda.current_stream(tensor.device).cuda_stream


def _refused(like: Tensor, count: int = 1) -> Tensor:
    return torch.full((count,), NOTHING, dtype=torch.int64, device=like.device)


def grad_x_input(grad_RPD: Tensor, embedding_PD: Tensor, importance_PR: Tensor) -> None:
    """As _C.grad_x_input, to the last bit."""
    _C.cuda.grad_x_input(grad_RPD, embedding_PD, importance_PR, None, None, *_on(grad_RPD))


def importance_levels(importance_PR: Tensor, level_PR: Tensor, levels: int) -> int:
    """As _C.importance_levels, to the last bit."""
    largest_R = torch.zeros(importance_PR.shape[1], dtype=torch.int64, device=importance_PR.device)
    bad = _refused(importance_PR)
    _C.cuda.importance_levels(importance_PR, level_PR, levels, largest_R, bad, False, *_on(importance_PR))
    return int(bad)


def importance_density(level_PR: Tensor, density_P: Tensor, cutoff: int, p: float) -> int:
    """As _C.importance_density; powers are summed in another order."""
    ratio_P = torch.empty(len(level_PR), dtype=torch.float64, device=level_PR.device)
    bad = _refused(level_PR)
    _C.cuda.importance_density(level_PR, ratio_P, density_P, cutoff, p, bad, *_on(level_PR))
    return int(bad)


def importance_density_from_grad(
    grad_RPD: Tensor, embedding_PD: Tensor, importance_PR: Tensor, level_PR: Tensor, density_P: Tensor,
    levels: int, cutoff: int, p: float,
) -> int:  # fmt: skip
    """As _C.importance_density_from_grad. Each column's largest is noted while the gradients pass by, once."""
    largest_R = torch.zeros(len(grad_RPD), dtype=torch.int64, device=grad_RPD.device)
    bad, on = _refused(grad_RPD), _on(grad_RPD)
    ratio_P = torch.empty(len(density_P), dtype=torch.float64, device=grad_RPD.device)
    _C.cuda.grad_x_input(grad_RPD, embedding_PD, importance_PR, largest_R, bad, *on)
    _C.cuda.importance_levels(importance_PR, level_PR, levels, largest_R, bad, True, *on)
    _C.cuda.importance_density(level_PR, ratio_P, density_P, cutoff, p, _refused(grad_RPD), *on)
    return int(bad)


def vocab_topk(embedding_VD: Tensor, direction_CD: Tensor, value_CK: Tensor, index_CK: Tensor) -> tuple[int, int, int]:
    """As _C.vocab_topk, to the last bit: the product's scores only choose candidates, within a bound on their error.

    Scores are made in tiles that fit the L2 cache and are read there. In float32 they are TF32 products where the GPU
    has these. Directions with more candidates than there is room for (equal scores, mostly) are done on the CPU.
    """
    norm_C, longest = _norms(direction_CD), torch.zeros((), dtype=torch.float64, device=direction_CD.device)
    if len(bad := torch.nonzero(~norm_C.isfinite())):
        return -1, int(bad[0]), -1
    for begin in range(0, len(embedding_VD), DIRECTIONS):
        norm_W = _norms(embedding_VD[begin : begin + DIRECTIONS])
        if len(bad := torch.nonzero(~norm_W.isfinite())):
            return begin + int(bad[0]), -1, -1
        longest = torch.maximum(longest, norm_W.max())
    if len(bad := torch.nonzero(longest * norm_C >= torch.finfo(value_CK.dtype).max)):
        return -1, -1, int(bad[0])
    k = value_CK.shape[1]
    if k + 2 * _C.cuda.words_at_once > _C.cuda.most_candidates:
        left_C = torch.arange(len(direction_CD))
    else:
        error_C = _score_error(norm_C, longest, direction_CD.shape[1], value_CK.dtype)
        left = [torch.empty(0, dtype=torch.int64)]
        for begin in range(0, len(direction_CD), DIRECTIONS):
            parts = (part[begin : begin + DIRECTIONS] for part in (direction_CD, error_C, value_CK, index_CK))
            left.append(begin + _topk(embedding_VD, *parts))
        left_C = torch.cat(left)
    if len(left_C):
        value, index = torch.empty(len(left_C), k, dtype=value_CK.dtype), torch.empty(len(left_C), k, dtype=torch.int64)
        _C.vocab_topk(embedding_VD.cpu(), direction_CD.cpu()[left_C], value, index)
        value_CK[left_C.to(value_CK.device)] = value.to(value_CK.device)
        index_CK[left_C.to(value_CK.device)] = index.to(value_CK.device)
    return -1, -1, -1


def _norms(rows_ND: Tensor) -> Tensor:
    return torch.linalg.vector_norm(rows_ND.double(), dim=1)


def _score_error(norm_C: Tensor, longest: Tensor, width: int, dtype: torch.dtype) -> Tensor:
    """How far a score may be from the sum in float64, rounded (csrc/shiftbench/vocab_topk.h), TF32's rounding added."""
    number = torch.finfo(dtype)
    relative = (width + 2) * number.eps + (2 * TF32 + TF32**2 if dtype == torch.float32 else 0.0)
    return (1.001 * relative * norm_C * longest + width * number.tiny * (norm_C > 0)).to(dtype)


def _topk(embedding_VD: Tensor, direction_CD: Tensor, error_C: Tensor, value_CK: Tensor, index_CK: Tensor) -> Tensor:
    """vocab_topk of at most DIRECTIONS directions. Returns those that are left to be done, on the CPU."""
    (directions, k), dtype, device, on = value_CK.shape, value_CK.dtype, value_CK.device, _on(value_CK)
    capacity = k + 2 * _C.cuda.words_at_once
    count_C = torch.zeros(directions, dtype=torch.int32, device=device)
    candidates = [
        torch.empty(directions, capacity, dtype=dtype, device=device),
        torch.empty(directions, capacity, dtype=torch.int32, device=device),
        count_C,
        torch.full((directions,), -torch.inf, dtype=dtype, device=device),
        error_C,
    ]
    words = max(128, _tile_bytes(device) // (directions * dtype.itemsize) // 128 * 128)
    tile = torch.empty(directions * min(words, len(embedding_VD)), dtype=dtype, device=device)
    with float32_products(tf32=True):
        for first in range(0, len(embedding_VD), words):
            word_WD = embedding_VD[first : first + words].to(dtype)
            score_CW = tile[: directions * len(word_WD)].view(directions, -1)
            torch.mm(direction_CD, word_WD.T, out=score_CW)
            _C.cuda.topk_collect(score_CW, first, candidates, k, *on)
    _C.cuda.topk_finish(embedding_VD, direction_CD, candidates, k, value_CK, index_CK, *on)
    return torch.nonzero(count_C == _C.cuda.overflowed)[:, 0].cpu()


def _tile_bytes(device: torch.device) -> int:
    """A third of the L2 cache: the tile that is written, the one that is read, and the product's own operands."""
    return torch.cuda.get_device_properties(device).L2_cache_size // 3 if device.type == "cuda" else TILE


@contextmanager
def float32_products(tf32: bool) -> Iterator[None]:
    """Whether torch makes float32 products of TF32 ones on a GPU, in the block."""
    matmul: Any = torch.backends.cuda.matmul
    newer = getattr(matmul, "fp32_precision", None)  # torch has it from 2.9 on, beside the other
    try:
        older = torch.get_float32_matmul_precision()
    except RuntimeError:  # where a caller has set the newer, the older may not be read
        older = None
    try:
        if older is None:
            matmul.fp32_precision = "tf32" if tf32 else "ieee"
        else:
            torch.set_float32_matmul_precision("high" if tf32 else "highest")
        yield
    finally:
        if older is not None:
            torch.set_float32_matmul_precision(older)
        if newer is not None:
            matmul.fp32_precision = newer


class Cooccurrence:
    """As _C.Cooccurrence32 or 64. A scanned block's pairs are put in order when all are there."""

    def __init__(self, unit_VG: Tensor, cutoff_V: Tensor, spelling_V: Tensor, error: float) -> None:
        most = torch.finfo(unit_VG.dtype).max
        low_V = (cutoff_V - error).clamp(-most, most).to(unit_VG.dtype)
        low_V = torch.nextafter(low_V, torch.full_like(low_V, -torch.inf))
        self._words = unit_VG, low_V, cutoff_V, spelling_V
        self._found: list[tuple[Tensor, Tensor, Tensor]] = []

    def scan(self, score_VV: Tensor, first_row: int, first_col: int) -> None:
        size, device = score_VV.numel(), score_VV.device
        a, b = (torch.empty(size, dtype=torch.int32, device=device) for _ in range(2))
        cosine, count = score_VV.new_empty(size), torch.zeros(1, dtype=torch.int64, device=device)
        found = [a, b, cosine, count]
        _C.cuda.cooccurrence_scan(score_VV, first_row, first_col, *self._words, found, *_on(score_VV))
        n = int(count)
        self._found.append((a[:n].clone(), b[:n].clone(), cosine[:n].clone()))

    def size(self) -> int:
        return 2 * sum(len(a) for a, _, _ in self._found)

    def write(self, first_V: Tensor, other_N: Tensor, cosine_N: Tensor) -> None:
        a, b, cosine = (torch.cat(parts) for parts in zip(*self._found, strict=True)) if self._found else (other_N,) * 3
        word_N, near_N = torch.cat([a, b]).long(), torch.cat([b, a])
        order_N = (word_N * len(first_V) + near_N).argsort()
        other_N.copy_(near_N[order_N])
        cosine_N.copy_(cosine.repeat(2)[order_N])
        first_V[0] = 0
        first_V[1:] = torch.bincount(word_N, minlength=len(first_V) - 1).cumsum(0)


class WordPairs:
    """As _C.WordPairs32 or 64, for as many key words as the kernel has room for."""

    def __init__(
        self, first_V: Tensor, other_N: Tensor, cosine_N: Tensor,
        query_CK: Tensor, query_sign_CK: Tensor, key_CK: Tensor, key_sign_CK: Tensor,
    ) -> None:  # fmt: skip
        if key_CK.shape[1] > _C.cuda.most_words:
            raise InputError(
                f"word_pairs: {key_CK.shape[1]} words a neuron are more than the {_C.cuda.most_words} that it takes on "
                "a GPU; pass tensors on the CPU"
            )
        self._given = [[first_V, other_N, cosine_N], [query_CK, query_sign_CK], [key_CK, key_sign_CK]]
        self._count_C = torch.zeros(len(key_CK), dtype=torch.int64, device=key_CK.device)
        self._refused = _refused(key_CK, 2)
        _C.cuda.count_word_pairs(*self._given, self._count_C, self._refused, *_on(key_CK))

    def bad_query(self) -> int:
        return int(self._refused[0])

    def bad_key(self) -> int:
        return int(self._refused[1])

    def size(self) -> int:
        return int(self._count_C.sum())

    def write(self, neuron_N: Tensor, query_N: Tensor, key_N: Tensor, cosine_N: Tensor) -> None:
        _, (query_CK, _), (key_CK, _) = self._given
        place_N, cosine = torch.empty_like(neuron_N), torch.empty_like(cosine_N)
        next_C = self._count_C.cumsum(0) - self._count_C
        _C.cuda.write_word_pairs(*self._given, next_C, place_N, cosine, *_on(key_CK))
        neuron = torch.repeat_interleave(torch.arange(len(key_CK), device=key_CK.device), self._count_C)
        # By neuron, then descending cosine, then place: a stable sort for each, the last one first.
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


def bootstrap(value_N: Tensor, length_G: list[int], seed: int, mean_SG: Tensor) -> None:
    """As _C.bootstrap, to the last bit."""
    _C.cuda.bootstrap(value_N, torch.tensor(length_G, device=value_N.device), seed, mean_SG, *_on(value_N))


def norm_rows(d: Tensor, *rest: Any) -> None:
    """As _C.norm_rows."""
    _C.cuda.norm_rows(d, *rest, *_on(d))


def rotate_rows(x: Tensor, *rest: Any) -> None:
    """As _C.rotate_rows."""
    _C.cuda.rotate_rows(x, *rest, *_on(x))


def gate_rows(up: Tensor, *rest: Any) -> None:
    """As _C.gate_rows."""
    _C.cuda.gate_rows(up, *rest, *_on(up))
