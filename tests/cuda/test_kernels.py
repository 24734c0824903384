"""The core on a GPU against the core on the CPU, which tests/ops/test_ops.py holds against its formulas.

Where there is no GPU the same kernels run emulated, each thread of a block as a fiber: `make test-cuda` builds them so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from shiftbench import _C, ops
from shiftbench.errors import InputError
from shiftbench.ops import cuda, operators
from tests.cuda import needs_kernels

pytestmark = needs_kernels
FLOATS = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


@pytest.fixture(params=[False, True], ids=["forwards", "backwards"])
def on_gpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Calls a function of ops on a GPU's kernels and returns what it found, on the CPU.

    Emulated, with threads and blocks in either order: a result that hangs on it is one that lacks a barrier.
    """
    emulated = not _C.has_cuda
    if emulated:
        monkeypatch.setattr(operators, "core_of", lambda _: cuda)
        monkeypatch.setattr("shiftbench.ops.cuda.topk._tile_bytes", lambda _: 1 << 16)
        _C.cuda.set_reversed(request.param)
    elif request.param:
        pytest.skip("a GPU runs its blocks as it likes")

    def place(x: Any) -> Any:
        if isinstance(x, tuple):
            return tuple(map(place, x))
        return x.cuda() if isinstance(x, Tensor) and not emulated else x

    def call(function: Callable[..., Any], *arguments: Any) -> Any:
        found = function(*map(place, arguments))
        return found.cpu() if isinstance(found, Tensor) else tuple(part.cpu() for part in found)

    yield call
    if emulated:
        _C.cuda.set_reversed(False)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def same(found: Any, wanted: Any) -> bool:
    """Whether two results, or tuples of them, have the same bytes."""
    if isinstance(wanted, Tensor):
        return found.dtype == wanted.dtype and torch.equal(found, wanted)
    return len(found) == len(wanted) and all(map(same, found, wanted))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("responses", "tokens", "width"), [(1, 1, 1), (3, 5, 16), (7, 9, 300), (4, 17, 1027)])
def test_importance(on_gpu: Any, dtype: torch.dtype, responses: int, tokens: int, width: int) -> None:
    grad_RPD = torch.randn(responses, tokens, width, generator=seeded(1)).to(dtype)
    embedding_PD = torch.randn(tokens, width, generator=seeded(2)).to(dtype)
    importance_PR = ops.grad_x_input(grad_RPD, embedding_PD)  # emulated too; the CPU's own is wanted
    wanted_PR = cpu(ops.grad_x_input, grad_RPD, embedding_PD)
    assert same(on_gpu(ops.grad_x_input, grad_RPD, embedding_PD), wanted_PR) and same(importance_PR.cpu(), wanted_PR)
    assert same(on_gpu(ops.importance_levels, wanted_PR, 10), cpu(ops.importance_levels, wanted_PR, 10))
    found = on_gpu(ops.importance_density_from_grad, grad_RPD, embedding_PD, 10, 1, 4.0)
    wanted = cpu(ops.importance_density_from_grad, grad_RPD, embedding_PD, 10, 1, 4.0)
    assert same(found[:2], wanted[:2])
    torch.testing.assert_close(found[2], wanted[2], rtol=1e-6 if dtype != torch.float64 else 1e-13, atol=0)


@pytest.mark.parametrize("dtype", [torch.uint8, *FLOATS])
def test_density(on_gpu: Any, dtype: torch.dtype) -> None:
    level_PR = torch.randint(0, 11, (13, 700), generator=seeded(3)).to(dtype)
    found, wanted = on_gpu(ops.importance_density, level_PR, 2, 4.0), cpu(ops.importance_density, level_PR, 2, 4.0)
    assert found.dtype == wanted.dtype
    torch.testing.assert_close(found, wanted, rtol=1e-6 if dtype != torch.float64 else 1e-13, atol=0)
    assert not on_gpu(ops.importance_density, level_PR[:0], 2, 4.0).numel()


def test_importances_that_are_not_finite_are_refused(on_gpu: Any) -> None:
    importance_PR = torch.randn(40, 30, generator=seeded(4))
    importance_PR[3, 7] = torch.nan
    importance_PR[20, 2] = torch.inf
    with pytest.raises(InputError, match="prompt token 3 for response token 7 is not finite"):
        on_gpu(ops.importance_levels, importance_PR, 10)
    level_PR = torch.zeros(5, 600)
    level_PR[2, 500] = -1
    with pytest.raises(InputError, match=r"level_PR\[2, 500\] is -1"):
        on_gpu(ops.importance_density, level_PR, 0, 4.0)


@pytest.mark.parametrize("embedding", FLOATS)
@pytest.mark.parametrize("direction", [torch.float32, torch.float64])
@pytest.mark.parametrize(("words", "directions", "width", "k"), [(7, 3, 5, 7), (3000, 5, 40, 10), (5000, 2, 19, 900)])
def test_vocab_topk(
    on_gpu: Any, embedding: torch.dtype, direction: torch.dtype, words: int, directions: int, width: int, k: int
) -> None:
    embedding_VD = torch.randn(words, width, generator=seeded(5)).to(embedding)
    direction_CD = torch.randn(directions, width, generator=seeded(6)).to(direction)
    assert same(
        on_gpu(ops.vocab_topk, embedding_VD, direction_CD, k), cpu(ops.vocab_topk, embedding_VD, direction_CD, k)
    )


def test_vocab_topk_of_many_equal_scores(on_gpu: Any) -> None:
    """More ties than a direction has room for, and a direction of zeros: ties go to the lower index."""
    embedding_VD = torch.randn(4, 8, generator=seeded(7)).repeat(1500, 1)
    direction_CD = torch.cat([torch.randn(2, 8, generator=seeded(8)), torch.zeros(1, 8)])
    assert same(
        on_gpu(ops.vocab_topk, embedding_VD, direction_CD, 20), cpu(ops.vocab_topk, embedding_VD, direction_CD, 20)
    )


def test_vocab_topk_with_more_words_than_the_kernel_keeps(on_gpu: Any) -> None:
    embedding_VD, direction_CD = torch.randn(9000, 4, generator=seeded(9)), torch.randn(2, 4, generator=seeded(10))
    assert same(
        on_gpu(ops.vocab_topk, embedding_VD, direction_CD, 7000), cpu(ops.vocab_topk, embedding_VD, direction_CD, 7000)
    )


def test_vocab_topk_refuses_what_the_cpu_refuses(on_gpu: Any) -> None:
    embedding_VD, direction_CD = torch.randn(300, 6, generator=seeded(11)), torch.randn(4, 6, generator=seeded(12))
    for bad_VD, bad_CD in (
        (embedding_VD.index_fill(0, torch.tensor([211]), torch.nan), direction_CD),
        (embedding_VD, direction_CD.index_fill(0, torch.tensor([2]), torch.inf)),
        (embedding_VD * 1e20, direction_CD * 1e20),
    ):
        with pytest.raises(InputError) as wanted:
            cpu(ops.vocab_topk, bad_VD, bad_CD, 3)
        with pytest.raises(InputError) as found:
            on_gpu(ops.vocab_topk, bad_VD, bad_CD, 3)
        assert str(found.value) == str(wanted.value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_word_pairs(on_gpu: Any, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shiftbench.ops.pairs.BLOCK_WORDS", 64)  # several blocks of cosines
    words, neurons, k = 230, 6, 70
    unit_VG = torch.nn.functional.normalize(torch.randn(words, 12, generator=seeded(13), dtype=dtype), dim=1)
    cutoff_V = torch.rand(words, generator=seeded(14), dtype=torch.float64) * 0.4
    cutoff_V[5], cutoff_V[6] = torch.inf, torch.nan
    spelling_V = torch.arange(words) // 2
    given = unit_VG, cutoff_V, spelling_V
    cooccurring = cpu(ops.cooccurrence, *given)
    assert same(on_gpu(ops.cooccurrence, *given), cooccurring) and len(cooccurring[1]) > 500
    sides: list[Tensor] = []
    for seed in (15, 16):
        index_CK = torch.stack([torch.randperm(words, generator=seeded(seed + 9 * n))[:k] for n in range(neurons)])
        sides += [torch.randn(neurons, k, generator=seeded(seed)).round(), index_CK]
    wanted = cpu(ops.word_pairs, cooccurring, *sides)
    assert same(on_gpu(ops.word_pairs, cooccurring, *sides), wanted) and len(wanted[0]) > 200
    for side, name in ((1, "query"), (3, "key")):
        wrong = [part.clone() for part in sides]
        wrong[side][4, 3] = words
        with pytest.raises(InputError, match=rf"{name}_index_CK\[4, 3\] is {words}"):
            on_gpu(ops.word_pairs, cooccurring, *wrong)
    sides[3][2, 60] = sides[3][2, 8]
    with pytest.raises(InputError, match=r"key_index_CK\[2, 60\]"):
        on_gpu(ops.word_pairs, cooccurring, *sides)


def test_bootstrap(on_gpu: Any) -> None:
    value_N = torch.randn(1700, generator=seeded(17), dtype=torch.float64)
    arguments = value_N, [1, 5, 1200, 494], 70, 2**62 + 5
    assert same(on_gpu(ops.bootstrap, *arguments), cpu(ops.bootstrap, *arguments))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("cotangent", [False, True])
@pytest.mark.parametrize("shape", [(5, 300), (4, 3, 34)])
def test_stages(on_gpu: Any, dtype: torch.dtype, cotangent: bool, shape: tuple[int, ...]) -> None:
    """The derivatives between the engine's products; the CPU fuses multiplies and adds there, so not to the bit."""
    rows, width = shape[0], shape[-1]
    position_N = torch.randint(0, 7, (rows,), generator=seeded(18))

    def drawn(seed: int, *size: int) -> Tensor:
        return torch.randn(*size, generator=seeded(seed), dtype=dtype)

    def norm(core: Any, centred: bool, *tensors: Tensor) -> Tensor:
        out = torch.empty_like(tensors[0])
        core.norm_derivative(*tensors, out, centred, cotangent)
        return out

    def rotate(core: Any, x: Tensor, *rest: Tensor) -> Tensor:
        core.rotary_derivative(x := x.clone(), *rest, cotangent)
        return x

    def gate(core: Any, up: Tensor, gate: Tensor | None, *rest: Tensor | None) -> Tensor:
        up, gate = up.clone(), None if gate is None else gate.clone()
        core.activation_derivative(up, gate, *rest, position.to(up.device), cotangent)
        return up if gate is None else torch.stack([up, gate])

    position = position_N
    heads = shape[1] if len(shape) == 3 else 1
    kept = 7, *shape[1:]
    cases: list[tuple[Callable[..., Tensor], tuple[Any, ...]]] = [
        (norm, (False, drawn(1, *shape), drawn(2, *kept), drawn(3, *kept[:-1], 1), drawn(4, width), position_N)),
        (norm, (True, drawn(1, *shape), drawn(2, *kept), drawn(3, *kept[:-1], 1), drawn(4, width), position_N)),
        (rotate, (drawn(5, rows, heads, width), drawn(6, 7, width), drawn(7, 7, width), position_N)),
        (gate, (drawn(8, rows, width), drawn(9, rows, width), drawn(10, 7, width), drawn(11, 7, width))),
        (gate, (drawn(8, rows, width), None, drawn(10, 7, width), None)),
    ]
    for stage, arguments in cases:
        found = on_gpu(lambda *given, stage=stage: stage(cuda, *given), *arguments)
        torch.testing.assert_close(
            found, stage(_C, *arguments), rtol=1e-5 if dtype == torch.float32 else 1e-12, atol=1e-5
        )


def cpu(function: Callable[..., Any], *arguments: Any) -> Any:
    """The function on the CPU's core, whatever the fixture has put in its place."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(operators, "core_of", lambda _: _C)
        return function(*arguments)
