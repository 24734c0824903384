"""The words of a vocabulary with the largest projections on given directions, on a GPU (shiftbench/ops/topk.py)."""

from __future__ import annotations

import torch
from torch import Tensor

from shiftbench import _C
from shiftbench.ops.cuda.launch import device_and_stream
from shiftbench.ops.cuda.precision import TF32_ERROR, float32_products

# The most directions in a tile of scores. Norms of embeddings are computed for as many embeddings at a time.
TILE_DIRECTIONS = 4096
TILE_BYTES = 16 << 20  # bytes of a tile of scores on a CPU, on which tests emulate the kernels


def vocab_topk(embedding_VD: Tensor, direction_CD: Tensor, value_CK: Tensor, index_CK: Tensor) -> tuple[int, int, int]:
    """Fills value_CK and index_CK with the same bytes as _C.vocab_topk, or returns what it refuses.

    Candidates, then exact rescoring: a matrix product gives scores with a known bound on their error. A word whose
    |score| may be among the k largest within that bound is a candidate, and candidates are scored again as on the CPU.
    The product is computed in tiles of about _tile_bytes; in float32 it is a TF32 product where the GPU has those.
    A direction with more candidates than there is room for (mostly because scores are equal) is computed on the CPU,
    and so are all directions where k is too large for the room.
    Returns (word, direction, overflowing direction): the first row of embedding_VD whose norm is not finite, the first
    row of direction_CD whose norm is not finite, and the first direction whose scores may overflow. At most one is not
    -1; all are -1 if nothing is refused.
    """
    norm_C, longest = _norms(direction_CD), torch.zeros((), dtype=torch.float64, device=direction_CD.device)
    if len(not_finite := torch.nonzero(~norm_C.isfinite())):
        return -1, int(not_finite[0]), -1
    for begin in range(0, len(embedding_VD), TILE_DIRECTIONS):
        norm_W = _norms(embedding_VD[begin : begin + TILE_DIRECTIONS])
        if len(not_finite := torch.nonzero(~norm_W.isfinite())):
            return begin + int(not_finite[0]), -1, -1
        longest = torch.maximum(longest, norm_W.max())
    if len(not_finite := torch.nonzero(longest * norm_C >= torch.finfo(value_CK.dtype).max)):
        return -1, -1, int(not_finite[0])
    k = value_CK.shape[1]
    if k + 2 * _C.cuda.words_per_check > _C.cuda.max_candidates:
        left_C = torch.arange(len(direction_CD))
    else:
        error_C = _score_error(norm_C, longest, direction_CD.shape[1], value_CK.dtype)
        left_for_cpu = [torch.empty(0, dtype=torch.int64)]
        for begin in range(0, len(direction_CD), TILE_DIRECTIONS):
            parts = (rows[begin : begin + TILE_DIRECTIONS] for rows in (direction_CD, error_C, value_CK, index_CK))
            left_for_cpu.append(begin + _topk(embedding_VD, *parts))
        left_C = torch.cat(left_for_cpu)
    if len(left_C):
        value, index = torch.empty(len(left_C), k, dtype=value_CK.dtype), torch.empty(len(left_C), k, dtype=torch.int64)
        _C.vocab_topk(embedding_VD.cpu(), direction_CD.cpu()[left_C], value, index)
        value_CK[left_C.to(value_CK.device)] = value.to(value_CK.device)
        index_CK[left_C.to(value_CK.device)] = index.to(value_CK.device)
    return -1, -1, -1


def _norms(rows_ND: Tensor) -> Tensor:
    """The Euclidean norm of each row, float64 [N]."""
    norm_N: Tensor = torch.linalg.vector_norm(rows_ND.double(), dim=1)
    return norm_N


def _score_error(norm_C: Tensor, longest: Tensor, width: int, dtype: torch.dtype) -> Tensor:
    """For each direction a bound on |score of the matrix product - exact score|, for the scores of all words.

    The exact score is the sum in float64, rounded to `dtype`. Both scores and the bound are in `dtype`. norm_C: the
    directions' norms. longest: the largest norm of an embedding. width: D. The bound is that of
    csrc/shiftbench/vocab_topk.h (ScoreError). In float32 the rounding of both factors to TF32 is added, whether or not
    torch uses TF32.
    """
    limits = torch.finfo(dtype)
    relative = (width + 2) * limits.eps + (2 * TF32_ERROR + TF32_ERROR**2 if dtype == torch.float32 else 0.0)
    return (1.001 * relative * norm_C * longest + width * limits.tiny * (norm_C > 0)).to(dtype)


def _topk(embedding_VD: Tensor, direction_CD: Tensor, error_C: Tensor, value_CK: Tensor, index_CK: Tensor) -> Tensor:
    """Fills the results of at most TILE_DIRECTIONS directions. error_C: what `_score_error` returns for them.

    Returns the directions with too many candidates, whose results are not filled, as their rows in direction_CD,
    ascending: int64, on the CPU.
    """
    (directions, k), dtype, device = value_CK.shape, value_CK.dtype, value_CK.device
    launch = device_and_stream(value_CK)
    capacity = k + 2 * _C.cuda.words_per_check
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
            _C.cuda.topk_collect(score_CW, first, candidates, k, *launch)
    _C.cuda.topk_finish(embedding_VD, direction_CD, candidates, k, value_CK, index_CK, *launch)
    return torch.nonzero(count_C == _C.cuda.overflowed)[:, 0].cpu()


def _tile_bytes(device: torch.device) -> int:
    """About how many bytes a tile of scores should have: on a GPU a third of its L2 cache, on a CPU TILE_BYTES.

    The L2 cache holds three things at once: the tile that is written, the tile that is read, and the operands of the
    matrix product.
    """
    return torch.cuda.get_device_properties(device).L2_cache_size // 3 if device.type == "cuda" else TILE_BYTES
