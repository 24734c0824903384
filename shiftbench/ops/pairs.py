"""Words that co-occur, and the word pairs of neuron pairs (docs/mathematics.md)."""

from __future__ import annotations

import torch
from torch import Tensor

from shiftbench.errors import InputError
from shiftbench.ops import cuda, operators

SQUARE = 2048  # words on each side of a block of cosines: vectors are narrow, and small blocks would cost more to start


def cooccurrence(unit_VG: Tensor, cutoff_V: Tensor, spelling_V: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(first_V, other_N, cosine_N): for each word the words it co-occurs with (docs/mathematics.md).

    Two words co-occur whose spellings differ and whose cosine, unit . unit summed in float64, is above both cutoffs.
    unit_VG: vectors of length 1, any float dtype. cutoff_V: float64; inf or nan where a word co-occurs with none.
    spelling_V: int64, equal where words are spelled alike.
    first_V: int64 [V + 1]; word v's others, ascending, are other_N[first_V[v] : first_V[v + 1]], int32. cosine_N:
    float64 for float64, else float32. 8 bytes a listed word: with the paper's cutoffs about a hundredth of V x V.
    Raises InputError where a vector is not finite.
    """
    return operators.call("cooccurrence", unit_VG=unit_VG, cutoff_V=cutoff_V, spelling_V=spelling_V)


def word_pairs(
    cooccurring: tuple[Tensor, Tensor, Tensor],
    query_value_CK: Tensor,
    query_index_CK: Tensor,
    key_value_CK: Tensor,
    key_index_CK: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(neuron_N, query_N, key_N, cosine_N): the word pairs of each neuron pair C (docs/mathematics.md).

    Of the K x K words of its two sides, those that co-occur and whose activations have the same sign.
    cooccurring: from `cooccurrence`. values and indices: from `vocab_topk`, on the query and on the key side; an
    activation of 0 has no sign. Returns the neuron pair and the two words' indices, int64, with their cosine, by
    neuron, then descending cosine, ties to the lower (query position, key position).
    Raises InputError where an activation is not finite, an index names no word, or a neuron's key words repeat one.
    """
    first_V, other_N, cosine_N = cooccurring
    return operators.call(
        "word_pairs",
        first_V=first_V,
        other_N=other_N,
        cosine_N=cosine_N,
        query_value_CK=query_value_CK,
        query_index_CK=query_index_CK,
        key_value_CK=key_value_CK,
        key_index_CK=key_index_CK,
    )


def _check_words(op: str, unit_VG: Tensor, cutoff_V: Tensor, spelling_V: Tensor) -> None:
    operators.check_tensor(op, "unit_VG", unit_VG, "words, vector width")
    operators.check_tensor(op, "cutoff_V", cutoff_V, "words", (torch.float64,))
    operators.check_tensor(op, "spelling_V", spelling_V, "words", (torch.int64,))
    for name, tensor in (("cutoff_V", cutoff_V), ("spelling_V", spelling_V)):
        if len(tensor) != len(unit_VG):
            raise InputError(f"{op}: {name} must have a value for each of {len(unit_VG)} words, got {len(tensor)}")


def _fake_cooccurrence(unit_VG: Tensor, cutoff_V: Tensor, spelling_V: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    _check_words("cooccurrence", unit_VG, cutoff_V, spelling_V)
    size = torch.library.get_ctx().new_dynamic_size()
    return (
        unit_VG.new_empty(len(unit_VG) + 1, dtype=torch.int64),
        unit_VG.new_empty(size, dtype=torch.int32),
        unit_VG.new_empty(size, dtype=operators.result_dtype(unit_VG)),
    )


@operators.operator(
    "cooccurrence(Tensor unit_VG, Tensor cutoff_V, Tensor spelling_V) -> (Tensor, Tensor, Tensor)", _fake_cooccurrence
)
def _cooccurrence(unit_VG: Tensor, cutoff_V: Tensor, spelling_V: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    _check_words("cooccurrence", unit_VG, cutoff_V, spelling_V)
    unit_VG, words = operators.contiguous_rows(unit_VG.to(operators.result_dtype(unit_VG))), len(unit_VG)
    single = unit_VG.dtype == torch.float32
    core = operators.core_of(unit_VG)
    make = core.Cooccurrence32 if single else core.Cooccurrence64
    found = make(unit_VG, cutoff_V.contiguous(), spelling_V.contiguous(), _product_error(unit_VG))
    score = unit_VG.new_empty(min(words, SQUARE) ** 2)
    with cuda.float32_products(tf32=False):
        for row in range(0, words, SQUARE):
            for col in range(row, words, SQUARE):  # cosine(a, b) is cosine(b, a): half of the square will do
                one_RG, other_CG = unit_VG[row : row + SQUARE], unit_VG[col : col + SQUARE]
                score_RC = score[: len(one_RG) * len(other_CG)].view(len(one_RG), len(other_CG))
                found.scan(torch.mm(one_RG, other_CG.T, out=score_RC), row, col)
    first_V = unit_VG.new_empty(words + 1, dtype=torch.int64)
    other_N, cosine_N = unit_VG.new_empty(found.size(), dtype=torch.int32), unit_VG.new_empty(found.size())
    found.write(first_V, other_N, cosine_N)
    return first_V, other_N, cosine_N


def _product_error(unit_VG: Tensor) -> float:
    """How far an inner product that torch.mm gives may be from the sum in float64: the bound of any order of summation,
    G u / (1 - G u) |a| |b| with u = eps / 2 (Higham 2002, section 3.1), doubled; and what underflow can take."""
    norms = [torch.linalg.vector_norm(part_VG.double(), dim=1) for part_VG in unit_VG.split(4096)]
    norm_V = torch.cat([unit_VG.new_zeros(0, dtype=torch.float64), *norms])
    if bad := torch.nonzero(~norm_V.isfinite()).flatten().tolist():
        raise InputError(f"cooccurrence: row {bad[0]} of unit_VG has a value that is not finite; look for nan or inf")
    longest = float(norm_V.max()) if len(norm_V) else 0.0
    number = torch.finfo(unit_VG.dtype)
    return unit_VG.shape[1] * (number.eps * longest**2 + number.tiny)


def _check_pairs(
    op: str, first_V: Tensor, other_N: Tensor, cosine_N: Tensor, sides: dict[str, tuple[Tensor, Tensor]]
) -> None:
    operators.check_tensor(op, "first_V", first_V, "words and one", (torch.int64,))
    operators.check_tensor(op, "other_N", other_N, "co-occurring words", (torch.int32,))
    operators.check_tensor(op, "cosine_N", cosine_N, "co-occurring words", (torch.float32, torch.float64))
    for side, (value_CK, index_CK) in sides.items():
        operators.check_tensor(op, f"{side}_value_CK", value_CK, "neuron pairs, words kept")
        operators.check_tensor(op, f"{side}_index_CK", index_CK, "neuron pairs, words kept", (torch.int64,))
        if value_CK.shape != index_CK.shape:
            raise InputError(
                f"{op}: {side}_value_CK has shape {tuple(value_CK.shape)} and {side}_index_CK "
                f"{tuple(index_CK.shape)}; they must agree"
            )
    query, key = (len(index_CK) for _, index_CK in sides.values())
    if query != key:
        raise InputError(f"{op}: {query} neurons on the query side, {key} on the key side; a pair has both")


def _fake_word_pairs(
    first_V: Tensor,
    other_N: Tensor,
    cosine_N: Tensor,
    query_value_CK: Tensor,
    query_index_CK: Tensor,
    key_value_CK: Tensor,
    key_index_CK: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    sides = {"query": (query_value_CK, query_index_CK), "key": (key_value_CK, key_index_CK)}
    _check_pairs("word_pairs", first_V, other_N, cosine_N, sides)
    size = torch.library.get_ctx().new_dynamic_size()
    neuron_N, query_N, key_N = (first_V.new_empty(size) for _ in range(3))
    return neuron_N, query_N, key_N, cosine_N.new_empty(size)


@operators.operator(
    "word_pairs(Tensor first_V, Tensor other_N, Tensor cosine_N, Tensor query_value_CK, Tensor query_index_CK, "
    "Tensor key_value_CK, Tensor key_index_CK) -> (Tensor, Tensor, Tensor, Tensor)",
    _fake_word_pairs,
)
def _word_pairs(
    first_V: Tensor,
    other_N: Tensor,
    cosine_N: Tensor,
    query_value_CK: Tensor,
    query_index_CK: Tensor,
    key_value_CK: Tensor,
    key_index_CK: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    sides = {"query": (query_value_CK, query_index_CK), "key": (key_value_CK, key_index_CK)}
    _check_pairs("word_pairs", first_V, other_N, cosine_N, sides)
    words_and_signs = []
    for side, (value_CK, index_CK) in sides.items():
        if not bool(value_CK.isfinite().all()):
            raise InputError(f"word_pairs: {side}_value_CK has a value that is not finite; look for nan or inf")
        words_and_signs += [operators.contiguous_rows(index_CK), value_CK.sign().to(torch.int8).contiguous()]
    core = operators.core_of(cosine_N)
    make = core.WordPairs32 if cosine_N.dtype == torch.float32 else core.WordPairs64
    found = make(first_V.contiguous(), other_N.contiguous(), cosine_N.contiguous(), *words_and_signs)
    _refuse_word("query", query_index_CK, found.bad_query(), len(first_V) - 1)
    _refuse_word("key", key_index_CK, found.bad_key(), len(first_V) - 1)
    neuron_N, query_N, key_N = (first_V.new_empty(found.size()) for _ in range(3))
    score_N = cosine_N.new_empty(found.size())
    found.write(neuron_N, query_N, key_N, score_N)
    return neuron_N, query_N, key_N, score_N


def _refuse_word(side: str, index_CK: Tensor, bad: int, words: int) -> None:
    if bad >= 0:
        neuron, place = divmod(bad, index_CK.shape[1])
        once = " and stand once among its neuron's" if side == "key" else ""
        raise InputError(
            f"word_pairs: {side}_index_CK[{neuron}, {place}] is {index_CK[neuron, place].item()}; "
            f"it must be one of {words} words{once}"
        )
