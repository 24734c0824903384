"""The door to the compiled core: each function checks its arguments, allocates its results, calls `_C`.

Tensors in, tensors out; no files, no models. Rows may lie anywhere (views and slices are read in place). Nothing here
is differentiable, and no result depends on the number of threads.
"""

from __future__ import annotations

import torch
from torch import Tensor

from shiftbench.errors import InputError

try:
    from shiftbench import _C
except ImportError as missing:
    raise ImportError(
        f"shiftbench's compiled core does not load ({missing}); build it with 'pip install .' "
        "(from a clone: 'pip install -e .'), which needs a C++17 compiler and Python's headers"
    ) from missing

FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
WORDS, DIRECTIONS = 1024, 768  # a block of scores: small enough for the cache, large enough for the matrix product


def set_threads(count: int) -> None:
    """Let the core use `count` threads (at first: as many as the machine runs at once). No result depends on it."""
    if count < 1:
        raise InputError(f"set_threads: count must be at least 1, got {count}")
    _C.set_threads(count)


def get_threads() -> int:
    """The number of threads the core uses."""
    return _C.get_threads()


def grad_x_input(grad_RPD: Tensor, embedding_PD: Tensor) -> Tensor:
    """Importance of each prompt token for each response token: gradient x input, summed over D (DESIGN, section 2).

    grad_RPD: gradient of each response token's probability with respect to the prompt's embeddings.
    embedding_PD: those embeddings. Both of one dtype: float32, float64, bfloat16 or float16.
    Returns importance_PR, in units of probability; float64 for float64, else float32, summed in that type.
    """
    importance_PR, grad_RPD, embedding_PD = _importance_like("grad_x_input", grad_RPD, embedding_PD)
    _C.grad_x_input(grad_RPD, embedding_PD, importance_PR)
    return importance_PR


def importance_levels(importance_PR: Tensor, levels: int) -> Tensor:
    """Level of each importance: clipped at 0, scaled by its response token's maximum, rounded up to 0..levels.

    level = ceil(levels * a / (max over prompt tokens of a + 1e-7)), a = max(0, importance): DESIGN, section 2.
    importance_PR: any float dtype; the level is computed in float64. levels: 1 to 255.
    Returns level_PR, uint8, uncut. Raises InputError where an importance is not finite.
    """
    op = "importance_levels"
    importance_PR = _matrix(op, "importance_PR", importance_PR, "prompt tokens, response tokens")
    _levels(op, levels)
    level_PR = torch.empty(importance_PR.shape, dtype=torch.uint8)
    _refuse_importance(op, _C.importance_levels(importance_PR, level_PR, levels), level_PR.shape[1])
    return level_PR


def importance_density(level_PR: Tensor, cutoff: int, p: float) -> Tensor:
    """Importance density of each prompt token: l1 / lp norm of its levels, relative to the prompt's largest.

    Levels at or below cutoff count as 0; ratio = l1 / (lp + 1e-9); density = ratio / (max ratio + 1e-9): DESIGN,
    section 2. level_PR: uint8 or any float dtype, not negative. p: the norm's order, at least 1.
    Returns density_P, 0 to 1, 0 where no level is above the cutoff; float64 for float64, else float32; computed in
    float64. Raises InputError where a level is negative or not finite.
    """
    op = "importance_density"
    level_PR = _matrix(op, "level_PR", level_PR, "prompt tokens, response tokens", (torch.uint8, *FLOATS))
    _norm(op, p)
    density_P = torch.empty(level_PR.shape[0], dtype=_result_dtype(level_PR))
    bad = _C.importance_density(level_PR, density_P, cutoff, p)
    if bad >= 0:
        at_p, at_r = divmod(bad, level_PR.shape[1])
        raise InputError(
            f"{op}: level_PR[{at_p}, {at_r}] is {level_PR[at_p, at_r].item()}; levels must be finite and not negative"
        )
    return density_P


def importance_density_from_grad(
    grad_RPD: Tensor, embedding_PD: Tensor, levels: int, cutoff: int, p: float
) -> tuple[Tensor, Tensor, Tensor]:
    """(importance_PR, level_PR, density_P): the three functions above in one pass over the gradients, same bytes.

    Arguments, dtypes and errors as there.
    """
    op = "importance_density_from_grad"
    importance_PR, grad_RPD, embedding_PD = _importance_like(op, grad_RPD, embedding_PD)
    _levels(op, levels)
    _norm(op, p)
    level_PR = torch.empty(importance_PR.shape, dtype=torch.uint8)
    density_P = torch.empty(importance_PR.shape[0], dtype=importance_PR.dtype)
    bad = _C.importance_density_from_grad(grad_RPD, embedding_PD, importance_PR, level_PR, density_P, levels, cutoff, p)
    _refuse_importance(op, bad, level_PR.shape[1])
    return importance_PR, level_PR, density_P


def vocab_topk(embedding_VD: Tensor, direction_CD: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """(values_CK, indices_CK): for each direction, the k words with the largest |embedding . direction|.

    embedding_VD, direction_CD: any float dtypes. values_CK: signed, ordered by magnitude, largest first, ties to the
    lower index; float64 if either is float64, else float32; summed in float64 and rounded. indices_CK: int64.
    Holds WORDS x DIRECTIONS scores and k + 256 candidates a direction, never V x C (DESIGN, section 4).
    Raises InputError where k is not in 1..V or a number is not finite.
    """
    op = "vocab_topk"
    embedding_VD = _matrix(op, "embedding_VD", embedding_VD, "words, model width")
    direction_CD = _matrix(op, "direction_CD", direction_CD, "directions, model width")
    (words, width), (directions, direction_width) = embedding_VD.shape, direction_CD.shape
    if width != direction_width:
        raise InputError(f"{op}: embedding_VD is {width} wide and direction_CD {direction_width}; they must agree")
    if not 1 <= k <= words:
        raise InputError(f"{op}: k must be between 1 and the number of words ({words}), got {k}")
    dtype = torch.float64 if torch.float64 in (embedding_VD.dtype, direction_CD.dtype) else torch.float32
    error_C = _score_error(embedding_VD, direction_CD, dtype)
    value_CK = torch.empty(directions, k, dtype=dtype)
    index_CK = torch.empty(directions, k, dtype=torch.int64)
    for part_CD, part_C, part_value_CK, part_index_CK in zip(
        *(tensor.split(DIRECTIONS) for tensor in (direction_CD, error_C, value_CK, index_CK)), strict=True
    ):
        _vocab_topk_part(embedding_VD, part_CD.to(dtype), part_C, part_value_CK, part_index_CK)
    return value_CK, index_CK


def _vocab_topk_part(
    embedding_VD: Tensor, direction_CD: Tensor, error_C: Tensor, value_CK: Tensor, index_CK: Tensor
) -> None:
    """Fill value_CK and index_CK for as many directions as are scored at a time."""
    directions, k = value_CK.shape
    score_CV = direction_CD.new_empty(directions, WORDS)
    topk = (_C.VocabTopk64 if score_CV.dtype == torch.float64 else _C.VocabTopk32)(error_C.tolist(), k)
    for first, block_VD in zip(range(0, len(embedding_VD), WORDS), embedding_VD.split(WORDS), strict=True):
        block_CV = score_CV.view(-1)[: directions * len(block_VD)].view(directions, len(block_VD))
        torch.mm(direction_CD, block_VD.to(direction_CD.dtype).T, out=block_CV)
        topk.scan(block_CV, first, embedding_VD, direction_CD)
    topk.finish(embedding_VD, direction_CD, value_CK, index_CK)


def _score_error(embedding_VD: Tensor, direction_CD: Tensor, dtype: torch.dtype) -> Tensor:
    """error_C, float64: how far a score of the matrix product in dtype may be from the sum in float64, rounded.

    The bound of any order of summation, D u / (1 - D u) |e| |d| with u = eps / 2 (Higham 2002, section 3.1), doubled
    for the second rounding; and what underflow can take. 0 for a direction of zeros.
    """
    largest = float(_norms("embedding_VD", embedding_VD).max())
    norm_C = _norms("direction_CD", direction_CD)
    number, width = torch.finfo(dtype), embedding_VD.shape[1]
    if directions := torch.nonzero(norm_C * largest >= number.max).flatten().tolist():
        raise InputError(f"vocab_topk: scores of direction {directions[0]} overflow {dtype}; scale it to unit length")
    error_C = width * (number.eps * norm_C * largest + number.tiny)
    return torch.where(norm_C > 0, error_C, 0.0)


def _norms(name: str, tensor_ND: Tensor) -> Tensor:
    """The length of each row, float64, all finite."""
    norm_N = torch.cat([torch.linalg.vector_norm(part.double(), dim=1) for part in tensor_ND.split(WORDS)])
    if bad := torch.nonzero(~norm_N.isfinite()).flatten().tolist():
        raise InputError(f"vocab_topk: row {bad[0]} of {name} has a value that is not finite; look for nan or inf")
    return norm_N


def _importance_like(op: str, grad_RPD: Tensor, embedding_PD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """An importance_PR to fill, and the checked arguments it comes from."""
    grad_RPD = _strided(op, "grad_RPD", grad_RPD, 3, "response tokens, prompt tokens, model width")
    embedding_PD = _matrix(op, "embedding_PD", embedding_PD, "prompt tokens, model width")
    if grad_RPD.shape[1:] != embedding_PD.shape:
        raise InputError(
            f"{op}: grad_RPD has shape {tuple(grad_RPD.shape)}, which needs embedding_PD of shape "
            f"{tuple(grad_RPD.shape[1:])}, got {tuple(embedding_PD.shape)}"
        )
    if grad_RPD.dtype != embedding_PD.dtype:
        raise InputError(
            f"{op}: grad_RPD is {grad_RPD.dtype} and embedding_PD {embedding_PD.dtype}; give both in one dtype"
        )
    importance_PR = torch.empty(grad_RPD.shape[1], grad_RPD.shape[0], dtype=_result_dtype(grad_RPD))
    return importance_PR, grad_RPD, embedding_PD


def _result_dtype(tensor: Tensor) -> torch.dtype:
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def _matrix(op: str, name: str, tensor: Tensor, dimensions: str, dtypes: tuple[torch.dtype, ...] = FLOATS) -> Tensor:
    return _strided(op, name, tensor, 2, dimensions, dtypes)


def _strided(
    op: str, name: str, tensor: Tensor, count: int, dimensions: str, dtypes: tuple[torch.dtype, ...] = FLOATS
) -> Tensor:
    """The tensor as the core reads it: on the CPU, of a known dtype, each row contiguous, without a graph."""
    if not isinstance(tensor, Tensor):
        raise InputError(f"{op}: {name} must be a tensor, got {type(tensor).__name__}")
    if tensor.device.type != "cpu":
        raise InputError(
            f"{op}: {name} is on {tensor.device}, but this build of shiftbench has no CUDA; pass {name}.cpu()"
        )
    if tensor.dim() != count:
        raise InputError(f"{op}: {name} must have {count} dimensions ({dimensions}), got shape {tuple(tensor.shape)}")
    if tensor.dtype not in dtypes:
        known = ", ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
        raise InputError(f"{op}: {name} must be one of {known}, got {tensor.dtype}")
    tensor = tensor.detach()
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


def _levels(op: str, levels: int) -> None:
    if not 1 <= levels <= 255:
        raise InputError(f"{op}: levels must be between 1 and 255 (a level is one byte), got {levels}")


def _norm(op: str, p: float) -> None:
    if not 1 <= p < float("inf"):
        raise InputError(f"{op}: p must be a finite number, at least 1, got {p}")


def _refuse_importance(op: str, bad: int, response_tokens: int) -> None:
    if bad >= 0:
        at_p, at_r = divmod(bad, response_tokens)
        raise InputError(
            f"{op}: the importance of prompt token {at_p} for response token {at_r} is not finite; "
            "look for nan or inf in the weights, or compute in a wider dtype"
        )
