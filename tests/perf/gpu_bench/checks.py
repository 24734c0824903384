"""Checks every op on the card against its formula (tests/reference.py) in float64, with a row for each dtype."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from shiftbench import ops
from shiftbench.perf.agreement import ranking_agreement
from tests import reference
from tests.perf.gpu_bench.bench import Bench
from tests.perf.rows import Row

FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
LEVELS, CUTOFF, NORM = 10, 1, 4.0
FORMULA = "float64 formula"


def bound(dtype: torch.dtype) -> float:
    """The allowed error relative to the largest value. Sums are at least in float32 for every input dtype."""
    return 1e-12 if dtype == torch.float64 else 1e-5


def error(found: Tensor, wanted: Tensor) -> float:
    """The largest |difference| divided by the largest |wanted|; infinite where the two cannot be compared."""
    if found.shape != wanted.shape:
        return math.inf
    if not wanted.numel():
        return 0.0
    largest = wanted.double().abs().max().clamp_min(torch.finfo(torch.float64).tiny)
    worst = float((found.to(wanted.device).double() - wanted.double()).abs().max() / largest)
    return math.inf if math.isnan(worst) else worst


def row(op: str, of: torch.dtype, found: float, at_most: float, note: str = "") -> Row:
    """The row of one check. at_most: the largest allowed error, 0 where the results must be equal."""
    required = f"at most {at_most:.0e} allowed" if at_most else "equality required"
    name = str(of).removeprefix("torch.")
    return Row("check", f"{op}, {name}", FORMULA, found, "", agreement=required, agrees=found <= at_most, note=note)


def importance_ops(bench: Bench) -> Iterator[Row]:
    """grad_x_input, importance_levels, importance_density, and all in one pass; gradients are not contiguous."""
    responses, tokens, width = bench.sizes.check_rows
    for dtype in FLOATS:
        grad_RPD = bench.random_normal(responses, tokens, width + 3, seed=1, dtype=dtype)[..., :width]
        embedding_PD = bench.random_normal(tokens, width, seed=2, dtype=dtype)
        importance_PR = ops.grad_x_input(grad_RPD, embedding_PD)
        wanted_PR = reference.grad_x_input(grad_RPD.double(), embedding_PD.double())
        yield row("grad_x_input", dtype, error(importance_PR, wanted_PR), bound(dtype))

        given_PR = (wanted_PR / wanted_PR.abs().max()).to(dtype)
        given_PR[:, 0], given_PR[:, -1] = 0, given_PR[:, -1].abs().neg()
        level_PR = reference.importance_levels(given_PR.double(), LEVELS)
        yield row("importance_levels", dtype, error(ops.importance_levels(given_PR, LEVELS), level_PR), 0)

        density_P = reference.importance_density(level_PR, CUTOFF, NORM)
        found_P = ops.importance_density(level_PR.to(dtype), CUTOFF, NORM)
        yield row("importance_density", dtype, error(found_P, density_P), bound(dtype))

        found = ops.importance_density_from_grad(grad_RPD, embedding_PD, LEVELS, CUTOFF, NORM)
        # Its levels follow from its own importance, which may differ from the formula's in the last bit.
        levels = reference.importance_levels(found[0].double(), LEVELS)
        of_density = error(found[2], reference.importance_density(levels, CUTOFF, NORM))
        differ = float(not torch.equal(found[0], importance_PR)) + error(found[1], levels)
        yield row("importance_density_from_grad", dtype, of_density, bound(dtype))
        yield row("the same, importance and levels", dtype, differ, 0, "importance: grad_x_input's own bytes")
    counted_P = ops.importance_density(level_PR.byte(), CUTOFF, NORM)
    yield row("importance_density", torch.uint8, error(counted_P, density_P), bound(torch.float32))


def vocab_topk(bench: Bench) -> Iterator[Row]:
    """vocab_topk with every dtype of embeddings and directions in float32 and float64; then with many equal scores."""
    words, directions, width, k = bench.sizes.check_topk
    for dtype in FLOATS:
        for of_direction in (torch.float32, torch.float64):
            embedding_VD = bench.random_normal(words, width, seed=3, dtype=dtype)
            direction_CD = bench.random_normal(directions, width, seed=4, dtype=of_direction)
            found = ops.vocab_topk(embedding_VD, direction_CD, k)
            wanted = reference.vocab_topk(embedding_VD.double(), direction_CD.double(), k)
            order = ranking_agreement(found, wanted, tolerance=1e-6)
            at_most = bound(found[0].dtype)
            name = f"vocab_topk, directions {str(of_direction).removeprefix('torch.')}"
            worst = error(found[0].abs(), wanted[0].abs()) if order.ok else math.inf
            yield row(name, dtype, worst, at_most, order.text)
    # With small whole numbers, sums are exact in any order. Of equal scores the lower index must come first.
    embedding_VD, direction_CD = (bench.random_normal(n, 8, seed=n).round() for n in (words // 4, directions))
    embedding_VD = embedding_VD.repeat(4, 1)
    found_CK = ops.vocab_topk(embedding_VD, direction_CD, k)[1]
    wanted_CK = reference.vocab_topk(embedding_VD.double(), direction_CD.double(), k)[1]
    yield row("vocab_topk, equal scores", torch.float32, float((found_CK != wanted_CK).sum()), 0)


def cooccurrence_and_pairs(bench: Bench) -> Iterator[Row]:
    """cooccurrence against all cosines, and word_pairs against a loop over the words of a few neurons."""
    words, neurons, k = bench.sizes.check_words, 6, 40
    draws = torch.Generator().manual_seed(5)
    cutoff_V = (torch.rand(words, generator=draws, dtype=torch.float64) * 0.4).to(bench.device)
    cutoff_V[5], cutoff_V[6] = torch.inf, torch.nan
    spelling_V = (torch.arange(words) // 2).to(bench.device)
    index = [torch.stack([torch.randperm(words, generator=draws)[:k] for _ in range(neurons)]) for _ in range(2)]
    for dtype in FLOATS:
        vectors_VG = bench.random_normal(words, bench.sizes.vector_width, seed=6, dtype=torch.float64)
        unit_VG = torch.nn.functional.normalize(vectors_VG, dim=1).to(dtype)
        given = ops.cooccurrence(unit_VG, cutoff_V, spelling_V)
        cosine_VV, kept_VV = reference.cooccurrence(unit_VG.double(), cutoff_V, spelling_V)
        first_V, other_N, cosine_N = given
        word_N = torch.repeat_interleave(torch.arange(words, device=bench.device), first_V.diff())
        listed, wanted = torch.stack([word_N, other_N.long()], 1), kept_VV.nonzero()
        same = listed.shape == wanted.shape and torch.equal(listed, wanted)
        worst = error(cosine_N, cosine_VV[kept_VV]) if same else math.inf
        yield row("cooccurrence", dtype, worst, bound(dtype), f"{len(wanted)} pairs of words")

        values = [bench.random_normal(neurons, k, seed=seed).round().to(dtype) for seed in (7, 8)]
        sides = [values[0], index[0].to(bench.device), values[1], index[1].to(bench.device)]
        neuron_N, query_N, key_N, score_N = (part.cpu() for part in ops.word_pairs(given, *sides))
        on_cpu = (x.cpu() for x in (cosine_VV, kept_VV, *sides))
        pairs = reference.word_pairs(*on_cpu)
        # In the narrower dtypes two cosines may tie and change places, so each neuron's pairs are compared as a set.
        listed_pairs = sorted(zip(neuron_N.tolist(), query_N.tolist(), key_N.tolist(), score_N.tolist(), strict=True))
        names = [tuple(pair[:3]) for pair in listed_pairs] == [tuple(pair[:3]) for pair in sorted(pairs)]
        falling = bool((score_N.diff() <= 0)[neuron_N.diff() == 0].all())
        apart = max((abs(a[3] - b[3]) for a, b in zip(listed_pairs, sorted(pairs), strict=False)), default=0.0)
        worst = apart if names and falling and pairs else math.inf
        yield row("word_pairs", dtype, worst, bound(dtype), f"{len(pairs)} word pairs")


def bootstrap(bench: Bench) -> Iterator[Row]:
    """The first two draws and the last draw of bootstrap."""
    lengths, resamples, seed = list(bench.sizes.strata), 70, 2**62 + 5
    value_N = bench.random_normal(sum(lengths), seed=9, dtype=torch.float64)
    mean_SG = ops.bootstrap(value_N, lengths, resamples, seed).cpu()
    strata = [part.tolist() for part in value_N.cpu().split(lengths)]
    draws = [0, 1, resamples - 1]
    wanted_SG = torch.tensor([reference.resampled_means(strata, seed, s) for s in draws], dtype=torch.float64)
    yield row("bootstrap", torch.float64, error(mean_SG[draws], wanted_SG), bound(torch.float64))
