"""The door to the compiled core: each function checks its arguments, allocates its results, calls `_C`.

Tensors in, tensors out; no files, no models. Rows may lie anywhere (views and slices are read in place). Nothing here
is differentiable, and no result depends on the number of threads or on the instructions that the CPU has. Tensors on a
GPU are computed there and stay there, where the core was built for it; but for importance densities, whose powers are
summed in another order, to the same bytes.

Each is also a torch operator, torch.ops.shiftbench.<name>, so that torch.compile and torch.export see one node whose
results' shapes they know without running it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from shiftbench.errors import InputError

try:
    from shiftbench import _C, cuda
except ImportError as missing:
    raise ImportError(
        f"shiftbench's compiled core does not load ({missing}); build it with 'pip install .' "
        "(from a clone: 'pip install -e .'), which needs a C++17 compiler and Python's headers"
    ) from missing

FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
SQUARE = 2048  # words on each side of a block of cosines: vectors are narrow, and small blocks would cost more to start


def set_threads(count: int) -> None:
    """Let the core use `count` threads (at first: as many as the machine runs at once). No result depends on it."""
    if count < 1:
        raise InputError(f"set_threads: count must be at least 1, got {count}")
    _C.set_threads(count)


def get_threads() -> int:
    """The number of threads the core uses."""
    return _C.get_threads()


def placed(tensor: Tensor) -> Tensor:
    """The tensor where these functions can compute on it: where it is, or on the CPU."""
    return tensor if cuda.serves(tensor) else tensor.cpu()


def grad_x_input(grad_RPD: Tensor, embedding_PD: Tensor) -> Tensor:
    """Importance of each prompt token for each response token: gradient x input, summed over D (docs/mathematics.md).

    grad_RPD: gradient of each response token's probability with respect to the prompt's embeddings.
    embedding_PD: those embeddings. Both of one dtype: float32, float64, bfloat16 or float16.
    Returns importance_PR, in units of probability; float64 for float64, else float32, summed in that type.
    """
    return _call("grad_x_input", grad_RPD=grad_RPD, embedding_PD=embedding_PD)


def importance_levels(importance_PR: Tensor, levels: int) -> Tensor:
    """Level of each importance: clipped at 0, scaled by its response token's maximum, rounded up to 0..levels.

    level = ceil(levels * a / (max over prompt tokens of a + 1e-7)), a = max(0, importance): docs/mathematics.md.
    importance_PR: any float dtype; the level is computed in float64. levels: 1 to 255.
    Returns level_PR, uint8, uncut. Raises InputError where an importance is not finite.
    """
    return _call("importance_levels", levels, importance_PR=importance_PR)


def importance_density(level_PR: Tensor, cutoff: int, p: float) -> Tensor:
    """Importance density of each prompt token: l1 / lp norm of its levels, relative to the prompt's largest.

    Levels at or below cutoff count as 0; ratio = l1 / (lp + 1e-9); density = ratio / (max ratio + 1e-9); see
    docs/mathematics.md. level_PR: uint8 or any float dtype, not negative. p: the norm's order, at least 1.
    Returns density_P, 0 to 1, 0 where no level is above the cutoff; float64 for float64, else float32; computed in
    float64. Raises InputError where a level is negative or not finite.
    """
    return _call("importance_density", cutoff, p, level_PR=level_PR)


def importance_density_from_grad(
    grad_RPD: Tensor, embedding_PD: Tensor, levels: int, cutoff: int, p: float
) -> tuple[Tensor, Tensor, Tensor]:
    """(importance_PR, level_PR, density_P): the three functions above in one pass over the gradients, same bytes.

    Arguments, dtypes and errors as there.
    """
    return _call("importance_density_from_grad", levels, cutoff, p, grad_RPD=grad_RPD, embedding_PD=embedding_PD)


def vocab_topk(embedding_VD: Tensor, direction_CD: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """(values_CK, indices_CK): for each direction, the k words with the largest |embedding . direction|.

    embedding_VD, direction_CD: any float dtypes. values_CK: signed, ordered by magnitude, largest first, ties to the
    lower index; float64 if either is float64, else float32; summed in float64 and rounded. indices_CK: int64.
    Scores are made a tile at a time and never written: 5 MiB of directions and candidates are held, and one panel of
    words a thread (docs/mathematics.md).
    Raises InputError where k is not in 1..V or a number is not finite.
    """
    return _call("vocab_topk", k, embedding_VD=embedding_VD, direction_CD=direction_CD)


def cooccurrence(unit_VG: Tensor, cutoff_V: Tensor, spelling_V: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(first_V, other_N, cosine_N): for each word the words it co-occurs with (docs/mathematics.md).

    Two words co-occur whose spellings differ and whose cosine, unit . unit summed in float64, is above both cutoffs.
    unit_VG: vectors of length 1, any float dtype. cutoff_V: float64; inf or nan where a word co-occurs with none.
    spelling_V: int64, equal where words are spelled alike.
    first_V: int64 [V + 1]; word v's others, ascending, are other_N[first_V[v] : first_V[v + 1]], int32. cosine_N:
    float64 for float64, else float32. 8 bytes a listed word: with the paper's cutoffs about a hundredth of V x V.
    Raises InputError where a vector is not finite.
    """
    return _call("cooccurrence", unit_VG=unit_VG, cutoff_V=cutoff_V, spelling_V=spelling_V)


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
    return _call(
        "word_pairs",
        first_V=first_V,
        other_N=other_N,
        cosine_N=cosine_N,
        query_value_CK=query_value_CK,
        query_index_CK=query_index_CK,
        key_value_CK=key_value_CK,
        key_index_CK=key_index_CK,
    )


def bootstrap(value_N: Tensor, length_G: Sequence[int], resamples: int, seed: int) -> Tensor:
    """mean_SG: the mean of each stratum G in each draw S of as many of its values, with replacement.

    value_N: float64, one stratum after another, as long as length_G says, none empty. What stands at a position of a
    draw depends on (seed, draw, position) alone: fewer resamples are the first of more. seed: 0 to 2 ** 63 - 1.
    Returns float64. Raises InputError where a value is not finite.
    """
    if not 0 <= seed < 2**63:
        raise InputError(f"bootstrap: seed must be between 0 and 2 ** 63 - 1, got {seed}")
    return _call("bootstrap", list(length_G), resamples, seed, value_N=value_N)


_library = torch.library.Library("shiftbench", "DEF")


def _call(op: str, *numbers: float | list[int], **tensors: Tensor) -> Any:
    """The torch operator, on tensors of one device without their graphs."""
    devices: dict[torch.device, str] = {}
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise InputError(f"{op}: {name} must be a tensor, got {type(tensor).__name__}")
        devices.setdefault(tensor.device, name)
        if tensor.device.type != "cpu" and not cuda.serves(tensor):
            raise InputError(f"{op}: {name} is on {tensor.device}, and {_why_not(tensor)}; pass {name}.cpu()")
    if len(devices) > 1:
        places = ", ".join(f"{name} on {device}" for device, name in devices.items())
        raise InputError(f"{op}: the tensors must be on one device, got {places}")
    return getattr(torch.ops.shiftbench, op)(*(tensor.detach() for tensor in tensors.values()), *numbers)


def _why_not(tensor: Tensor) -> str:
    if tensor.is_cuda:
        return "this build of shiftbench has no CUDA (build it with SHIFTBENCH_CUDA=ON, which needs nvcc)"
    return "shiftbench computes on CPUs and on CUDA devices"


def _core(tensor: Tensor) -> ModuleType:
    """The core that computes where the tensor is."""
    return cuda if tensor.is_cuda else _C


def _operator(schema: str, empty: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Makes the decorated function a torch operator. `empty` checks its arguments and allocates its results; where
    torch only traces, that is all there is to do."""

    def register(compute: Callable[..., Any]) -> Callable[..., Any]:
        _library.define(schema, tags=torch.Tag.pt2_compliant_tag)
        name = schema.partition("(")[0]
        for device in ("CPU", "CUDA"):
            _library.impl(name, compute, device)
        torch.library.register_fake(f"shiftbench::{name}", empty, lib=_library)
        return compute

    return register


def _empty_importance(grad_RPD: Tensor, embedding_PD: Tensor, op: str = "grad_x_input") -> Tensor:
    _check(op, "grad_RPD", grad_RPD, "response tokens, prompt tokens, model width")
    _check(op, "embedding_PD", embedding_PD, "prompt tokens, model width")
    if grad_RPD.shape[1:] != embedding_PD.shape:
        raise InputError(
            f"{op}: grad_RPD has shape {tuple(grad_RPD.shape)}, which needs embedding_PD of shape "
            f"{tuple(grad_RPD.shape[1:])}, got {tuple(embedding_PD.shape)}"
        )
    if grad_RPD.dtype != embedding_PD.dtype:
        raise InputError(
            f"{op}: grad_RPD is {grad_RPD.dtype} and embedding_PD {embedding_PD.dtype}; give both in one dtype"
        )
    return grad_RPD.new_empty(grad_RPD.shape[1], grad_RPD.shape[0], dtype=_result_dtype(grad_RPD))


@_operator("grad_x_input(Tensor grad_RPD, Tensor embedding_PD) -> Tensor", _empty_importance)
def _grad_x_input(grad_RPD: Tensor, embedding_PD: Tensor) -> Tensor:
    importance_PR = _empty_importance(grad_RPD, embedding_PD)
    _core(grad_RPD).grad_x_input(_rows(grad_RPD), _rows(embedding_PD), importance_PR)
    return importance_PR


def _empty_levels(importance_PR: Tensor, levels: int) -> Tensor:
    _check("importance_levels", "importance_PR", importance_PR, "prompt tokens, response tokens")
    _check_levels("importance_levels", levels)
    return importance_PR.new_empty(importance_PR.shape, dtype=torch.uint8)


@_operator("importance_levels(Tensor importance_PR, int levels) -> Tensor", _empty_levels)
def _importance_levels(importance_PR: Tensor, levels: int) -> Tensor:
    level_PR = _empty_levels(importance_PR, levels)
    bad = _core(importance_PR).importance_levels(_rows(importance_PR), level_PR, levels)
    _refuse_importance("importance_levels", bad, level_PR.shape[1])
    return level_PR


def _empty_density(level_PR: Tensor, cutoff: int, p: float) -> Tensor:
    op = "importance_density"
    _check(op, "level_PR", level_PR, "prompt tokens, response tokens", (torch.uint8, *FLOATS))
    _check_norm(op, p)
    return level_PR.new_empty(level_PR.shape[0], dtype=_result_dtype(level_PR))


@_operator("importance_density(Tensor level_PR, int cutoff, float p) -> Tensor", _empty_density)
def _importance_density(level_PR: Tensor, cutoff: int, p: float) -> Tensor:
    density_P = _empty_density(level_PR, cutoff, p)
    bad = _core(level_PR).importance_density(_rows(level_PR), density_P, cutoff, p)
    if bad >= 0:
        at_p, at_r = divmod(bad, level_PR.shape[1])
        raise InputError(
            f"importance_density: level_PR[{at_p}, {at_r}] is {level_PR[at_p, at_r].item()}; "
            "levels must be finite and not negative"
        )
    return density_P


def _empty_density_from_grad(
    grad_RPD: Tensor, embedding_PD: Tensor, levels: int, cutoff: int, p: float
) -> tuple[Tensor, Tensor, Tensor]:
    op = "importance_density_from_grad"
    importance_PR = _empty_importance(grad_RPD, embedding_PD, op)
    _check_levels(op, levels)
    _check_norm(op, p)
    level_PR = importance_PR.new_empty(importance_PR.shape, dtype=torch.uint8)
    return importance_PR, level_PR, importance_PR.new_empty(importance_PR.shape[0])


@_operator(
    "importance_density_from_grad(Tensor grad_RPD, Tensor embedding_PD, int levels, int cutoff, float p) "
    "-> (Tensor, Tensor, Tensor)",
    _empty_density_from_grad,
)
def _importance_density_from_grad(
    grad_RPD: Tensor, embedding_PD: Tensor, levels: int, cutoff: int, p: float
) -> tuple[Tensor, Tensor, Tensor]:
    results = _empty_density_from_grad(grad_RPD, embedding_PD, levels, cutoff, p)
    bad = _core(grad_RPD).importance_density_from_grad(
        _rows(grad_RPD), _rows(embedding_PD), *results, levels, cutoff, p
    )
    _refuse_importance("importance_density_from_grad", bad, grad_RPD.shape[0])
    return results


def _empty_topk(embedding_VD: Tensor, direction_CD: Tensor, k: int) -> tuple[Tensor, Tensor]:
    op = "vocab_topk"
    _check(op, "embedding_VD", embedding_VD, "words, model width")
    _check(op, "direction_CD", direction_CD, "directions, model width")
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


@_operator("vocab_topk(Tensor embedding_VD, Tensor direction_CD, int k) -> (Tensor, Tensor)", _empty_topk)
def _vocab_topk(embedding_VD: Tensor, direction_CD: Tensor, k: int) -> tuple[Tensor, Tensor]:
    value_CK, index_CK = _empty_topk(embedding_VD, direction_CD, k)
    direction_CD = _rows(direction_CD).to(value_CK.dtype)
    word, direction, overflow = _core(embedding_VD).vocab_topk(_rows(embedding_VD), direction_CD, value_CK, index_CK)
    for name, row in (("embedding_VD", word), ("direction_CD", direction)):
        if row >= 0:
            raise InputError(f"vocab_topk: row {row} of {name} has a value that is not finite; look for nan or inf")
    if overflow >= 0:
        raise InputError(
            f"vocab_topk: scores of direction {overflow} overflow {value_CK.dtype}; scale it to unit length"
        )
    return value_CK, index_CK


def _check_words(op: str, unit_VG: Tensor, cutoff_V: Tensor, spelling_V: Tensor) -> None:
    _check(op, "unit_VG", unit_VG, "words, vector width")
    _check(op, "cutoff_V", cutoff_V, "words", (torch.float64,))
    _check(op, "spelling_V", spelling_V, "words", (torch.int64,))
    for name, tensor in (("cutoff_V", cutoff_V), ("spelling_V", spelling_V)):
        if len(tensor) != len(unit_VG):
            raise InputError(f"{op}: {name} must have a value for each of {len(unit_VG)} words, got {len(tensor)}")


def _fake_cooccurrence(unit_VG: Tensor, cutoff_V: Tensor, spelling_V: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    _check_words("cooccurrence", unit_VG, cutoff_V, spelling_V)
    size = torch.library.get_ctx().new_dynamic_size()
    return (
        unit_VG.new_empty(len(unit_VG) + 1, dtype=torch.int64),
        unit_VG.new_empty(size, dtype=torch.int32),
        unit_VG.new_empty(size, dtype=_result_dtype(unit_VG)),
    )


@_operator(
    "cooccurrence(Tensor unit_VG, Tensor cutoff_V, Tensor spelling_V) -> (Tensor, Tensor, Tensor)", _fake_cooccurrence
)
def _cooccurrence(unit_VG: Tensor, cutoff_V: Tensor, spelling_V: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    _check_words("cooccurrence", unit_VG, cutoff_V, spelling_V)
    unit_VG, words = _rows(unit_VG.to(_result_dtype(unit_VG))), len(unit_VG)
    single = unit_VG.dtype == torch.float32
    core = _core(unit_VG)
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
    _check(op, "first_V", first_V, "words and one", (torch.int64,))
    _check(op, "other_N", other_N, "co-occurring words", (torch.int32,))
    _check(op, "cosine_N", cosine_N, "co-occurring words", (torch.float32, torch.float64))
    for side, (value_CK, index_CK) in sides.items():
        _check(op, f"{side}_value_CK", value_CK, "neuron pairs, words kept")
        _check(op, f"{side}_index_CK", index_CK, "neuron pairs, words kept", (torch.int64,))
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


@_operator(
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
        words_and_signs += [_rows(index_CK), value_CK.sign().to(torch.int8).contiguous()]
    core = _core(cosine_N)
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


def _empty_bootstrap(value_N: Tensor, length_G: list[int], resamples: int, seed: int) -> Tensor:
    _check("bootstrap", "value_N", value_N, "observations", (torch.float64,))
    if not all(0 < length < 2**32 for length in length_G):
        raise InputError(f"bootstrap: length_G must hold positive counts below 2 ** 32, got {list(length_G)}")
    if sum(length_G) != len(value_N):
        raise InputError(f"bootstrap: value_N has {len(value_N)} values, the strata {sum(length_G)}; they must agree")
    if resamples < 1:
        raise InputError(f"bootstrap: resamples must be at least 1, got {resamples}")
    return value_N.new_empty(resamples, len(length_G))


@_operator("bootstrap(Tensor value_N, int[] length_G, int resamples, int seed) -> Tensor", _empty_bootstrap)
def _bootstrap(value_N: Tensor, length_G: list[int], resamples: int, seed: int) -> Tensor:
    mean_SG = _empty_bootstrap(value_N, length_G, resamples, seed)
    if bad := torch.nonzero(~value_N.isfinite()).flatten().tolist():
        raise InputError(f"bootstrap: value_N[{bad[0]}] is {value_N[bad[0]].item()}; look for nan or inf")
    _core(value_N).bootstrap(value_N.contiguous(), list(length_G), seed, mean_SG)
    return mean_SG


def _result_dtype(tensor: Tensor) -> torch.dtype:
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def _check(op: str, name: str, tensor: Tensor, dimensions: str, dtypes: tuple[torch.dtype, ...] = FLOATS) -> None:
    count = dimensions.count(",") + 1
    if tensor.dim() != count:
        raise InputError(f"{op}: {name} must have {count} dimensions ({dimensions}), got shape {tuple(tensor.shape)}")
    if tensor.dtype not in dtypes:
        known = ", ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
        raise InputError(f"{op}: {name} must be one of {known}, got {tensor.dtype}")


def _rows(tensor: Tensor) -> Tensor:
    """The tensor as the core reads it: each row contiguous."""
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


def _check_levels(op: str, levels: int) -> None:
    if not 1 <= levels <= 255:
        raise InputError(f"{op}: levels must be between 1 and 255 (a level is one byte), got {levels}")


def _check_norm(op: str, p: float) -> None:
    if not 1 <= p < float("inf"):
        raise InputError(f"{op}: p must be a finite number, at least 1, got {p}")


def _refuse_importance(op: str, bad: int, response_tokens: int) -> None:
    if bad >= 0:
        at_p, at_r = divmod(bad, response_tokens)
        raise InputError(
            f"{op}: the importance of prompt token {at_p} for response token {at_r} is not finite; "
            "look for nan or inf in the weights, or compute in a wider dtype"
        )
