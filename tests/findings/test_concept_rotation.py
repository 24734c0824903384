"""Finding 3 reads back a planted rotation and change of labels, and is 0 where neither happened."""

import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
import torch
from safetensors.torch import load_file, save_file

from shiftbench.config.composition import compose
from shiftbench.contracts.result import Kind
from shiftbench.demo import model_folder
from shiftbench.findings.concept_labels import LEVELS, TASKS, annotator_errors
from shiftbench.findings.concept_rotation import ConceptRotation
from shiftbench.pipeline.job import build
from shiftbench.pipeline.progress import Progress
from shiftbench.pipeline.run import explain_and_score
from shiftbench.stats import Bootstrap, student_test
from shiftbench.store.explanation import Explanation, Unit
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


def between(rotation=0.9, chance=0.2, change=0.1, chance_angle=0.1):
    """The pair's explanation; the random change turns base's components by `chance_angle`."""
    share_4 = torch.tensor([rotation, chance, 0.0, change], dtype=torch.float64)
    turned = explanation(chance_angle).units
    units = {
        name: Unit({"share_4": share_4, "chance_component_CD": unit.arrays["component_CD"]})
        for name, unit in turned.items()
    }
    return Explanation(units, {}, {})


def test_a_planted_rotation_is_read_back():
    scores = {s.name: s for s in FINDING(explanation(), explanation(angle=0.3), between()).scores}
    assert scores["mean_angle_3_rad"].value == pytest.approx(0.3, abs=1e-6)
    assert scores["mean_angle_6_rad"].value == pytest.approx(0.3, abs=1e-6)
    assert "mean_angle_300_rad" not in scores
    assert scores["unmatched_cosine"].value == pytest.approx(1 - math.cos(0.3), abs=1e-6)
    assert scores["rotation_share_over_chance"].value == pytest.approx(0.7)
    assert scores["mean_angle_3_rad_over_chance"].value == pytest.approx(0.2, abs=1e-6)
    assert scores["unmatched_cosine_over_chance"].value == pytest.approx(math.cos(0.1) - math.cos(0.3), abs=1e-6)


def test_planted_labels_are_read_back():
    result = FINDING(explanation(coding=1), explanation(coding=4, angle=0.3), between())
    scores = {s.name: s for s in result.scores}
    assert scores["none_share_fall"].value == pytest.approx(0.5) == scores["coding_share_rise"].value
    assert scores["none_share_fall"].low > 0 and scores["none_share_fall"].n == LAYERS * RANK
    assert scores["math_share_rise"].n == 0
    table = result.tables["table5"].set_index("label")
    assert table.loc["coding", "base mean"] == pytest.approx(1 / 6)
    assert table.loc["coding", "tuned mean"] == pytest.approx(4 / 6)
    assert "toward" in result.sentence and "turned by 17.2 degrees" in result.sentence
    assert (
        "random change of the same size turns it by 5.7" in result.sentence
    )  # never an angle without the level of chance


def test_a_model_and_itself_score_exactly_zero():
    same = explanation(coding=2)
    result = FINDING(same, same, between(0.0, 0.0, 0.0))
    for score in result.scores:
        assert (score.value, score.low, score.high, score.p, score.n) == (0.0, 0.0, 0.0, None, 0)
    assert "did not change" in result.sentence


def read_by_seeds(given, unread=0):
    """Concepts that seed s labels math in given[s] cases of each layer, else none; the last `unread` not read."""
    units = {}
    for name, unit in explanation().units.items():
        label_SCL = torch.zeros(len(given), RANK, len(LABELS), dtype=torch.bool)
        for seed, count in enumerate(given):
            label_SCL[seed, :count, LABELS.index("math")] = True
            label_SCL[seed, count:, LABELS.index("none")] = True
        answered_SC = torch.ones(len(given), RANK, dtype=torch.bool)
        answered_SC[:, RANK - unread :] = False
        label_SCL &= answered_SC[:, :, None]
        arrays = {key: value for key, value in unit.arrays.items() if key != "label_CL"}
        words = {**unit.words, "description": ["numbers"] * (len(given) * RANK)}
        units[name] = Unit({**arrays, "label_SCL": label_SCL, "answered_SC": answered_SC}, words)
    return Explanation(units, {}, {})


def test_an_annotators_seeds_are_what_table_5_is_tested_over():
    base, tuned = [1, 2, 1, 2, 0], [3, 4, 3, 3, 4]
    result = FINDING(read_by_seeds(base), read_by_seeds(tuned), between())
    row = result.tables["table5"].set_index("label").loc["math"]
    first, second = np.array(base) / RANK, np.array(tuned) / RANK
    wanted = scipy.stats.ttest_ind(first, second, equal_var=True)
    assert row["base mean"] == pytest.approx(first.mean()) and row["tuned std"] == pytest.approx(second.std(ddof=1))
    assert row["Student t"] == pytest.approx(wanted.statistic)
    assert row["Student p, two-sided"] == pytest.approx(wanted.pvalue)
    scores = {s.name: s for s in result.scores}
    rise = second.mean() - first.mean()
    assert scores["math_share_rise"].value == pytest.approx(rise) == scores["none_share_fall"].value
    assert scores["none_share_fall"].p == pytest.approx(wanted.pvalue) == scores["math_share_rise"].p
    assert scores["coding_share_rise"].p is None and not result.notes
    assert "description" in result.tables["concepts"]


def test_answers_that_could_not_be_read_are_left_out_and_told():
    result = FINDING(read_by_seeds([1, 1], unread=3), read_by_seeds([2, 3], unread=3), between())
    row = result.tables["table5"].set_index("label").loc["math"]
    assert (row["base mean"], row["tuned mean"]) == pytest.approx((1 / 3, 2.5 / 3))
    scores = {s.name: s for s in result.scores}
    assert scores["math_share_rise"].value == pytest.approx(0.5) and scores["math_share_rise"].n == LAYERS * 3
    assert result.notes == [
        "Labels that could not be read in the annotator's answers: 24 of 48 for base, 24 of 48 for tuned; left out."
    ]


def test_where_no_answer_could_be_read_nothing_is_said():
    nothing = read_by_seeds([1, 1], unread=RANK)
    result = FINDING(nothing, nothing, between())
    assert all(s.n == 0 for s in result.scores if s.name.endswith(("_fall", "_share_rise")))
    assert len(result.tables["table5"]) == len(LABELS)


def test_the_papers_test_over_seeds_has_its_size_under_the_null():
    """Seeds drawn alike for both models: 5% of the tests fall below 0.05."""
    draws = np.random.default_rng(0).binomial(300, 0.2, (2, 2000, 5)) / 300
    below = np.mean([student_test(first, second).p < 0.05 for first, second in zip(*draws, strict=True)])
    assert 0.035 < below < 0.065


def test_no_test_where_seeds_never_differ():
    assert student_test([0.5, 0.5], [0.5, 0.5]) is None and student_test([0.1], [0.5]) is None


def with_units(explained, **arrays):
    """The explanation with further arrays in each unit; a callable gets the layer's unit."""
    units = {
        name: Unit({**unit.arrays, **{key: value(unit) for key, value in arrays.items()}}, unit.words)
        for name, unit in explained.units.items()
    }
    return Explanation(units, {}, {})


def test_bounds_of_layer_scores_are_the_smallest_and_the_largest_layer():
    """The layers are all that the models have, so no interval is drawn from them."""
    tuned = {name: explanation(0.1 * (i + 1)).units[name] for i, name in enumerate(explanation().units)}
    result = FINDING(explanation(), Explanation(tuned, {}, {}), between(chance_angle=0.2))
    angle = result.score("mean_angle_3_rad")
    assert (angle.value, angle.low, angle.high) == pytest.approx((0.25, 0.1, 0.4), abs=1e-6) and angle.n == LAYERS
    excess = result.score("mean_angle_3_rad_over_chance")
    assert (excess.value, excess.low, excess.high) == pytest.approx((0.05, -0.1, 0.2), abs=1e-6)


def test_components_are_matched_before_they_are_compared():
    """Two models with the same concepts in another order did not change: value and interval are exactly 0."""
    base = explanation(coding=3)
    units = {}
    for name, unit in base.units.items():
        order = [5, 0, 4, 1, 3, 2]
        arrays = {**unit.arrays, "component_CD": -unit.arrays["component_CD"][order]}
        units[name] = Unit({**arrays, "label_CL": unit.arrays["label_CL"][order]}, unit.words)
    score = FINDING(base, Explanation(units, {}, {}), between()).score("none_share_fall")
    assert (score.value, score.low, score.high, score.n) == (0.0, 0.0, 0.0, 0)


def test_the_annotators_draws_widen_the_interval():
    """The labels by each part of the random lists alone differ, and so does the fall."""
    place, parts = LABELS.index("none"), 5

    def redrawn(unit):
        label_GCL = unit.arrays["label_CL"].repeat(parts, 1, 1)
        for part in range(parts):  # by part 0, 1, ... none, one, ... concepts more have no task
            label_GCL[part, :part, place] = True
        return label_GCL

    base, tuned = explanation(coding=1), explanation(coding=4, angle=0.3)
    plain = FINDING(base, tuned).score("none_share_fall")
    score = FINDING(with_units(base, label_GCL=redrawn), with_units(tuned, label_GCL=redrawn)).score("none_share_fall")
    assert score.value == plain.value and score.low < plain.low < plain.high < score.high
    errors = annotator_errors(with_units(base, label_GCL=redrawn), with_units(tuned, label_GCL=redrawn))
    rise = np.array(
        [redrawn_share(tuned, redrawn, place, i) - redrawn_share(base, redrawn, place, i) for i in range(parts)]
    )
    wanted = rise.std(ddof=1) / parts**0.5
    assert errors["none"] == pytest.approx(wanted) and wanted > 0
    assert plain.value - score.low == pytest.approx(math.hypot(plain.value - plain.low, 1.959964 * wanted), rel=1e-6)


def redrawn_share(explained, redrawn, place, part):
    return np.mean([redrawn(unit)[part, :, place].double().mean() for unit in explained.units.values()])


def test_what_comes_from_the_embeddings_is_a_score_of_its_own():
    """Components that did not change are read alike in base's embeddings; in tuned's own, two of six are coding."""
    base = explanation(coding=1)
    tuned = with_units(base, own_label_CL=lambda unit: explanation(coding=3).units["layer 0"].arrays["label_CL"])
    result = FINDING(base, tuned, between(0.0, 0.0, 0.0))
    assert result.score("none_share_fall").value == result.score("none_share_fall").n == 0
    part = result.score("none_share_fall_from_embeddings")
    assert part.value == pytest.approx(2 / 6) and part.low > 0
    assert FINDING.fact(part.name).kind is Kind.DIAGNOSTIC


def test_random_directions_stand_beside_the_components():
    base = with_units(
        explanation(coding=2), random_label_CL=lambda unit: explanation(coding=1).units["layer 0"].arrays["label_CL"]
    )
    result = FINDING(base, explanation(coding=3), between())
    table = result.tables["random_directions"].set_index("label")
    assert table.loc["coding"].tolist() == pytest.approx([1 / 6, 2 / 6, 3 / 6, LAYERS * RANK])
    score = result.score("random_label_share")
    assert score.value == pytest.approx(1 / 6 / 8) and score.n == LAYERS * RANK
    assert "to 33.3% of the base model's components" in result.notes[0] and "16.7% of 24 random" in result.notes[0]


def test_null_models_have_the_label_scores_alone_and_the_same_values():
    base, null = explanation(coding=1), explanation(coding=4, angle=0.3)
    result = FINDING(base, null)
    assert not any("angle" in score.name or "rotation" in score.name for score in result.scores)
    values = FINDING.null_values(base, null)
    assert FINDING.null_pair_explainer() is None
    assert values == pytest.approx({score.name: score.value for score in result.scores})


def test_concepts_that_the_annotator_cannot_tell_are_remarked_on_apart_from_unread_answers():
    answers = {"cannot_tell_SC": lambda unit: ~unit.arrays["answered_SC"]}
    told = with_units(read_by_seeds([1, 1], unread=2), **answers)
    result = FINDING(told, read_by_seeds([2, 3], unread=1))
    assert result.notes == [
        "Labels that could not be read in the annotator's answers: 8 of 48 for tuned; left out.",
        "Concepts of which the annotator could tell nothing: 16 of 48 for base; left out.",
    ]


@pytest.mark.long
def test_a_pair_that_differs_in_its_embeddings_alone_did_not_move(tmp_path):
    """Without static vectors tuned's components are read in base's embeddings, so the fall is exactly 0."""
    changed = tmp_path / "changed"
    shutil.copytree(model_folder("base"), changed)
    tensors = load_file(changed / "model.safetensors")
    names = [name for name in tensors if "embed_tokens" in name or "lm_head" in name]
    generator = torch.Generator().manual_seed(0)
    for name in names:
        noise = torch.randn(tensors[name].shape, generator=generator).to(tensors[name])
        tensors[name] += noise * tensors[name].std()
    save_file(tensors, changed / "model.safetensors", {"format": "pt"})
    options = [f"pair.base={model_folder('base')}", f"pair.tuned={changed}", f"store.path={tmp_path / 'store'}"]
    small = ["suite=smoke", "vectors=model", "annotate.draws=1000", "tracking=none"]
    job = build(compose("config", ["pair=local", *options, *small]))
    job = replace(job, findings={"concept_rotation": job.findings["concept_rotation"]})
    (result,) = explain_and_score(job, Progress()).results
    fall, from_embeddings = (result.score(f"none_share_fall{end}") for end in ("", "_from_embeddings"))
    assert (fall.value, fall.low, fall.high, fall.n) == (0.0, 0.0, 0.0, 0)
    assert from_embeddings.n > 0
