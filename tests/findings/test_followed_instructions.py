"""A planted difference between followed and unfollowed responses is found, and the paper's Table 1 on its own maps."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from shiftbench.commands import main
from shiftbench.config import composition
from shiftbench.findings.followed_instructions import FollowedInstructions
from shiftbench.published.comparable_prompts import comparable_prompts
from shiftbench.published.folder import read
from shiftbench.stats import Bootstrap, between_groups, independent_effect
from shiftbench.store.explanation import Explanation, Unit
from tests.findings.test_instruction_recognition import unit

pytestmark = pytest.mark.whole

PUBLISHED = Path(__file__).parents[3] / "shared" / "wu2024"


def finding(**change):
    given = dict(cutoff=7, p=4, shortest=5, first=10, bootstrap=Bootstrap(500, 0.95, 0))
    return FollowedInstructions(None, None, **{**given, **change})


def side(shares, seed, tokens=30):
    """A unit a prompt, whose 4 instruction tokens carry each response token with the prompt's chance."""
    generator = torch.Generator().manual_seed(seed)
    units = {}
    for i, share in enumerate(shares):
        level_PR = torch.zeros(12, tokens, dtype=torch.uint8)
        level_PR[11] = 10
        level_PR[:4] = torch.where(torch.rand(4, tokens, generator=generator) < share, 9, 0)
        units[f"p{i}"] = unit(level_PR, slice(0, 4))
    return Explanation(units, {}, {})


def rated(ratings):
    return Explanation({f"p{i}": Unit({"rating_1": torch.tensor([r])}) for i, r in enumerate(ratings) if r}, {}, {})


RATINGS = [1, 2, 3, 4] * 15
PLANTED = [0.2 if rating == 1 else 0.7 for rating in RATINGS]


def test_a_planted_difference_is_found_in_the_tuned_model_alone():
    result = finding()(side([0.4] * 60, 0), side(PLANTED, 1), rated(RATINGS))
    table = result.tables["table1"].set_index(["model", "responses"])
    whole, cut = result.scores
    assert whole.name == result.headline and whole.low > 0.3 and whole.p < 0.001 and whole.n == 60
    assert cut.low > 0.3
    tuned, base = table.loc[("tuned", "whole")], table.loc[("base", "whole")]
    assert tuned["followed n"] == 45 and tuned["unfollowed n"] == 15
    assert tuned["Welch p, one-sided"] < 1e-6
    followed = result.tables["prompts"].query("rating >= 2")["recognition_tuned"]
    unfollowed = result.tables["prompts"].query("rating == 1")["recognition_tuned"]
    assert tuned["Hedges' g"] == pytest.approx(independent_effect(followed, unfollowed).g)
    assert base["low"] < 0 < base["high"]
    assert result.level and "leans on the instruction more" in result.sentence


def test_under_the_null_the_test_keeps_its_size(monkeypatch):
    """With 199 permutations instead of 10,000: the size of a permutation test does not depend on their number."""
    few = partial(between_groups, draws=199)
    monkeypatch.setattr("shiftbench.findings.followed_instructions.between_groups", few)
    p, base = [], side([0.4] * 60, 999)
    for seed in range(60):
        result = finding(bootstrap=Bootstrap(20, 0.95, seed))(base, side([0.4] * 60, seed), rated(RATINGS))
        p.append(result.scores[0].p)
    assert np.mean(np.array(p) <= 0.05) <= 0.15


def test_what_is_excluded_short_or_unrated_does_not_count_and_is_told():
    ratings = [-1, None, *RATINGS[2:]]
    result = finding()(side(PLANTED, 0), side(PLANTED, 1), rated(ratings))
    assert result.scores[0].n == 58
    assert result.notes == ["Followed or not: of 60 responses 1 have no rating, 1 are excluded by their rating."]
    short = finding(shortest=31)(side(PLANTED, 0), side(PLANTED, 1), rated(RATINGS))
    assert short.scores[0].n == 0 and "cannot be compared" in short.sentence


def test_length_alone_goes_where_it_is_controlled():
    """Followed responses are longer, and late tokens lean on the instruction in all of them."""
    generator = torch.Generator().manual_seed(0)
    units = {}
    for i, rating in enumerate(RATINGS):
        share = torch.tensor([0.2] * 10 + [0.9] * 30)[: 10 if rating == 1 else 40]
        level_PR = torch.zeros(12, len(share), dtype=torch.uint8)
        level_PR[11] = 10
        level_PR[:4] = torch.where(torch.rand(4, len(share), generator=generator) < share, 9, 0)
        units[f"p{i}"] = unit(level_PR, slice(0, 4))
    whole, cut = finding()(side([0.4] * 60, 1), Explanation(units, {}, {}), rated(RATINGS)).scores
    assert whole.low > 0 and cut.low < 0 < cut.high


@pytest.mark.skipif(not PUBLISHED.exists(), reason="the paper's published explanations are not here")
def test_on_the_papers_own_explanations_it_is_the_papers_table():
    wanted = json.loads((PUBLISHED / "expected_tables.json").read_text())["table1"]
    prompts, _ = comparable_prompts(read(PUBLISHED))
    node = composition.packaged("finding/instruction_recognition")
    for dataset, rows in wanted.items():
        units = {"base": {}, "tuned": {}}
        ratings = {}
        for one in (one for one in prompts if one.dataset == dataset and one.rating is not None):
            ratings[one.prompt.id] = Unit({"rating_1": torch.tensor([one.rating])})
            for model in units:
                arrays = {"level_PR": one.maps[model].level_PR, "instruction_P": one.instruction[model]}
                units[model][one.prompt.id] = Unit(arrays)
        sides = [Explanation(units[model], {}, {}) for model in units]
        result = finding(cutoff=node.cutoff, p=node.p)(*sides, Explanation(ratings, {}, {}))
        row = result.tables["table1"].iloc[0]
        assert row["followed n"] == rows["n_followed"] and row["unfollowed n"] == rows["n_unfollowed"]
        found = {
            "t": row["Welch t (unfollowed < followed)"],
            "p": row["Welch p, one-sided"],
            **{f"mean_{side}": row[f"{side} mean"] for side in ("followed", "unfollowed")},
        }
        # The paper's arithmetic is float32, ours float64.
        assert found == pytest.approx({name: rows[name] for name in found}, rel=1e-4)


@pytest.mark.demo
def test_a_pair_is_scored_with_a_file_of_ratings(tmp_path, capfd):
    ids = [f"user_oriented_task_{i}" for i in range(252)]
    lines = [json.dumps({"id": name, "model": "m", "rating": 1 + i // 28 % 4}) for i, name in enumerate(ids)]
    (tmp_path / "ratings.jsonl").write_text("\n".join(lines) + "\n")
    words = [
        "score", "pair=demo", "suite=smoke", "dataset.limit=9", "tracking=none", "bootstrap.resamples=200",
        f"store.path={tmp_path / 'store'}", f"out={tmp_path / 'out'}", "response.max_new_tokens=12",
        "+finding@findings.followed_instructions=followed_instructions",
        f"findings.followed_instructions.ratings.path={tmp_path / 'ratings.jsonl'}",
        "findings.followed_instructions.shortest=1", "verbose=true",
    ]  # fmt: skip
    assert main(words) == 0
    document = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert "followed_instructions" in document["levels"] and document["versions"]["explain.ratings_file"] == "1"
    found = {score["name"]: score for score in document["scores"] if score["finding"] == "followed_instructions"}
    assert found["followed_recognition"]["n"] == 9
    assert "Followed instructions" in capfd.readouterr().out
    (tmp_path / "ratings.jsonl").write_text('{"id": "other", "model": "m", "rating": 1}\n')
    assert main(words) == 2 and "no id in the file is that of a prompt" in capfd.readouterr().err
