"""Every part that conf/ offers keeps its contract, and every score of a finding says what it means."""

from __future__ import annotations

import json

import pytest

from shiftbench.config.composition import compose, groups
from shiftbench.config.instantiation import instantiate
from shiftbench.config.settings import decisive
from shiftbench.config.targets import MOVED
from shiftbench.contracts.control import Control
from shiftbench.contracts.explainer import Explainer, PairExplainer
from shiftbench.contracts.finding import Finding, Group
from shiftbench.contracts.need import Need
from shiftbench.contracts.result import Kind
from shiftbench.errors import InputError
from tests.frozen.test_frozen import RECORDED

FINDINGS = groups()["finding"]
NEEDED = {"followed_instructions": ["findings.one.ratings.path=RATINGS"]}


def finding(name, ratings) -> Finding:
    words = [word.replace("RATINGS", str(ratings)) for word in NEEDED.get(name, [])]
    config = compose("config", ["pair=demo", f"+finding@findings.one={name}", *words])
    found: Finding = instantiate(config.findings.one)
    return found


@pytest.fixture
def ratings(tmp_path):
    file = tmp_path / "ratings.jsonl"
    file.write_text(json.dumps({"id": "a", "model": "m", "rating": 1}) + "\n")
    return file


@pytest.mark.parametrize("name", FINDINGS)
def test_findings_say_what_they_are_and_what_they_need(name, ratings):
    one = finding(name, ratings)
    assert isinstance(one, Finding) and isinstance(one.explain, Explainer) and one.name == name
    assert isinstance(one.group, Group) and one.needs <= set(Need) and {Need.BASE, Need.TUNED} <= one.needs
    assert one.is_check == all(fact.kind is Kind.LEVEL for fact in one.facts.values())
    between = one.pair_explainer()
    assert between is None or isinstance(between, PairExplainer)


def test_every_score_that_was_ever_recorded_has_a_meaning(ratings):
    """The names are those of a recorded run (tests/frozen) with every finding, two response modes and null models."""
    parts = {name: finding(name, ratings) for name in FINDINGS}
    named = [score.split(".", 1) for score in RECORDED["scores"]]
    assert named and all(parts[of].fact(score) is not None for of, score in named)


NOT_RECORDED = {  # scores that the recorded run lacks, with the reason
    ("instruction_recognition", "recognition_min_len"): "given only where own responses differ in length",
    ("instruction_recognition", "prompt_density_rise"): "added after the recording, by issue 19",
    ("attribution_faithfulness", "base_comprehensiveness_over_baselines"): "added after the recording, by issue 20",
    ("attribution_faithfulness", "tuned_comprehensiveness_over_baselines"): "added after the recording, by issue 20",
    ("concept_rotation", "none_share_fall_from_embeddings"): "added after the recording, by issue 19",
    ("concept_rotation", "random_label_share"): "added after the recording, by issue 19",
    ("concept_rotation", "mean_angle_10_rad_over_chance"): "added after the recording, by issue 19",
    ("concept_rotation", "unmatched_cosine_over_chance"): "added after the recording, by issue 19",
}


def test_every_meaning_is_that_of_a_score(ratings):
    recorded = {*(tuple(score.split(".", 1)) for score in RECORDED["scores"]), *NOT_RECORDED}
    for name in FINDINGS:
        one = finding(name, ratings)
        for score, fact in one.facts.items():
            assert fact.label and fact.unit and fact.positive and fact.zero, (name, score)
            assert any(of == name and one.fact(found) is fact for of, found in recorded), (name, score)


def test_every_claim_is_about_a_score_of_its_finding_and_bounded_by_others(ratings):
    for name in FINDINGS:
        one = finding(name, ratings)
        assert one.is_check <= (not one.claims), name  # a check makes no claim
        for claim in one.claims:
            assert all(one.fact(score) is not None for score in (claim.score, *claim.specific)), claim
            assert one.fact(claim.score).kind is Kind.SHIFT and claim.floor >= 10 and claim.null_pairs
            assert bool(claim.specific) == bool(claim.not_specific)


@pytest.mark.parametrize("name", [name for name in groups()["control"] if name != "none"])
def test_controls_are_controls(name, tmp_path):
    words = [f"control.path={tmp_path}"] if name == "continued" else []
    control = instantiate(compose("config", ["pair=demo", f"control={name}", *words]).control)
    assert isinstance(control, Control) and control.kind in (name, "auto")


@pytest.mark.parametrize("old", MOVED)
def test_a_class_that_moved_is_refused_with_its_new_path(old):
    new = MOVED[old]
    with pytest.raises(
        InputError, match=rf"pair._target_={old}pair: the class has moved; write pair._target_={new}pair in"
    ):
        compose("config", ["pair=demo", f"pair._target_={old}pair"])


@pytest.mark.parametrize("old", MOVED)
def test_settings_do_not_depend_on_where_a_class_lives(old):
    (found,) = decisive({"one": {"explain": {"_target_": f"{MOVED[old]}a.B"}}}).values()
    assert found == {"explain": {"_target_": f"{old}a.B"}}


@pytest.mark.parametrize(
    ("method", "mask", "used"),
    [
        ("grad_x_input", "resample", {}),
        ("contrast", "mean", {"method": "contrast"}),
        ("occlusion", "zero", {"method": "occlusion"}),
        ("occlusion", "resample", {"method": "occlusion", "mask": "resample", "draws": 3, "seed": 0}),
        ("occlusion:mean", "resample", {"method": "occlusion:mean"}),
        ("occlusion:resample", "zero", {"method": "occlusion:resample", "draws": 3, "seed": 0}),
        ("auto", "resample", {"method": "auto"}),
        ("integrated_gradients", "zero", {"method": "integrated_gradients", "steps": 32, "tolerance": 0.1}),
        ("smooth_gradients", "mean", {"method": "smooth_gradients", "noise": 0.1, "draws": 3, "seed": 0}),
    ],
)
def test_settings_have_the_options_that_the_method_uses(method, mask, used):
    options = {"method": method, "mask": mask, "steps": 32, "tolerance": 0.1, "draws": 3, "seed": 0, "noise": 0.1}
    (found,) = decisive({"one": {"explain": {**options, "levels": 10}}}).values()
    assert found == {"explain": {**used, "levels": 10}}
    (found,) = decisive({"one": {"explain": {"draws": 3, "seed": 0}}}).values()  # as the other explainers have
    assert found == {"explain": {"draws": 3, "seed": 0}}
