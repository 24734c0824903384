"""Instruction mixtures: several tuned models of one base, compared skill by skill (arXiv 2312.10793)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import pandas as pd

from shiftbench.contracts.result import Figure, Result, Score
from shiftbench.errors import InputError
from shiftbench.family.matrix import WEIGHTS, Matrix, per_prompt
from shiftbench.findings.change import mean_change
from shiftbench.stats import Bootstrap, between_groups, holm, sign_flip

SKILL_COLUMNS = ["skill", "model", "value", "low", "high", "p", "n"]
MODEL_COLUMNS = ["skill", "first", "second", "first - second", "low", "high", "sign-flip p, two-sided", "n"]
UNEVENNESS_COLUMNS = ["model", "share between skills", "permutation p", "n"]


CAPTIONS = {
    "skills": (
        "One row is one model on the prompts of one skill. The columns have its mean shift from the base model, the "
        "interval, the p of the test against 0, and n, the number of observations."
    ),
    "between_models": (
        "One row is two models on one skill. The columns have the first's mean shift less the second's on the n "
        "prompts of both, the interval, and a sign-flip test, also corrected for all rows (Holm)."
    ),
    "between_skills": (
        "One row is one model. The columns have the share of the variance of its shifts that lies between skills, "
        "and a permutation test, also corrected for all rows (Holm). n is the number of prompts."
    ),
    "prompts": (
        "One row is one prompt and one model. The column change has the model's shift from the base model on the "
        "prompt."
    ),
}


def check_findings(findings: Mapping[str, Any]) -> None:
    """Raise InputError where no finding, checks of attributions (is_check) not counted, depends on responses.

    findings: the findings of a job by name.
    """
    if not any(finding.needs_responses and not finding.is_check for finding in findings.values()):
        raise InputError(
            "no finding of this suite depends on prompts, so skills cannot be compared; choose another suite"
        )


def by_skill(matrix: Matrix, bootstrap: Bootstrap) -> list[Result]:
    """One result for each finding that depends on prompts: the shift of each model in each skill, and the differences.

    matrix: its groups are the skills. A shift is the finding's headline. A result has one score for each model, its
    mean shift over the prompts of all skills; the first model's is the result's headline. The table `skills` has the
    shift of each model in each skill, `between_models` compares two models in one skill, on the prompts that both have,
    and `between_skills` tests whether a model shifted some skills more than others: by permutations, which assign
    prompts at random to skills of the same sizes. The table `prompts` has each model's shift on each prompt. Where the
    headline is no mean over prompts, only `skills` has numbers, and every score is `no_change`. See docs/chains.md.
    """
    return [
        _by_skill(name, matrix, bootstrap)
        for name in matrix.findings
        if any(group != WEIGHTS for _, group in matrix.results_of(name))
    ]


def _by_skill(name: str, matrix: Matrix, bootstrap: Bootstrap) -> Result:
    found = matrix.results_of(name)
    headline = next(iter(found.values())).headline
    skills = pd.DataFrame(
        [
            (group, model, score.value, score.low, score.high, score.p, score.n)
            for (model, group), result in found.items()
            for score in [result.score(result.headline)]
        ],
        columns=SKILL_COLUMNS,
    )
    by_prompt = {key: per_prompt(result) for key, result in found.items()}
    changed = pd.DataFrame(
        [
            (group, model, prompt, value)
            for (model, group), series in by_prompt.items()
            if series is not None
            for prompt, value in series.items()
        ],
        columns=["skill", "model", "prompt", "change"],
    )
    scores = [_overall_score(name, headline, model, changed, bootstrap) for model in matrix.models]
    models = _model_table(changed, matrix, bootstrap)
    uneven = _unevenness_table(changed, matrix.models, bootstrap.seed)
    return Result(
        finding=name,
        captions=CAPTIONS,
        headline=scores[0].name,
        sentence=_sentence(headline, skills, models, uneven),
        scores=scores,
        tables={"skills": skills, "between_models": models, "between_skills": uneven, "prompts": changed},
        figures=[_figure(headline, skills)],
    )


def _overall_score(name: str, headline: str, model: str, changed: pd.DataFrame, bootstrap: Bootstrap) -> Score:
    """The score HEADLINE_of_MODEL: one model's mean shift over the prompts of all skills.

    name: the finding's name. changed: a row for each skill, model and prompt, with the shift in the column change. The
    score is `no_change` where the model has no row or every shift is 0.
    """
    return mean_change(name, f"{headline}_of_{model}", changed.loc[changed["model"] == model, "change"], bootstrap)


def _model_table(changed: pd.DataFrame, matrix: Matrix, bootstrap: Bootstrap) -> pd.DataFrame:
    """A row for each skill and each two models: the mean of the first's shift less the second's, with its interval.

    The first is the one that comes first in matrix.models; a model without a shift in a skill has no row there.
    changed: a row for each skill, model and prompt, with the shift in the column change. The mean and the sign-flip
    test are over the skill's prompts for which both models have a shift. Holm's correction is over all rows.
    """
    table_rows = []
    for skill in matrix.groups:
        by_model = changed[changed["skill"] == skill].pivot(index="prompt", columns="model", values="change")
        for first, second in combinations([model for model in matrix.models if model in by_model], 2):
            differences = (by_model[first] - by_model[second]).dropna()
            mean, flipped = bootstrap.mean(differences), sign_flip(differences, "two-sided", bootstrap.seed)
            table_rows.append((skill, first, second, mean.value, mean.low, mean.high, flipped.p, flipped.n))
    table = pd.DataFrame(table_rows, columns=MODEL_COLUMNS)
    table.insert(7, "Holm p", holm([line[6] for line in table_rows]))
    return table


def _unevenness_table(changed: pd.DataFrame, models: Sequence[str], seed: int) -> pd.DataFrame:
    """A row for each model: the share of the variance of the prompts' shifts that is between skills (between_groups).

    changed: a row for each skill, model and prompt, with the shift in the column change. seed: of the permutations.
    Holm's correction is over the models.
    """
    table_rows = []
    for model in models:
        rows = changed[changed["model"] == model]
        found = between_groups(rows["change"], rows["skill"], seed)
        table_rows.append((model, found.share, found.p, found.n))
    table = pd.DataFrame(table_rows, columns=UNEVENNESS_COLUMNS)
    table.insert(3, "Holm p", holm([line[2] for line in table_rows]))
    return table


def _figure(headline: str, skills: pd.DataFrame) -> Figure:
    return Figure(
        name="skills",
        title=f"{headline.replace('_', ' ')} by the skill that prompts ask for",
        kind="heat",
        table=skills,
        x="model",
        y="value",
        series="skill",
        diverging=True,
        x_label="tuned model",
        y_label="skill",
    )


def _sentence(headline: str, skills: pd.DataFrame, models: pd.DataFrame, uneven: pd.DataFrame) -> str:
    what = headline.replace("_", " ")
    if not skills["n"].any():
        return f"No prompt of any skill says anything about {what}, or nothing changed."
    best = skills.loc[skills.groupby("model", sort=False)["value"].idxmax()]
    strongest = "; ".join(
        f"{row['model']} most in {row['skill']} ({row['value']:+.2f})" for row in best.to_dict("records")
    )
    apart = models[models["Holm p"].astype(float) <= 0.05]
    differ = uneven[uneven["Holm p"].astype(float) <= 0.05]
    return (
        f"What tuning changed of {what}: {strongest}. Beyond chance, skills differ in {len(differ)} of {len(uneven)} "
        f"models, and {len(apart)} of {len(models)} comparisons of two models in one skill differ (Holm's p at most "
        "0.05)."
    )
