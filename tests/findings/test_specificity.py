"""A planted change of where a model looks is read back; under the null the tests reject as often as they say."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import binomtest

from shiftbench.findings.specificity import paired_differences, paired_tests, part_densities, part_table
from shiftbench.stats import Bootstrap
from tests.findings.test_instruction_recognition import explanation, finding, planted, unit

BOOTSTRAP = Bootstrap(200, 0.95, 0)


def named(result):
    return {score.name: score for score in result.scores}


def test_densities_of_parts_are_means_over_their_tokens():
    density_P = torch.arange(10) / 10
    found = part_densities(density_P, unit(torch.zeros(10, 3), slice(0, 2), slice(4, 6)))
    wanted = {
        "instruction": 0.05, "context": 0.45, "others": 0.55, "all_tokens": 0.45,
        "first_third": 0.15, "middle_third": 0.5, "last_third": 0.8,
        "specificity": -0.5, "context_specificity": -0.4,
    }  # fmt: skip
    assert found == pytest.approx(wanted)


def test_a_part_that_a_prompt_lacks_is_not_a_number_and_left_out():
    found = part_densities(torch.tensor([0.5, 0.7]), unit(torch.zeros(2, 3), slice(0, 2)))
    assert np.isnan([found[name] for name in ("context", "others", "last_third", "specificity")]).all()
    rows = pd.DataFrame({"a_base": [1.0, np.nan, 2.0], "a_tuned": [2.0, 1.0, 5.0]})
    assert paired_differences(rows, ["a"])["a"].tolist() == [1.0, 3.0]


def test_what_only_the_instruction_gains_is_specific_to_it():
    result = finding()(planted(0.2), planted(0.6, seed=1))
    found, parts = named(result), result.tables["parts"].set_index(["tokens", "model"])
    specific = found["specificity"]
    assert specific.low > 0 and specific.n == 40 and specific.p < 1e-6
    assert found["context_specificity"].low > 0
    assert found["first_third_rise"].low > 0  # the instruction stands there
    gain = parts.loc[("instruction", "tuned"), "mean density"] - parts.loc[("instruction", "base"), "mean density"]
    others = parts.loc[("others", "tuned"), "mean density"] - parts.loc[("others", "base"), "mean density"]
    assert specific.value == pytest.approx(gain - others) and (parts["n"] == 40).all()
    tests = result.tables["tests"].set_index("quantity")
    row = tests.loc["specificity"]
    assert row["tuned - base"] == pytest.approx(specific.value) and row["n"] == 40
    assert row["sign-flip p, two-sided"] <= 2e-4 and row["d low"] > 0.5
    assert row["Holm p of sign-flip"] == pytest.approx(len(tests) * 1e-4, rel=0.5)


def test_what_every_token_gains_is_not():
    """Density doubles everywhere: recognition rises, and specificity says it was not the instruction."""

    def everywhere(share, seed):
        generator = torch.Generator().manual_seed(seed)
        units = []
        for _ in range(40):
            level_PR = torch.where(torch.rand(12, 30, generator=generator) < share, 9, 0)
            level_PR[11] = 10
            units.append(unit(level_PR, slice(0, 4), slice(5, 10)))
        return explanation(units)

    found = named(finding()(everywhere(0.2, 0), everywhere(0.6, 1)))
    assert found["recognition"].low > 0
    # The last token is full in both and one of eight others: what the others gain is 7 / 8 of the instruction's.
    gain = found["recognition"].value * np.log2(6) / 4
    assert found["specificity"].value == pytest.approx(gain / 8, abs=0.02)
    assert found["context_specificity"].low < 0 < found["context_specificity"].high


def test_a_model_and_itself_have_no_specificity():
    base = planted(0.4)
    result = finding()(base, base)
    assert all((score.value, score.p, score.n) == (0.0, None, 0) for score in result.scores)
    assert (result.tables["tests"]["tuned - base"] == 0).all()


@pytest.mark.long
def test_under_the_null_the_family_is_rejected_as_rarely_as_holm_says():
    draws = np.random.default_rng(0)
    rejected = 0
    for _ in range(200):
        family = {name: pd.Series(draws.normal(0, 1, 14)) for name in ("a", "b", "c")}
        table = paired_tests(family, BOOTSTRAP)
        rejected += bool((table["Holm p of sign-flip"] <= 0.05).any())
    assert binomtest(rejected, 200, 0.05, "greater").pvalue > 0.01, rejected


def test_without_prompts_tables_are_empty_of_numbers():
    silent = explanation([unit(torch.ones(12, 30), slice(0, 0))])
    result = finding()(silent, silent)
    assert (result.tables["parts"]["n"] == 0).all() and (result.tables["tests"]["n"] == 0).all()
    assert part_table(pd.DataFrame(columns=result.tables["prompts"].columns), BOOTSTRAP)["n"].sum() == 0
