"""The words of a vocabulary with the largest projections on given directions.

docs/mathematics.md, 'Word pairs of attention heads' and 'Concepts of feed-forward networks'.
"""

from __future__ import annotations

import torch
from torch import Tensor

from shiftbench.errors import InputError
from shiftbench.ops import operators


def vocab_topk(embedding_VD: Tensor, direction_CD: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """(value_CK, index_CK): for each direction, the k words with the largest |embedding . direction|, and these scores.

    embedding_VD: one row for each word. direction_CD: one row for each direction. Each may be float32, float64,
    bfloat16 or float16.

    value_CK: the inner products with their sign, ordered by magnitude, the largest first, ties to the lower index. They
    are summed in float64 and rounded to float64 if either input is float64, else to float32. index_CK: int64, the
    words' rows in embedding_VD.

    On a CPU the scores are computed a tile at a time, and the V x C matrix of scores is never stored: the core holds
    about 5 MiB of directions and candidates, or one direction's if that is more, and one panel of words for each
    thread.

    Raises InputError where k is not in 1..V, where the widths or the devices differ, where a dtype is none of these
    four, where a row's norm is not finite in float64, and where a score may overflow the results' dtype.
    """
    results: tuple[Tensor, Tensor] = operators.call(
        "vocab_topk", k, embedding_VD=embedding_VD, direction_CD=direction_CD
    )
    return results


def _empty_topk(embedding_VD: Tensor, direction_CD: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The results of `vocab_topk`, allocated and not computed, after the checks of shapes, dtypes and k."""
    op = "vocab_topk"
    operators.check_tensor(op, "embedding_VD", embedding_VD, "words, model width")
    operators.check_tensor(op, "direction_CD", direction_CD, "directions, model width")
    (words, width), (directions, direction_width) = embedding_VD.shape, direction_CD.shape
    if width != direction_width:
        raise InputError(f"{op}: embedding_VD is {width} wide and direction_CD {direction_width}; they must agree")
    if not 1 <= k <= words:
        raise InputError(f"{op}: k must be between 1 and the number of words ({words}), got {k}")
    dtype = torch.float64 if torch.float64 in (embedding_VD.dtype, direction_CD.dtype) else torch.float32
    return (
        direction_CD.new_empty(directions, k, dtype=dtype),
        direction_CD.new_empty(directions, k, dtype=torch.int64),
    )


@operators.operator("vocab_topk(Tensor embedding_VD, Tensor direction_CD, int k) -> (Tensor, Tensor)", _empty_topk)
def _vocab_topk(embedding_VD: Tensor, direction_CD: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The torch operator of `vocab_topk`. Turns what the core refuses into an InputError that names the row."""
    value_CK, index_CK = _empty_topk(embedding_VD, direction_CD, k)
    direction_CD = operators.contiguous_rows(direction_CD).to(value_CK.dtype)
    word, direction, overflow = operators.core_of(embedding_VD).vocab_topk(
        operators.contiguous_rows(embedding_VD), direction_CD, value_CK, index_CK
    )
    for name, row in (("embedding_VD", word), ("direction_CD", direction)):
        if row >= 0:
            raise InputError(f"vocab_topk: row {row} of {name} has a value that is not finite; look for nan or inf")
    if overflow >= 0:
        raise InputError(
            f"vocab_topk: scores of direction {overflow} overflow {value_CK.dtype}; scale it to unit length"
        )
    return value_CK, index_CK
