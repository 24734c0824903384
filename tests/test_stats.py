"""Intervals, angles and rotation shares find what was planted."""

import math

import numpy as np
import pytest
import scipy.stats
import torch

from shiftbench import ops, stats
from shiftbench.stats import Bootstrap
from tests import reference

BOOTSTRAP = Bootstrap(resamples=2000, confidence=0.95, seed=0)


def rotated(basis_CD, angle, generator):
    """Each row of an orthonormal basis rotated by the same angle toward a direction outside its span."""
    rank, width = basis_CD.shape
    rest = torch.linalg.qr(
        torch.cat([basis_CD, torch.randn(width - rank, width, generator=generator, dtype=torch.float64)]).T
    ).Q.T[rank : 2 * rank]
    return math.cos(angle) * basis_CD + math.sin(angle) * rest


def basis(rank, width, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(width, rank, generator=generator, dtype=torch.float64)).Q.T, generator


@pytest.mark.parametrize("angle", [1e-7, 1e-3, 0.3, 1.2, math.pi / 2])
def test_a_planted_rotation_is_found(angle):
    first_CD, generator = basis(5, 16, 0)
    angle_C = stats.principal_angles(first_CD, rotated(first_CD, angle, generator))
    assert angle_C.tolist() == pytest.approx([angle] * 5, rel=1e-6)


def test_angles_ignore_the_basis_of_a_subspace():
    first_CD, _ = basis(6, 20, 1)
    turn, _ = basis(6, 6, 2)
    assert float(stats.principal_angles(first_CD, turn @ first_CD).max()) < 1e-7


def test_a_subspace_and_itself_are_exactly_zero_apart():
    first_CD, _ = basis(4, 9, 3)
    assert stats.principal_angles(first_CD, first_CD.clone()).tolist() == [0.0] * 4
    assert stats.matched_cosines(first_CD, first_CD.clone()).tolist() == [1.0] * 4


def test_matching_finds_a_permutation_with_signs():
    first_CD, _ = basis(7, 12, 4)
    order = torch.tensor([3, 0, 6, 1, 5, 2, 4])
    assert stats.matched_cosines(first_CD, -first_CD[order]).tolist() == pytest.approx([1.0] * 7)


def test_a_rotation_is_explained_by_rotation_and_a_rescaling_by_rescaling():
    generator = torch.Generator().manual_seed(5)
    base_FD = torch.randn(40, 12, generator=generator, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(12, 12, generator=generator, dtype=torch.float64)).Q
    assert stats.rotation_share(base_FD, base_FD @ turn) == pytest.approx(1.0)
    assert stats.rescaling_share(base_FD, 1.3 * base_FD) == pytest.approx(1.0)
    assert stats.rotation_share(base_FD, 1.3 * base_FD) == pytest.approx(0.0, abs=1e-9)
    assert stats.rotation_share(base_FD, base_FD.clone()) == 0.0


def test_an_arbitrary_small_change_has_the_chance_share_of_rotation():
    """The space of rotations has D (D - 1) / 2 of the F D dimensions of a change."""
    generator = torch.Generator().manual_seed(6)
    base_FD = torch.randn(400, 64, generator=generator, dtype=torch.float64)
    tuned_FD = base_FD + 1e-3 * torch.randn(400, 64, generator=generator, dtype=torch.float64)
    assert stats.rotation_share(base_FD, tuned_FD) == pytest.approx(63 / 800, rel=0.1)
    permuted_FD = stats.permuted_change(base_FD, tuned_FD, seed=1)
    assert (permuted_FD - base_FD).flatten().sort().values == pytest.approx(
        (tuned_FD - base_FD).flatten().sort().values
    )
    assert not torch.equal(permuted_FD, tuned_FD)


def test_intervals_cover_the_mean_about_as_often_as_stated():
    generator = np.random.default_rng(0)
    covered = 0
    for seed in range(300):
        interval = Bootstrap(500, 0.9, seed).mean(generator.normal(0.5, 2.0, 60))
        covered += interval.low <= 0.5 <= interval.high
    assert 0.84 <= covered / 300 <= 0.95


def test_strata_keep_differences_between_them_out_of_the_interval():
    generator = np.random.default_rng(1)
    strata = np.repeat(np.arange(4), 50)
    values = 100.0 * strata + generator.normal(size=200)
    plain, stratified = BOOTSTRAP.mean(values), BOOTSTRAP.stratified_mean(values, strata)
    assert stratified.value == plain.value
    assert stratified.high - stratified.low < 0.02 * (plain.high - plain.low)


def test_the_same_seed_gives_the_same_interval_and_threads_do_not_matter():
    values = np.arange(50.0)
    first = BOOTSTRAP.mean(values)
    assert BOOTSTRAP.mean(values) == first
    before = ops.get_threads()
    try:
        ops.set_threads(3)
        assert BOOTSTRAP.mean(values) == first
    finally:
        ops.set_threads(before)
    assert Bootstrap(2000, 0.95, 1).mean(values) != first


def test_the_order_of_strata_among_the_values_does_not_matter():
    """Observations are grouped by stratum, in their order within it; labels can be of any sortable type."""
    values, strata = np.arange(12.0) ** 2, np.array(["b", "a", "c"] * 4)
    together = np.argsort(strata, kind="stable")
    assert BOOTSTRAP.stratified_mean(values, strata) == BOOTSTRAP.stratified_mean(values[together], strata[together])


def test_an_interval_is_that_of_the_reference_draws():
    values, strata = [0.5, -1.25, 3.0, 2.0, 0.125, 7.0, -2.0], [0, 0, 0, 0, 1, 1, 1]
    drawn_SG = np.array([reference.resampled_means([values[:4], values[4:]], 5, s) for s in range(200)])
    interval = Bootstrap(200, 0.9, 5).stratified_mean(values, strata)
    assert interval.value == pytest.approx(np.mean(values))
    assert (interval.low, interval.high) == pytest.approx(corrected(drawn_SG, [values[:4], values[4:]], [4 / 7, 3 / 7]))
    interval = Bootstrap(200, 0.9, 5).difference_of_means(values[:4], values[4:])
    assert (interval.low, interval.high) == pytest.approx(corrected(drawn_SG, [values[:4], values[4:]], [1, -1]))


def corrected(drawn_SG, groups, weights):
    """The formula of docs/mathematics.md, 'Scores', at 90%: bounds of the weighted sum of the groups' means."""
    value, deviations, variances = 0.0, 0.0, []
    for mean_S, group, weight in zip(drawn_SG.T, groups, weights, strict=True):
        n = len(group)
        value += weight * np.mean(group)
        deviations = deviations + weight * math.sqrt(n / (n - 1)) * (mean_S - np.mean(group))
        variances.append(weight**2 * np.var(group, ddof=1) / n)
    df = sum(variances) ** 2 / sum(v**2 / (len(group) - 1) for v, group in zip(variances, groups, strict=True))
    ratio = scipy.stats.t.ppf(0.95, df) / scipy.stats.norm.ppf(0.95)
    return tuple(value + ratio * np.quantile(deviations, [0.05, 0.95]))


def test_without_observations_or_variation_there_is_no_test():
    assert stats.paired_p([]) is None and stats.paired_p([1.0]) is None and stats.paired_p([2.0, 2.0]) is None
    assert stats.welch([1.0], [1.0, 2.0], "two-sided") == (None, None)
    assert BOOTSTRAP.mean([]) == stats.Interval(0.0, 0.0, 0.0)


def test_difference_of_means_is_that_of_independent_samples():
    generator = np.random.default_rng(2)
    first, second = generator.normal(1.0, 1.0, 400), generator.normal(0.0, 2.0, 900)
    interval = BOOTSTRAP.difference_of_means(first, second)
    error = math.sqrt(1 / 400 + 4 / 900)
    assert interval.value == pytest.approx(first.mean() - second.mean())
    assert (interval.high - interval.low) / 2 == pytest.approx(1.96 * error, rel=0.15)
