"""The core's ops against their formulas."""

import importlib
import sys

import pytest
import torch

import shiftbench
from shiftbench import _C, ops
from shiftbench.errors import InputError
from tests import reference

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
SHAPES = [(1, 1, 1), (1, 7, 5), (13, 1, 33), (3, 17, 257), (31, 29, 576)]  # R, P, D
THREADS = (1, 2, 3)


@pytest.fixture(autouse=True)
def threads():
    before = ops.get_threads(), torch.get_num_threads(), _C.get_instructions()
    yield
    _C.set_instructions(before[2])
    ops.set_threads(before[0])
    torch.set_num_threads(before[1])


def draw(*shape, dtype=torch.float64, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(dtype)


def wide(dtype):
    return torch.float64 if dtype == torch.float64 else torch.float32


def no_worse_than_plain(found, plain, wanted):
    """The largest error is at most twice that of the plain formula in the inputs' dtype; float64 agrees closely."""
    if found.dtype == torch.float64:
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-14)
    else:
        assert (found.double() - wanted).abs().max() <= 2 * (plain.double() - wanted).abs().max() + 1e-12


def junk(x):
    return torch.nan if x.is_floating_point() else 255


# Layouts that hold the same numbers, with what must not be read around them.
LAYOUTS = {
    "contiguous": lambda x: x,
    "every second row": lambda x: torch.stack([x, torch.full_like(x, junk(x))], -2).flatten(-3, -2)[..., ::2, :],
    "inner dimension strided": lambda x: x.mT.contiguous().mT,
    "part of wider rows": lambda x: torch.nn.functional.pad(x, (3, 2), value=junk(x))[..., 3:-2],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_grad_x_input(dtype, shape, layout):
    grad_RPD, embedding_PD = draw(*shape, dtype=dtype), draw(*shape[1:], dtype=dtype, seed=1)
    found_PR = ops.grad_x_input(LAYOUTS[layout](grad_RPD), LAYOUTS[layout](embedding_PD))
    assert found_PR.dtype == wide(dtype)
    wanted_PR = reference.grad_x_input(grad_RPD.double(), embedding_PD.double())
    # Multiplied in the narrow dtype, summed wide: the kindest reading of the plain formula.
    plain_PR = (grad_RPD * embedding_PD).to(wide(dtype)).sum(-1).T
    no_worse_than_plain(found_PR, plain_PR, wanted_PR)


def test_grad_x_input_where_rounding_shows():
    """One float32 accumulator over 2 ** 20 terms of 1 + 2 ** -12 is off by parts in ten thousand; the tree is not."""
    width = 2**20
    grad_RPD, embedding_PD = torch.full((1, 1, width), 1 + 2.0**-12), torch.ones(1, width)
    found = ops.grad_x_input(grad_RPD, embedding_PD).item()
    assert found == pytest.approx(width * (1 + 2.0**-12), rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_every_16_bit_number_is_read_exactly(dtype):
    every = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype)
    one = torch.ones(len(every), 1, dtype=dtype)
    found = ops.grad_x_input(every[None, :, None], one)[:, 0]
    torch.testing.assert_close(found, every.float(), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (7, 1), (17, 31), (101, 13)], ids=str)
def test_importance_levels(shape, dtype, layout):
    importance_PR = draw(*shape, dtype=dtype)
    importance_PR[:, 0] = -importance_PR[:, 0].abs()  # a column without a positive value has no level
    importance_PR[:, -1] *= 0.0 if shape[1] > 2 else 1.0
    found_PR = ops.importance_levels(LAYOUTS[layout](importance_PR), 10)
    assert found_PR.dtype == torch.uint8
    assert torch.equal(found_PR.double(), reference.importance_levels(importance_PR.double(), 10))


def test_levels_of_equal_and_of_improbable_tokens():
    equal_PR = torch.full((4, 1), 0.25)
    assert ops.importance_levels(equal_PR, 10).flatten().tolist() == [10] * 4
    # At a maximum of 1e-8 the 1e-7 leads: 10 * 1e-8 / 1.1e-7 rounds up to 1.
    assert ops.importance_levels(equal_PR * 4e-8, 10).flatten().tolist() == [1] * 4
    assert ops.importance_levels(torch.tensor([[3e38], [1e38]]), 255).flatten().tolist() == [255, 85]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.uint8, *DTYPES], ids=str)
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (17, 31), (37, 101)], ids=str)
@pytest.mark.parametrize(("cutoff", "p"), [(7, 4), (0, 1), (3, 2.5)])
def test_importance_density(shape, dtype, layout, cutoff, p):
    level_PR = (5 * draw(*shape)).abs().ceil().clamp(max=10).to(dtype)
    level_PR[shape[0] // 2] = 0
    found_P = ops.importance_density(LAYOUTS[layout](level_PR), cutoff, p)
    wanted_P = reference.importance_density(level_PR.double(), cutoff, p)
    assert found_P.dtype == wide(dtype) and found_P[shape[0] // 2] == 0
    if dtype == torch.float64:
        torch.testing.assert_close(found_P, wanted_P, rtol=1e-12, atol=1e-15)
    else:
        assert torch.equal(found_P, found_P.clamp(0, 1))
        torch.testing.assert_close(found_P.double(), wanted_P, rtol=2**-23, atol=0)


def test_density_of_known_rows():
    """All in one response token: ratio 1. The same in all R: ratio R ** (1 - 1 / p), the largest there is."""
    level_PR = torch.tensor([[10] * 16, [10] + [0] * 15, [7] * 16, [0] * 16], dtype=torch.uint8)
    found_P = ops.importance_density(level_PR, cutoff=7, p=4)
    torch.testing.assert_close(found_P, torch.tensor([1.0, 1 / 8, 0.0, 0.0]))
    assert ops.importance_density(torch.empty(3, 0, dtype=torch.uint8), 7, 4).tolist() == [0.0, 0.0, 0.0]
    assert ops.importance_density(torch.empty(0, 3), 7, 4).shape == (0,)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_fused_gives_the_bytes_of_its_parts(dtype, shape):
    grad_RPD, embedding_PD = draw(*shape, dtype=dtype), draw(*shape[1:], dtype=dtype, seed=1)
    importance_PR, level_PR, density_P = ops.importance_density_from_grad(grad_RPD, embedding_PD, 10, 7, 4)
    assert torch.equal(importance_PR, ops.grad_x_input(grad_RPD, embedding_PD))
    assert torch.equal(level_PR, ops.importance_levels(importance_PR, 10))
    as_level_PR = level_PR.to(importance_PR.dtype)
    assert torch.equal(density_P, ops.importance_density(as_level_PR, 7, 4))


def rounded_topk(embedding_VD, direction_CD, k, dtype):
    """The reference on scores computed in float64 and rounded to the dtype of the result."""
    score_CV = (direction_CD.double() @ embedding_VD.double().T).to(dtype)
    return reference.vocab_topk(torch.eye(score_CV.shape[1], dtype=dtype), score_CV, k)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("words", "directions", "width", "k"),
    [(1, 1, 1, 1), (5, 3, 7, 5), (1023, 2, 33, 10), (1025, 5, 64, 1), (2500, 7, 48, 300), (1100, 3, 16, 1100)],
)
def test_vocab_topk(words, directions, width, k, dtype, layout):
    embedding_VD, direction_CD = draw(words, width, dtype=dtype), draw(directions, width, dtype=dtype, seed=1)
    value_CK, index_CK = ops.vocab_topk(LAYOUTS[layout](embedding_VD), LAYOUTS[layout](direction_CD), k)
    wanted_CK, wanted_index_CK = rounded_topk(embedding_VD, direction_CD, k, wide(dtype))
    assert value_CK.dtype == wide(dtype) and torch.equal(index_CK, wanted_index_CK)
    torch.testing.assert_close(value_CK, wanted_CK, rtol=1e-12 if dtype == torch.float64 else 0, atol=1e-13)


def test_vocab_topk_across_blocks_of_directions():
    embedding_VD, direction_CD = draw(1500, 8, dtype=torch.float32), draw(3001, 8, dtype=torch.float32)
    value_CK, index_CK = ops.vocab_topk(embedding_VD, direction_CD, 20)
    assert torch.equal(index_CK, rounded_topk(embedding_VD, direction_CD, 20, torch.float32)[1])
    one_by_one = [ops.vocab_topk(embedding_VD, row_D[None], 20) for row_D in direction_CD[-5:]]
    assert torch.equal(value_CK[-5:], torch.cat([value for value, _ in one_by_one]))
    assert torch.equal(index_CK[-5:], torch.cat([index for _, index in one_by_one]))


@pytest.mark.parametrize("copies", [2, 80, 2900])
def test_words_of_equal_embeddings_tie_wherever_they_stand(copies):
    """3,000 words of few distinct rows: more ties than candidates fit, across blocks and in the odd last one."""
    row_ND = draw(-(-2900 // copies), 97, dtype=torch.float32)
    embedding_VD = row_ND.repeat(copies, 1)[:2900]
    direction_CD = torch.cat([draw(5, 97, dtype=torch.float32, seed=1), torch.zeros(1, 97)])
    value_CK, index_CK = ops.vocab_topk(embedding_VD, direction_CD, 160)
    wanted_CK, wanted_index_CK = rounded_topk(embedding_VD, direction_CD, 160, torch.float32)
    assert torch.equal(index_CK, wanted_index_CK) and torch.equal(value_CK, wanted_CK)
    assert index_CK[-1].tolist() == list(range(160))


def test_near_ties_are_told_apart_where_the_matrix_product_cannot():
    """Large terms cancel and leave scores 2 ** -9 apart, less than float32 can add to those terms."""
    large_VD = draw(3000, 32).mul(2**16).round()
    rank_V = torch.randperm(3000, generator=torch.Generator().manual_seed(2))
    embedding_VD = torch.cat([large_VD, -large_VD.flip(1), rank_V[:, None] / 512], 1).float()
    direction_CD = torch.cat([draw(1, 32).abs().add(0.5), torch.zeros(1, 33)], 1)
    direction_CD[:, 32:64], direction_CD[:, 64] = direction_CD[:, :32].flip(1), 1.0
    value_CK, index_CK = ops.vocab_topk(embedding_VD, direction_CD.float(), 50)
    assert torch.equal(rank_V[index_CK[0]], torch.arange(2999, 2949, -1))
    torch.testing.assert_close(value_CK[0], torch.arange(2999, 2949, -1) / 512, rtol=0, atol=1e-5)


def test_vocab_topk_of_mixed_dtypes_and_of_no_direction():
    embedding_VD, direction_CD = draw(50, 9, dtype=torch.bfloat16), draw(4, 9)
    value_CK, index_CK = ops.vocab_topk(embedding_VD, direction_CD, 5)
    wanted_CK, wanted_index_CK = rounded_topk(embedding_VD, direction_CD, 5, torch.float64)
    assert value_CK.dtype == torch.float64 and torch.equal(index_CK, wanted_index_CK)
    torch.testing.assert_close(value_CK, wanted_CK, rtol=1e-12, atol=1e-14)
    assert [tuple(x.shape) for x in ops.vocab_topk(embedding_VD, direction_CD[:0], 5)] == [(0, 5), (0, 5)]


def unit_vectors(words, width, dtype, seed=0):
    return torch.nn.functional.normalize(draw(words, width, seed=seed), dim=1).to(dtype)


def listed(first_V, other_N):
    """The (word, other word) that a list of co-occurring words holds, in its order."""
    word_N = torch.repeat_interleave(torch.arange(len(first_V) - 1), first_V.diff())
    return torch.stack([word_N, other_N.long()], 1)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("words", "width"), [(1, 1), (7, 3), (101, 50), (2049, 17)])
def test_cooccurrence(words, width, dtype, layout):
    unit_VG = unit_vectors(words, width, dtype)
    cutoff_V = draw(words, seed=1) * 0.3 + 0.2
    cutoff_V[words // 2] = torch.inf
    cutoff_V[words // 3] = torch.nan if words > 3 else 0.0
    spelling_V = torch.arange(words) // 2
    first_V, other_N, cosine_N = ops.cooccurrence(LAYOUTS[layout](unit_VG), cutoff_V, spelling_V)
    cosine_VV, kept_VV = reference.cooccurrence(unit_VG.double(), cutoff_V, spelling_V)
    assert torch.equal(listed(first_V, other_N), kept_VV.nonzero())
    assert cosine_N.dtype == wide(dtype)
    torch.testing.assert_close(cosine_N, cosine_VV[kept_VV].to(wide(dtype)), rtol=0, atol=1e-7)


@pytest.mark.parametrize("hair", [-1e-10, 1e-10])
def test_a_cutoff_a_hair_from_the_cosine_is_told_apart_where_the_matrix_product_cannot(hair):
    """The cutoff of each word but the first is its cosine with the first: float32 adds that up to about 1e-8."""
    unit_VG = unit_vectors(2500, 300, torch.float32)
    cutoff_V = (unit_VG.double() @ unit_VG[0].double()) + hair
    cutoff_V[0] = -1.0
    first_V, _, _ = ops.cooccurrence(unit_VG, cutoff_V, torch.arange(2500))
    assert int(first_V[1] - first_V[0]) == (2499 if hair < 0 else 0)


def neurons(words, count, k, seed=0):
    """As vocab_topk gives them: (values_CK, indices_CK), some of equal magnitude, some 0."""
    value_CV = draw(count, words, seed=seed).mul(4).round().div(4)
    return reference.vocab_topk(torch.eye(words, dtype=torch.float64), value_CV, k)


def all_cooccur(words):
    return ops.cooccurrence(torch.ones(words, 1), torch.zeros(words).double(), torch.arange(words))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("words", "count", "k"), [(1, 1, 1), (5, 3, 5), (97, 1, 10), (60, 31, 60), (300, 67, 40)])
def test_word_pairs(words, count, k, dtype, layout):
    # Few distinct vectors: many cosines are equal, and their order is that of the positions.
    unit_VG = unit_vectors(9, 5, wide(dtype))[torch.arange(words) * 7 % 9]
    cutoff_V = draw(words, seed=1).abs() * 0.4
    spelling_V = torch.arange(words) % 50
    cooccurring = ops.cooccurrence(unit_VG, cutoff_V, spelling_V)
    cosine_VV, kept_VV = reference.cooccurrence(unit_VG.double(), cutoff_V, spelling_V)
    cosine_VV[listed(*cooccurring[:2]).unbind(1)] = cooccurring[2].double()  # the score is judged above
    sides = *neurons(words, count, k), *neurons(words, count, min(k, 7), seed=2)
    wanted = reference.word_pairs(cosine_VV, kept_VV, *sides)
    given = [LAYOUTS[layout](side.to(dtype) if side.is_floating_point() else side) for side in sides]
    neuron_N, query_N, key_N, cosine_N = ops.word_pairs(cooccurring, *given)
    columns = (neuron_N.tolist(), query_N.tolist(), key_N.tolist(), cosine_N.tolist())
    assert cosine_N.dtype == wide(dtype) and list(zip(*columns, strict=True)) == wanted
    assert wanted or words < 10


def test_word_pairs_of_no_neuron_and_of_words_that_never_cooccur():
    none = ops.cooccurrence(unit_vectors(9, 4, torch.float32), torch.ones(9).double(), torch.zeros(9).long())
    assert none[0].tolist() == [0] * 10 and len(none[1]) == 0
    for count in (0, 3):
        assert [len(x) for x in ops.word_pairs(none, *neurons(9, count, 4), *neurons(9, count, 4))] == [0] * 4
    empty = ops.cooccurrence(torch.ones(0, 4), torch.ones(0).double(), torch.zeros(0).long())
    assert [len(x) for x in empty] == [1, 0, 0]


def test_signs_decide_and_not_products():
    """The product of these activations is 0 in every float; their signs are equal all the same."""
    cooccurring = all_cooccur(2)
    tiny, index = torch.tensor([[1e-30]]), torch.tensor([[0]])
    assert len(ops.word_pairs(cooccurring, tiny, index, tiny, index + 1)[0]) == 1
    assert len(ops.word_pairs(cooccurring, tiny, index, -tiny, index + 1)[0]) == 0
    assert len(ops.word_pairs(cooccurring, 0 * tiny, index, 0 * tiny, index + 1)[0]) == 0


@pytest.mark.parametrize("length", [[1], [7], [512], [513, 3], [1, 2, 600, 511, 1], [5] * 40], ids=str)
def test_bootstrap(length):
    value_N = draw(sum(length), seed=3)
    mean_SG = ops.bootstrap(value_N, length, 20, 12345)
    strata = [part.tolist() for part in value_N.split(length)]
    wanted_SG = torch.tensor([reference.resampled_means(strata, 12345, s) for s in range(20)], dtype=torch.float64)
    torch.testing.assert_close(mean_SG, wanted_SG, rtol=1e-12, atol=1e-13)
    assert torch.equal(ops.bootstrap(value_N, length, 7, 12345), mean_SG[:7])
    assert torch.equal(ops.bootstrap(value_N.repeat_interleave(2)[::2], length, 20, 12345), mean_SG)
    assert sum(length) == 1 or not torch.equal(ops.bootstrap(value_N, length, 20, 2**63 - 1), mean_SG)


def test_every_observation_is_drawn_about_equally_often_and_draws_do_not_go_together():
    count, resamples = 101, 20000
    one_hot_NN = torch.eye(count, dtype=torch.float64)
    share_NS = torch.stack([ops.bootstrap(row_N, [count], resamples, 0)[:, 0] for row_N in one_hot_NN[:5]])
    # Each is a mean of 2,020,000 Bernoulli draws; 5 standard errors.
    assert (share_NS.mean(1) * count - 1).abs().max() < 5 * (count / (count * resamples)) ** 0.5
    expected = (1 - 1 / count) / count**2
    assert share_NS.var(1).tolist() == pytest.approx([expected] * 5, rel=0.05)
    shifted = torch.corrcoef(torch.stack([share_NS[0, 1:], share_NS[0, :-1]]))[0, 1]
    assert abs(float(shifted)) < 5 / resamples**0.5


def test_thread_counts_give_the_same_bytes():
    grad_RPD, embedding_PD = draw(37, 41, 300, dtype=torch.float32), draw(41, 300, dtype=torch.float32, seed=1)
    vocabulary_VD, direction_CD = draw(2300, 576, dtype=torch.float32), draw(5, 576, dtype=torch.float32, seed=1)
    vectors_VG, sides = unit_vectors(2300, 33, torch.float32), neurons(2300, 50, 100)
    seen = []
    for count in THREADS:
        ops.set_threads(count)
        torch.set_num_threads(count)  # MKL's product of 5 rows does differ between 1 and 2 threads
        assert ops.get_threads() == count
        importance_PR = ops.grad_x_input(grad_RPD, embedding_PD)
        level_PR = ops.importance_levels(importance_PR, 10)
        fused = ops.importance_density_from_grad(grad_RPD, embedding_PD, 10, 7, 4)
        seen.append((importance_PR, level_PR, ops.importance_density(level_PR, 7, 4), *fused))
        seen[-1] += ops.vocab_topk(vocabulary_VD, direction_CD, 100)
        cooccurring = ops.cooccurrence(vectors_VG, torch.full((2300,), 0.3).double(), torch.arange(2300))
        seen[-1] += (*cooccurring, *ops.word_pairs(cooccurring, *sides, *sides))
        seen[-1] += (ops.bootstrap(draw(3000), [1000, 2000], 1000, 0),)
    for other in seen[1:]:
        assert all(torch.equal(a, b) for a, b in zip(seen[0], other, strict=True))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_instruction_sets_give_the_same_bytes(dtype):
    """Every one that this CPU has; widths that fill no vector, words and directions that fill no tile."""
    grad_RPD, embedding_PD = draw(5, 7, 301, dtype=dtype), draw(7, 301, dtype=dtype, seed=1)
    vocabulary_VD, direction_CD = draw(1237, 301, dtype=dtype), draw(29, 301, dtype=dtype, seed=1)
    vocabulary_VD[600:900] = vocabulary_VD[:300]
    seen = []
    for name in _C.instructions():
        _C.set_instructions(name)
        assert _C.get_instructions() == name
        seen.append((ops.grad_x_input(grad_RPD, embedding_PD), *ops.vocab_topk(vocabulary_VD, direction_CD, 70)))
        seen[-1] += ops.vocab_topk(vocabulary_VD, direction_CD.double(), 70)
        unit_VG = unit_vectors(500, 301, dtype)
        seen[-1] += ops.cooccurrence(unit_VG, torch.full((500,), 0.05).double(), torch.arange(500))
        seen[-1] += ops.importance_density_from_grad(grad_RPD, embedding_PD, 10, 7, 4)
    for other in seen[1:]:
        assert all(torch.equal(a, b) for a, b in zip(seen[0], other, strict=True))


def close_rows(words: int) -> torch.Tensor:
    """Rows that differ by less than rounding to 16 bits leaves of them."""
    return draw(1, 64) + 1e-6 * draw(words, 64, seed=1)


def beside_one(scale: float, words: int) -> torch.Tensor:
    """Rows in which a number that some directions do not look at leaves little of the others when it is rounded."""
    return torch.cat([torch.ones(words, 1), scale * draw(words, 63)], dim=1)


@pytest.mark.parametrize(
    "vocabulary_VD",
    [
        draw(3000, 64) ** 9,
        beside_one(1e-2, 3000),
        beside_one(1e-4, 3000),
        draw(3000, 64) * torch.logspace(-36, 15, 3000)[:, None],
        draw(3000, 64) * 1e-38,
        draw(3000, 64) * (torch.arange(3000) % 3 == 0)[:, None],  # rows of zeros
        torch.full((3000, 64), -3.0),
        close_rows(3000),
        torch.cat([draw(3000, 64), 1e18 * close_rows(1000)]),
    ],
    ids=[
        "ninth power",
        "beside one",
        "far beside one",
        "scales",
        "subnormal",
        "zeros",
        "all alike",
        "close",
        "close and far",
    ],
)
@pytest.mark.parametrize("width", [64, 33, 1])
def test_hard_rows_are_ranked_alike_by_all_instructions(vocabulary_VD, width):
    """However much a faster product rounds away."""
    vocabulary_VD, direction_CD = vocabulary_VD[:, :width].float().contiguous(), draw(300, width, seed=2).float()
    direction_CD[7] = 0
    direction_CD[8] *= 1e-30
    direction_CD[9] = (torch.arange(width) == 0) * 1e15
    direction_CD[10:, 0] = 0
    seen = []
    for name in _C.instructions():
        _C.set_instructions(name)
        seen.append(ops.vocab_topk(vocabulary_VD, direction_CD, 40))
    for other in seen:
        assert all(torch.equal(a, b) for a, b in zip(seen[-1], other, strict=True))
    value_CK, index_CK = (part.double() if part.is_floating_point() else part for part in seen[0])
    score_CV = direction_CD.double() @ vocabulary_VD.double().T
    closely = {"rtol": 1e-6, "atol": 1e-44}
    torch.testing.assert_close(value_CK, score_CV.gather(1, index_CK), **closely)
    torch.testing.assert_close(value_CK.abs(), score_CV.abs().sort(dim=1, descending=True).values[:, :40], **closely)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_rounding_takes_from_the_smallest_numbers_is_not_rounded_away(dtype):
    """Subnormal words, all of whose rounded scores are 0: the best of them is found among the many."""
    vocabulary_VD = torch.tensor([[2, 1, 0]] * 19_999 + [[2, 1, 1]], dtype=torch.float64) * 2.0**-149
    direction_CD = torch.tensor([[2, 1, 1]], dtype=torch.float64) * 1e30
    for name in _C.instructions():
        _C.set_instructions(name)
        _, index_CK = ops.vocab_topk(vocabulary_VD.to(dtype), direction_CD.to(dtype), 1)
        assert index_CK.tolist() == [[19_999]], name


def test_the_core_starts_with_the_best_instructions():
    assert _C.get_instructions() == _C.instructions()[0]
    assert _C.instructions()[-1] in ("baseline", "neon")
    with pytest.raises(ValueError, match="no instruction set 'mmx'"):
        _C.set_instructions("mmx")


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("grad_x_input", lambda: (draw(3, 5, 7), draw(5, 7))),
        ("importance_levels", lambda: (draw(3, 5), 10)),
        ("importance_density", lambda: (draw(3, 5).abs(), 7, 4.0)),
        ("importance_density_from_grad", lambda: (draw(3, 5, 7).bfloat16(), draw(5, 7).bfloat16(), 10, 7, 4.0)),
        ("vocab_topk", lambda: (draw(50, 7, dtype=torch.float32), draw(3, 7), 5)),
        ("cooccurrence", lambda: (unit_vectors(50, 7, torch.float32), torch.zeros(50).double(), torch.arange(50))),
        ("word_pairs", lambda: (*all_cooccur(50), *neurons(50, 3, 10), *neurons(50, 3, 10, seed=2))),
        ("bootstrap", lambda: (draw(7), [3, 4], 5, 0)),
    ],
)  # fmt: skip
def test_torch_knows_the_operator(name, arguments):
    """Its schema holds, nothing is written to, and tracing gives the shapes and dtypes that running gives."""
    operator = getattr(torch.ops.shiftbench, name).default
    assert set(torch.library.opcheck(operator, arguments()).values()) == {"SUCCESS"}


def test_an_operator_called_past_the_door_checks_too():
    with pytest.raises(InputError, match="2 wide and direction_CD 3"):
        torch.ops.shiftbench.vocab_topk(torch.ones(3, 2), torch.ones(1, 3), 1)


def test_a_graph_is_no_obstacle():
    embedding_VD = draw(20, 4).requires_grad_()
    value_CK, _ = ops.vocab_topk(embedding_VD, embedding_VD[:2], 3)
    assert not value_CK.requires_grad
    assert not ops.grad_x_input(embedding_VD[None], embedding_VD).requires_grad


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("count", THREADS)
def test_what_is_not_finite_is_refused_by_its_place(bad, count):
    ops.set_threads(count)
    importance_PR = torch.zeros(300, 401)
    importance_PR[250, 399] = importance_PR[251, 3] = bad
    with pytest.raises(InputError, match="prompt token 250 for response token 399 is not finite"):
        ops.importance_levels(importance_PR, 10)
    with pytest.raises(InputError, match="prompt token 250 for response token 399 is not finite"):
        ops.importance_density_from_grad(importance_PR.T[..., None], torch.ones(300, 1), 10, 7, 4)
    with pytest.raises(InputError, match=r"level_PR\[250, 399\] is -?(nan|inf)"):
        ops.importance_density(importance_PR, 7, 4)
    embedding_VD = torch.ones(2000, 3)
    embedding_VD[1500, 1] = bad
    with pytest.raises(InputError, match="row 1500 of embedding_VD has a value that is not finite"):
        ops.vocab_topk(embedding_VD, torch.ones(2, 3), 2)
    with pytest.raises(InputError, match="row 1500 of direction_CD"):
        ops.vocab_topk(torch.ones(2, 3), embedding_VD, 2)


PLACES = torch.tensor([[0, 1], [1, 0]])
COOCCURRING = (torch.zeros(3).long(), torch.zeros(0).int(), torch.zeros(0))


@pytest.mark.parametrize("count", THREADS)
def test_words_that_cannot_be_are_refused_by_their_place(count):
    ops.set_threads(count)
    value_CK = torch.ones(2000, 3)
    index_CK = torch.arange(3).repeat(2000, 1)
    cooccurring = all_cooccur(3)
    for bad, side in ((3, "query"), (-1, "query"), (3, "key"), (-1, "key"), (0, "key")):
        other_CK = index_CK.clone()
        other_CK[1500, 2] = other_CK[1700, 1] = bad
        given = (other_CK, index_CK) if side == "query" else (index_CK, other_CK)
        with pytest.raises(
            InputError, match=rf"{side}_index_CK\[1500, 2\] is {bad}; it must be the index of one of 3 words"
        ):
            ops.word_pairs(cooccurring, value_CK, given[0], value_CK, given[1])
    assert len(ops.word_pairs(cooccurring, value_CK, index_CK * 0, value_CK, index_CK)[0]) == 2000 * 6


@pytest.mark.parametrize("count", THREADS)
def test_the_same_word_is_refused_whatever_the_number_of_threads_where_both_sides_have_bad_words(count):
    ops.set_threads(count)
    value_CK = torch.ones(2000, 3)
    query_CK, key_CK = torch.arange(3).repeat(2000, 1), torch.arange(3).repeat(2000, 1)
    key_CK[10, 1] = query_CK[1500, 2] = query_CK[1900, 0] = 3
    with pytest.raises(InputError, match=r"query_index_CK\[1500, 2\] is 3"):
        ops.word_pairs(all_cooccur(3), value_CK, query_CK, value_CK, key_CK)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ops.cooccurrence(torch.ones(3), torch.ones(3), torch.ones(3)), "2 dimensions (words, vector width)"),
        (lambda: ops.cooccurrence(torch.ones(3, 2), torch.ones(3), torch.ones(3)), "cutoff_V must be one of float64"),
        (lambda: ops.cooccurrence(torch.ones(3, 2), torch.ones(2).double(), PLACES[0]), "each of 3 words, got 2"),
        (lambda: ops.cooccurrence(torch.ones(2, 2), torch.ones(2).double(), PLACES[0].int()), "spelling_V must be one"),
        (lambda: ops.cooccurrence(torch.ones(2, 2) / 0, torch.ones(2).double(), PLACES[0]), "row 0 of unit_VG has a"),
        (lambda: ops.word_pairs(COOCCURRING, torch.ones(2, 2), PLACES, torch.ones(2, 2), PLACES[:1]), "(1, 2); they"),
        (lambda: ops.word_pairs(COOCCURRING, PLACES * 1.0, PLACES, torch.ones(1, 2), PLACES[:1]), "query side has 2"),
        (lambda: ops.word_pairs(COOCCURRING, PLACES * 1.0, PLACES, PLACES / 0, PLACES), "key_value_CK has a value"),
        (lambda: ops.word_pairs(COOCCURRING, PLACES * 1.0, PLACES.int(), PLACES * 1.0, PLACES), "query_index_CK must"),
        (lambda: ops.bootstrap(torch.ones(3), [3], 5, 0), "value_N must be one of float64"),
        (lambda: ops.bootstrap(torch.ones(3).double(), [2], 5, 0), "value_N has 3 values, the strata 2"),
        (lambda: ops.bootstrap(torch.ones(3).double(), [3, 0], 5, 0), "positive counts below 2 ** 32, got [3, 0]"),
        (lambda: ops.bootstrap(torch.ones(3).double(), [3], 0, 0), "resamples must be at least 1, got 0"),
        (lambda: ops.bootstrap(torch.ones(3).double(), [3], 5, -1), "seed must be between 0 and 2 ** 63 - 1, got -1"),
        (lambda: ops.bootstrap(torch.tensor([0, torch.nan]).double(), [2], 5, 0), "value_N[1] is nan"),
        (lambda: ops.grad_x_input(torch.ones(2, 3), torch.ones(2, 3)), "grad_RPD must have 3 dimensions (response"),
        (lambda: ops.grad_x_input(torch.ones(2, 3, 4), torch.ones(2, 4)), "embedding_PD must have shape (3, 4)"),
        (lambda: ops.grad_x_input(torch.ones(2, 3, 4), torch.ones(3, 4).double()), "give both in one dtype"),
        (lambda: ops.grad_x_input([1.0], torch.ones(3, 4)), "grad_RPD must be a tensor, got list"),
        (lambda: ops.importance_levels(torch.ones(7), 10), "2 dimensions (prompt tokens, response tokens), got"),
        (lambda: ops.importance_levels(torch.ones(7, 1), 256), "levels must be between 1 and 255"),
        (lambda: ops.importance_levels(torch.ones(7, 1).int(), 10), "importance_PR must be one of float32"),
        (lambda: ops.importance_density(torch.ones(7, 1).long(), 7, 4), "got torch.int64"),
        (lambda: ops.importance_density(-torch.ones(7, 1), 7, 4), "level_PR[0, 0] is -1.0"),
        (lambda: ops.importance_density(torch.ones(7, 1), 7, 0.5), "p must be a finite number, at least 1, got 0.5"),
        (lambda: ops.importance_density(torch.ones(7, 1), 7, float("nan")), "got nan"),
        (lambda: ops.vocab_topk(torch.ones(3, 2), torch.ones(1, 2), 4), "the number of words (3), got 4"),
        (lambda: ops.vocab_topk(torch.ones(3, 2), torch.ones(1, 2), 0), "k must be between 1"),
        (lambda: ops.vocab_topk(torch.ones(3, 2), torch.ones(1, 3), 1), "2 wide and direction_CD 3"),
        (lambda: ops.vocab_topk(torch.full((3, 2), 1e30), torch.full((4, 2), 1e30), 1), "direction 0 overflow"),
        (lambda: ops.vocab_topk(torch.ones(3, 2, device="meta"), torch.ones(1, 2), 1), "embedding_VD is on meta"),
        (lambda: ops.set_threads(0), "count must be at least 1, got 0"),
    ],
)  # fmt: skip
def test_bad_arguments(call, message):
    with pytest.raises(InputError) as raised:
        call()
    assert message in str(raised.value)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_cuda_tensor_is_refused_by_a_cpu_build():
    with pytest.raises(InputError, match="this build of shiftbench has no CUDA"):
        ops.importance_levels(torch.ones(2, 2, device="cuda"), 10)


def test_a_missing_core_says_how_to_build_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "shiftbench._C", None)
    monkeypatch.delattr(shiftbench, "_C")
    with pytest.raises(ImportError, match="pip install"):
        importlib.reload(ops)
