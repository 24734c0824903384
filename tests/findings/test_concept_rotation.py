"""Finding 3 reads back a rotation and a change of labels that were planted, and is 0 for a model and itself."""

import math

import pytest
import torch

from shiftbench.explanation import Explanation, Unit
from shiftbench.findings.concept_labels import LEVELS, TASKS
from shiftbench.findings.concept_rotation import ConceptRotation
from shiftbench.stats import Bootstrap
from tests.test_stats import basis, rotated

LABELS = [*TASKS, *LEVELS]
LAYERS, RANK, WIDTH = 4, 6, 16
FINDING = ConceptRotation(None, None, ranks=[3, 6, 300], bootstrap=Bootstrap(2000, 0.95, 0))


def explanation(angle=0.0, coding=0, seed=0):
    """Components turned by angle; the first `coding` concepts of each layer are labelled coding, the others none."""
    units = {}
    for layer in range(LAYERS):
        component_CD, generator = basis(RANK, WIDTH, seed + layer)
        if angle:
            component_CD = rotated(component_CD, angle, generator)
        label_CL = torch.zeros(RANK, len(LABELS), dtype=torch.bool)
        label_CL[:coding, LABELS.index("coding")] = True
        label_CL[coding:, LABELS.index("none")] = True
        arrays = {
            "component_CD": component_CD,
            "variance_ratio_C": torch.full((RANK,), 0.1),
            "index_CK": torch.zeros(RANK, 2, dtype=torch.int32),
            "label_CL": label_CL,
        }
        units[f"layer {layer}"] = Unit(arrays, {"word": ["a", "b"] * RANK, "label": LABELS})
    return Explanation(units, {}, {})


def between(rotation=0.9, chance=0.2, change=0.1):
    share = torch.tensor([rotation, chance, 0.0, change], dtype=torch.float64)
    return Explanation({f"layer {layer}": Unit({"share_4": share}) for layer in range(LAYERS)}, {}, {})


def test_a_planted_rotation_is_read_back():
    scores = {s.name: s for s in FINDING(explanation(), explanation(angle=0.3), between()).scores}
    assert scores["mean_angle_3_rad"].value == pytest.approx(0.3, abs=1e-6)
    assert scores["mean_angle_6_rad"].value == pytest.approx(0.3, abs=1e-6)
    assert "mean_angle_300_rad" not in scores
    assert scores["unmatched_cosine"].value == pytest.approx(1 - math.cos(0.3), abs=1e-6)
    assert scores["rotation_share_over_chance"].value == pytest.approx(0.7)


def test_planted_labels_are_read_back():
    result = FINDING(explanation(coding=1), explanation(coding=4, angle=0.3), between())
    scores = {s.name: s for s in result.scores}
    assert scores["none_share_fall"].value == pytest.approx(0.5) == scores["coding_share_rise"].value
    assert scores["none_share_fall"].low > 0 and scores["none_share_fall"].n == LAYERS * RANK
    assert scores["math_share_rise"].n == 0
    table = result.tables["table5"].set_index("label")
    assert table.loc["coding", "base mean"] == pytest.approx(1 / 6)
    assert table.loc["coding", "tuned mean"] == pytest.approx(4 / 6)
    assert "toward" in result.sentence and "17 degrees" in result.sentence


def test_a_model_and_itself_score_exactly_zero():
    same = explanation(coding=2)
    result = FINDING(same, same, between(0.0, 0.0, 0.0))
    for score in result.scores:
        assert (score.value, score.low, score.high, score.p, score.n) == (0.0, 0.0, 0.0, None, 0)
    assert "did not change" in result.sentence
