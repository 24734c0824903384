"""Words that co-occur, and the word pairs of neuron pairs (docs/mathematics.md, 'Word pairs of attention heads')."""

from __future__ import annotations

import torch
from torch import Tensor

from shiftbench.errors import InputError
from shiftbench.ops import cuda, operators

# The number of words on each side of a block of cosines. It is large because vectors are narrow (50 to 300 numbers):
# the matrix product of a small block would take less time than what each block costs besides.
BLOCK_WORDS = 2048


def cooccurrence(unit_VG: Tensor, cutoff_V: Tensor, spelling_V: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(first_V, other_N, cosine_N): for each word, the words that it co-occurs with, as rows of a sparse V x V matrix.

    Two words co-occur if their spellings differ and their cosine is above both words' cutoffs. The cosine is the inner
    product of their vectors, summed in float64.

    unit_VG: one vector of length 1 for each word, float32, float64, bfloat16 or float16; the length is not checked.
    cutoff_V: float64, the cosine that a word's neighbours must exceed; inf or nan for a word that co-occurs with no
    other. spelling_V: int64, equal numbers for words that are spelled alike.

    The words that co-occur with word v are other_N[first_V[v] : first_V[v + 1]], ascending. first_V: int64, V + 1
    numbers. other_N: int32. cosine_N: the cosine of v and each word of other_N, float64 for float64 vectors, else
    float32. Every pair that co-occurs is there twice, once for each word. An entry takes 8 bytes (12 in float64); with
    the paper's cutoffs about a hundredth of all V x V pairs are entries.

    Raises InputError where a vector is not finite, or shapes, dtypes or devices do not match.
    """
    results: tuple[Tensor, Tensor, Tensor] = operators.call(
        "cooccurrence", unit_VG=unit_VG, cutoff_V=cutoff_V, spelling_V=spelling_V
    )
    return results


def word_pairs(
    cooccurring: tuple[Tensor, Tensor, Tensor],
    query_value_CK: Tensor,
    query_index_CK: Tensor,
    key_value_CK: Tensor,
    key_index_CK: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(neuron_N, query_N, key_N, cosine_N): the word pairs of all C neuron pairs, one entry for each word pair.

    Of the pairs of a query word and a key word of a neuron pair, those are kept that co-occur and whose activations
    have the same sign; an activation of 0 has no sign.

    cooccurring: what `cooccurrence` returns. query_value_CK and query_index_CK, key_value_CK and key_index_CK: the
    activations and the words of each side, as `vocab_topk` returns them. The two sides may have different K.

    neuron_N: the neuron pair, as the number of its row in query_value_CK. query_N, key_N: the indices of the two words.
    All three are int64. cosine_N: the cosine of the two words, in the dtype of cooccurring's cosines. The order is by
    neuron pair, then by descending cosine; ties go to the lower position among the query words, then to the lower
    position among the key words.

    Raises InputError where shapes, dtypes or devices do not match, where an activation is not finite, where an index is
    that of no word, where a word is twice among a neuron pair's key words, or where tensors are on a GPU and K of the
    key side is above 2,048.
    """
    first_V, other_N, cosine_N = cooccurring
    results: tuple[Tensor, Tensor, Tensor, Tensor] = operators.call(
        "word_pairs",
        first_V=first_V,
        other_N=other_N,
        cosine_N=cosine_N,
        query_value_CK=query_value_CK,
        query_index_CK=query_index_CK,
        key_value_CK=key_value_CK,
        key_index_CK=key_index_CK,
    )
    return results


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
    """The torch operator of `cooccurrence`: torch multiplies blocks of vectors, and the core reads the products."""
    _check_words("cooccurrence", unit_VG, cutoff_V, spelling_V)
    unit_VG, words = operators.contiguous_rows(unit_VG.to(operators.result_dtype(unit_VG))), len(unit_VG)
    is_float32 = unit_VG.dtype == torch.float32
    core = operators.core_of(unit_VG)
    core_class = core.Cooccurrence32 if is_float32 else core.Cooccurrence64
    found = core_class(unit_VG, cutoff_V.contiguous(), spelling_V.contiguous(), _product_error(unit_VG))
    cosine = unit_VG.new_empty(min(words, BLOCK_WORDS) ** 2)
    with cuda.float32_products(tf32=False):
        for row in range(0, words, BLOCK_WORDS):
            # cosine(a, b) = cosine(b, a), so the blocks below the diagonal are not computed.
            for col in range(row, words, BLOCK_WORDS):
                one_RG, other_CG = unit_VG[row : row + BLOCK_WORDS], unit_VG[col : col + BLOCK_WORDS]
                cosine_RC = cosine[: len(one_RG) * len(other_CG)].view(len(one_RG), len(other_CG))
                found.scan(torch.mm(one_RG, other_CG.T, out=cosine_RC), row, col)
    first_V = unit_VG.new_empty(words + 1, dtype=torch.int64)
    other_N, cosine_N = unit_VG.new_empty(found.size(), dtype=torch.int32), unit_VG.new_empty(found.size())
    found.write(first_V, other_N, cosine_N)
    return first_V, other_N, cosine_N


def _product_error(unit_VG: Tensor) -> float:
    """A bound on |inner product of two rows by torch.mm, in unit_VG's dtype, - the same sum in float64|.

    It is G eps |a| |b|, about twice the bound that holds for any order of summation, G u / (1 - G u) |a| |b| with u =
    eps / 2 (Higham 2002, section 3.1), plus the most that underflow of the G products can take away. For |a| and |b| it
    takes the longest vector. Raises InputError where a vector's norm is not finite.
    """
    norms = [torch.linalg.vector_norm(part_VG.double(), dim=1) for part_VG in unit_VG.split(4096)]
    norm_V = torch.cat([unit_VG.new_zeros(0, dtype=torch.float64), *norms])
    if not_finite := torch.nonzero(~norm_V.isfinite()).flatten().tolist():
        row = not_finite[0]
        raise InputError(f"cooccurrence: row {row} of unit_VG has a value that is not finite; look for nan or inf")
    longest = float(norm_V.max()) if len(norm_V) else 0.0
    limits = torch.finfo(unit_VG.dtype)
    return unit_VG.shape[1] * (limits.eps * longest**2 + limits.tiny)


def _check_pairs(
    op: str, first_V: Tensor, other_N: Tensor, cosine_N: Tensor, sides: dict[str, tuple[Tensor, Tensor]]
) -> None:
    """Raise InputError where arguments of `word_pairs` have wrong shapes or dtypes.

    sides: "query" and "key", in this order, each with its value_CK and index_CK.
    """
    operators.check_tensor(op, "first_V", first_V, "words + 1", (torch.int64,))
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
        raise InputError(f"{op}: the query side has {query} neurons and the key side {key}; they must be equally many")


def _fake_word_pairs(
    first_V: Tensor,
    other_N: Tensor,
    cosine_N: Tensor,
    query_value_CK: Tensor,
    query_index_CK: Tensor,
    key_value_CK: Tensor,
    key_index_CK: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The results of `word_pairs` where torch only traces: their number of entries is a symbol."""
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
    """The torch operator of `word_pairs`. Where the core refuses a word, it raises InputError with the word's place."""
    sides = {"query": (query_value_CK, query_index_CK), "key": (key_value_CK, key_index_CK)}
    _check_pairs("word_pairs", first_V, other_N, cosine_N, sides)
    words_and_signs = []
    for side, (value_CK, index_CK) in sides.items():
        if not bool(value_CK.isfinite().all()):
            raise InputError(f"word_pairs: {side}_value_CK has a value that is not finite; look for nan or inf")
        words_and_signs += [operators.contiguous_rows(index_CK), value_CK.sign().to(torch.int8).contiguous()]
    core = operators.core_of(cosine_N)
    core_class = core.WordPairs32 if cosine_N.dtype == torch.float32 else core.WordPairs64
    found = core_class(first_V.contiguous(), other_N.contiguous(), cosine_N.contiguous(), *words_and_signs)
    _refuse_word("query", query_index_CK, found.first_bad_query(), len(first_V) - 1)
    _refuse_word("key", key_index_CK, found.first_bad_key(), len(first_V) - 1)
    neuron_N, query_N, key_N = (first_V.new_empty(found.size()) for _ in range(3))
    score_N = cosine_N.new_empty(found.size())
    found.write(neuron_N, query_N, key_N, score_N)
    return neuron_N, query_N, key_N, score_N


def _refuse_word(side: str, index_CK: Tensor, refused: int, words: int) -> None:
    """Raise InputError for the word at flat index `refused` of index_CK, unless `refused` is -1.

    side: "query" or "key". words: how many words there are. Both are for the message.
    """
    if refused >= 0:
        neuron, place = divmod(refused, index_CK.shape[1])
        once = ", and occur once among the key words of its neuron pair" if side == "key" else ""
        raise InputError(
            f"word_pairs: {side}_index_CK[{neuron}, {place}] is {index_CK[neuron, place].item()}; "
            f"it must be the index of one of {words} words{once}"
        )
