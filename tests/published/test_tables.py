"""The published tables are reproduced to the last digit; planted scores, cuts and alignment failures are found."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import ttest_ind, ttest_rel

from shiftbench import ops
from shiftbench.findings.instruction_recognition import recognition_score
from shiftbench.published.comparable_prompts import comparable_prompts
from shiftbench.published.comparison import CLAIMS, compare
from shiftbench.published.folder import read
from shiftbench.published.reproduction import reproduce
from shiftbench.published.scores import Metric, prompt_scores
from shiftbench.published.tables import document
from tests import reference
from tests.published.synthetic import BASE, TUNED, model_rows, pieces_of, prompt_rows, write_folder

PUBLISHED = Path(__file__).parents[3] / "shared" / "wu2024"
METRIC = Metric(cutoff=7, p=4)
needs_published = pytest.mark.skipif(
    not PUBLISHED.exists(), reason="the paper's published maps are not beside this checkout"
)


def tables(folder):
    prompts, unaligned = comparable_prompts(read(folder))
    rows = prompt_scores(prompts, METRIC)
    comparisons = [one for claim in CLAIMS for one in compare(rows, claim)]
    return document(rows, comparisons, {"base": "plain", "tuned": "chatty"}), rows, unaligned


def leaves(tree, path=()):
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from leaves(value, (*path, key))
    else:
        yield path, tree


def rounding():
    """How closely this machine can reproduce the published numbers.

    They were computed on a machine on which numpy computes float32 powers with AVX-512. The last digit of these powers
    differs from that of correctly rounded powers in a quarter of all cases.
    """
    x = np.arange(1, 10_000, dtype=np.float32)
    exact = (x.astype(np.float64) ** 0.25).astype(np.float32)
    return 1e-9 if (np.power(x, np.float32(0.25)) != exact).mean() > 0.1 else 1e-6


@pytest.mark.long
@needs_published
def test_the_published_folder_gives_the_expected_tables(tmp_path):
    reproduction = reproduce(PUBLISHED, tmp_path)
    found = json.loads(reproduction.tables.read_text())
    expected = json.loads((PUBLISHED / "expected_tables.json").read_text())
    keys = ("table1", "table2", "first50", "min_len", "scores")
    wanted = dict(leaves({key: expected[key] for key in keys}))
    computed = dict(leaves({key: found[key] for key in keys}))
    assert set(computed) == set(wanted) and len(wanted) > 2 * 332
    assert found["unaligned"] == []
    for path, value in wanted.items():
        tolerance = rounding() * (1 if path[0] == "scores" or path[-1].startswith(("mean", "std", "n")) else 10)
        assert computed[path] == pytest.approx(value, abs=tolerance, rel=0), path


@needs_published
def test_our_own_arithmetic_differs_from_the_published_only_in_rounding():
    """The finding's own computation in float64 gives every published score of both models within rounding."""
    expected = json.loads((PUBLISHED / "expected_tables.json").read_text())["scores"]
    prompts, _ = comparable_prompts(read(PUBLISHED))
    differences = [
        METRIC.score_in_double(one.maps[model].level_PR, one.instruction[model]) - expected[name][one.prompt.id]
        for model, name in (("base", "llama"), ("tuned", "vicuna"))
        for one in prompts
    ]
    assert len(differences) == 2 * (252 + 80) and np.abs(differences).max() < 5e-7


@pytest.mark.parametrize(("cutoff", "p"), [(7, 4), (0, 2), (3, 1), (9, 3)])
@pytest.mark.parametrize("shape", [(12, 30), (3, 1), (4, 0)])
def test_the_score_in_float32_follows_the_formula(cutoff, p, shape):
    level_PR = torch.randint(0, 11, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    level_PR[:1] = 0
    mask_P = torch.arange(shape[0]) < 3
    metric = Metric(cutoff, p)
    if shape[1]:
        wanted = recognition_score(reference.importance_density(level_PR.double(), cutoff, p), mask_P)
        assert metric.score(level_PR, mask_P) == pytest.approx(wanted, abs=1e-6)
    assert metric.score(level_PR, mask_P) == pytest.approx(metric.score_in_double(level_PR, mask_P), abs=1e-6)


def test_planted_differences_are_found_and_the_tests_equal_scipys(tmp_path):
    found, rows, unaligned = tables(write_folder(tmp_path))
    assert unaligned.empty
    base, tuned = (np.array([found["scores"][name][f"made_{i}"] for i in range(24)]) for name in ("plain", "chatty"))
    table2 = found["table2"]["made"]
    assert (table2["n"], table2["mean_plain"], table2["std_chatty"]) == (24, base.mean(), tuned.std())
    test = ttest_ind(base, tuned, equal_var=False, alternative="less")
    assert (table2["t"], table2["p"], table2["df"]) == pytest.approx((test.statistic, test.pvalue, test.df))
    assert table2["paired_p"] == pytest.approx(ttest_rel(base, tuned, alternative="less").pvalue)
    unfollowed = np.arange(24) % 3 == 0
    table1 = found["table1"]["made"]
    assert (table1["n_unfollowed"], table1["n_followed"]) == (8, 16)
    test = ttest_ind(tuned[unfollowed], tuned[~unfollowed], equal_var=False, alternative="less")
    assert (table1["t"], table1["p"]) == pytest.approx((test.statistic, test.pvalue))
    assert table2["p"] < 1e-6 and table1["p"] < 1e-6
    assert rows["instruction_pieces"].eq(len(pieces_of("Write about topic a é now."))).all()


def test_versions_with_cut_responses_score_the_pieces_that_are_left(tmp_path):
    prompts = prompt_rows(6)
    base, tuned = model_rows(prompts, 0.4, 70, 1), model_rows(prompts, 0.4, 60, 2)
    found, rows, _ = tables(write_folder(tmp_path, prompts, base=base, tuned=tuned))
    for i, ((_, prompt_pieces, _, level_PR), row) in enumerate(zip(base, rows.itertuples(), strict=True)):
        mask_P = torch.arange(len(prompt_pieces)) < row.instruction_pieces
        for version, kept in (("whole", 70), ("first50", 50), ("min_len", 60)):
            density_P = ops.importance_density(torch.from_numpy(level_PR[:, :kept]).to(torch.uint8), 7, 4)
            assert getattr(row, f"base_{version}") == pytest.approx(recognition_score(density_P, mask_P), abs=1e-6), i
    assert found["first50"]["made"]["table2"]["n"] == 6


def test_short_responses_count_where_the_paper_counts_them(tmp_path):
    """Table 2 uses every prompt, and a prompt without a response piece scores 0. The others require 5 pieces."""
    prompts = prompt_rows(9)
    base, tuned = model_rows(prompts, 0.4, 8, 1), model_rows(prompts, 0.6, 8, 2)
    base[0] = (*base[0][:2], [], base[0][3][:, :0])
    tuned[1] = (*tuned[1][:2], ["▁y"] * 4, tuned[1][3][:, :4])
    found, rows, _ = tables(write_folder(tmp_path, prompts, base=base, tuned=tuned))
    assert found["scores"]["plain"]["made_0"] == 0.0
    assert found["table2"]["made"]["n"] == 9 and found["first50"]["made"]["table2"]["n"] == 7
    table1 = found["table1"]["made"]
    assert table1["n_unfollowed"] + table1["n_followed"] == 8
    assert rows["base_min_len"].isna().sum() == 2


@pytest.mark.long
def test_prompts_that_do_not_align_are_counted_listed_and_left_out_for_both_models(tmp_path):
    prompts = prompt_rows(8)
    prompts[5]["instruction"] = [[0, 5], [26, 27]]  # the second span is a line break
    prompts[6]["instruction"] = []
    base, tuned = model_rows(prompts, 0.3, 20, 1), model_rows(prompts, 0.6, 20, 2)
    name, pieces, answer, level_PR = tuned[2]
    tuned[2] = (
        name,
        ["▁Read", *pieces[1:]],
        answer,
        level_PR,
    )  # another first word, so the pieces do not spell the span
    name, pieces, answer, level_PR = base[3]
    base[3] = (name, pieces[:-3], answer, level_PR[:-3])  # cut short after the instruction, so the instruction aligns
    del base[7]
    found, rows, unaligned = tables(write_folder(tmp_path, prompts, base=base, tuned=tuned))
    assert rows["prompt"].tolist() == ["made_0", "made_1", "made_3", "made_4", "made_5"]
    assert set(found["scores"]["chatty"]) == set(found["scores"]["plain"]) == set(rows["prompt"])
    reasons = {
        (row["prompt"], row["model"]): (row["reason"], row["prompt left out"]) for _, row in unaligned.iterrows()
    }
    assert reasons == {
        ("made_2", "tuned"): ("no pieces spell it", True),
        ("made_5", "base"): ("only dropped marks spell it", False),
        ("made_5", "tuned"): ("only dropped marks spell it", False),
        ("made_6", "base"): ("it has no instruction span", True),
        ("made_6", "tuned"): ("it has no instruction span", True),
        ("made_7", "base"): ("the model has no map of it", True),
    }
    reproduction = reproduce(tmp_path, tmp_path / "out")
    listed = json.loads(reproduction.tables.read_text())["unaligned"]
    assert [(row["prompt"], row["start"], row["stop"]) for row in listed][:2] == [("made_2", 0, 26), ("made_5", 26, 27)]
    assert len(listed) == 6 and listed[-1]["start"] is None
    assert any(
        "3 of these alignments have no piece; 3 of 8 prompts are left out" in note
        for note in reproduction.summary.notes
    )
    table = pd.read_csv(tmp_path / "out" / "tables" / "table2.unaligned.csv")
    assert table["prompt"].tolist() == [row["prompt"] for row in listed]


def test_several_prompt_sets_and_too_few_ratings_for_a_test(tmp_path):
    prompts = [*prompt_rows(6, "one"), *prompt_rows(7, "two"), *prompt_rows(5, "three")]
    ratings = [{"id": "two_1", "model": TUNED, "rating": 1}, {"id": "two_2", "model": TUNED, "rating": 4}]
    reproduction = reproduce(write_folder(tmp_path / "in", prompts, ratings=ratings), tmp_path / "out")
    found = json.loads(reproduction.tables.read_text())
    assert set(found["table2"]) == {"one", "two", "three"} and found["table2"]["three"]["n"] == 5
    assert found["table1"]["one"]["mean_followed"] is None and found["table1"]["two"]["n_followed"] == 1
    assert found["table1"]["two"]["p"] is None
    scores = {score.name: score for score in reproduction.summary.results[0].scores}
    assert (scores["one_whole"].n, scores["one_whole"].p) == (0, None)
    assert not any(math.isnan(score.value) for result in reproduction.summary.results for score in result.scores)


def test_models_that_differ_only_in_size_keep_it_in_their_names(tmp_path):
    folder = write_folder(tmp_path / "in")
    (folder / f"attribution_{BASE}.npz").rename(folder / "attribution_chatty_7b.npz")
    found = json.loads(reproduce(folder, tmp_path / "out").tables.read_text())
    assert set(found["scores"]) == {"chatty_7b", "chatty_1b"}
