"""The chance levels of angles and rotation are those of full permuted draws, and null models are not beyond them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from shiftbench import models, stats
from shiftbench.config.composition import compose
from shiftbench.errors import InputError
from shiftbench.explain.feedforward import principal_components
from shiftbench.explain.rotation import Rotation
from shiftbench.findings.concept_rotation import ConceptRotation
from shiftbench.pipeline.job import build
from shiftbench.stats import Bootstrap
from shiftbench.store.explanation import Explanation, Unit

RANK, DRAWS = 300, 19
FINDING = ConceptRotation(None, None, ranks=[10, 50], bootstrap=Bootstrap(200, 0.95, 0))


@pytest.fixture(scope="module")
def demo():
    pair = build(compose("config", ["pair=demo", "suite=smoke"])).pair
    return models.load(pair.base), models.load(pair.tuned)


@pytest.fixture(scope="module")
def drawn(demo):
    """down-projections of DRAWS null models, [draw][layer], by other seeds than Rotation's."""
    base, tuned = ([model.views.down_FD(layer).double() for layer in range(model.views.layers)] for model in demo)
    return [
        [
            stats.permuted_change(one, other, 1000 * draw + layer)
            for layer, (one, other) in enumerate(zip(base, tuned, strict=True))
        ]
        for draw in range(1, DRAWS + 1)
    ]


def components(down):
    """An explanation of these down-projections with components and no more than the finding needs beside them."""
    units = {}
    for layer, down_FD in enumerate(down):
        component_CD = principal_components(down_FD, RANK)[0].float()
        count = len(component_CD)
        arrays = {
            "component_CD": component_CD,
            "variance_ratio_C": torch.zeros(count),
            "index_CK": torch.zeros(count, 1, dtype=torch.int32),
            "label_CL": torch.ones(count, 1, dtype=torch.bool),
        }
        units[f"layer {layer}"] = Unit(arrays, {"word": ["a"] * count, "label": ["none"]})
    return Explanation(units, {}, {})


def scores_of(base, other, down):
    """The scores of the finding for a model with these down-projections in tuned's place."""
    views = StandIn(down)
    between = {item.unit: item.compute() for item in Rotation(RANK, 0).work(base, replace_views(other, views))}
    first = components([base.views.down_FD(layer) for layer in range(base.views.layers)])
    result = FINDING(first, components(down), Explanation(between, {}, {}))
    return {score.name: score for score in result.scores}


class StandIn:
    """The views of a model of which only the down-projections are read."""

    def __init__(self, down):
        self.layers, self.down_FD = len(down), lambda layer: down[layer]


def replace_views(model, views):
    other = replace(model, known_digest="stand-in")
    other.__dict__["views"] = views  # a cached property
    return other


@pytest.mark.long
def test_angles_by_chance_are_those_of_full_permuted_draws(demo, drawn):
    """One draw a layer has the mean of 19 full draws within their spread, at both ranks and of the matched cosines."""
    base, tuned = demo
    found = scores_of(base, tuned, [tuned.views.down_FD(layer) for layer in range(tuned.views.layers)])
    first = components([base.views.down_FD(layer) for layer in range(base.views.layers)])
    for name, of_unit in (
        ("mean_angle_10_rad", lambda a, b: stats.principal_angles(a[:10], b[:10]).mean()),
        ("mean_angle_50_rad", lambda a, b: stats.principal_angles(a[:50], b[:50]).mean()),
        ("unmatched_cosine", lambda a, b: (1 - stats.matched_cosines(a, b)).mean()),
    ):
        draws = []
        for down in drawn:
            units = components(down).units
            pairs = [(first.units[unit].arrays["component_CD"], units[unit].arrays["component_CD"]) for unit in units]
            draws.append(np.mean([float(of_unit(*pair)) for pair in pairs]))
        chance = found[name].value - found[f"{name}_over_chance"].value
        assert abs(chance - np.mean(draws)) < 3 * np.std(draws, ddof=1), (name, chance, draws)
        assert found[name].value > 4 * np.std(draws, ddof=1)  # an angle alone is far from 0, whatever the change was


@pytest.mark.long
def test_a_permuted_change_is_not_beyond_chance(demo, drawn):
    """Of null models the excess lies around 0, and no layer score says that all layers are beyond chance."""
    base, tuned = demo
    names = ("mean_angle_10_rad_over_chance", "mean_angle_50_rad_over_chance", "rotation_share_over_chance")
    draws = [scores_of(base, tuned, down) for down in drawn[:8]]
    for name in names:
        values = np.array([scores[name].value for scores in draws])
        assert abs(values.mean()) < 3.5 * values.std(ddof=1) / len(values) ** 0.5, (name, values)
        assert all(scores[name].low < 0 < scores[name].high for scores in draws), name


def test_the_rank_is_checked_and_in_the_key(demo):
    with pytest.raises(InputError, match="rank=0 must be a whole number of at least 1"):
        Rotation(0, 0)
    assert Rotation(10, 0).work(*demo)[0].key != Rotation(20, 0).work(*demo)[0].key
    unit = Rotation(10, 0).work(*demo)[0].compute()
    assert unit.arrays["chance_component_CD"].shape == (10, demo[0].views.width)


def test_a_low_rank_change_is_compared_with_changes_of_its_spectrum():
    """Permuting the entries of an adapter's change gives it full rank, which turns far fewer leading components."""
    generator = torch.Generator().manual_seed(0)
    base_FD = torch.randn(160, 40, generator=generator, dtype=torch.float64)
    factors = [torch.randn(size, 2, generator=generator, dtype=torch.float64) for size in base_FD.shape]
    low, full = base_FD + factors[0] @ factors[1].T, base_FD + 0.1 * torch.randn(160, 40, generator=generator)
    assert torch.equal(stats.random_change(base_FD, full, 3), stats.permuted_change(base_FD, full, 3))
    drawn = stats.random_change(base_FD, low, 3) - base_FD
    wanted, found = torch.linalg.svdvals(low - base_FD), torch.linalg.svdvals(drawn)
    torch.testing.assert_close(found, wanted, atol=1e-9, rtol=1e-9)
    assert torch.equal(stats.random_change(base_FD, low, 3) - base_FD, drawn)
    assert (drawn - (low - base_FD)).norm() > drawn.norm() and torch.equal(
        stats.random_change(base_FD, base_FD, 3), base_FD
    )
