"""The words of a vocabulary that are nearest to directions, on a GPU."""

from __future__ import annotations

import torch
from torch import Tensor

from shiftbench import _C
from shiftbench.ops.cuda.launch import launch_place
from shiftbench.ops.cuda.precision import TF32, float32_products

DIRECTIONS = 4096  # directions of vocab_topk that a tile of scores has
TILE = 16 << 20  # bytes of such a tile where the L2 cache's size is not known


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
    (directions, k), dtype, device, on = value_CK.shape, value_CK.dtype, value_CK.device, launch_place(value_CK)
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
