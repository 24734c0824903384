"""A chain of tunings: each finding's scores over the checkpoints, and what later checkpoints forget (arXiv 2407.11780).

A checkpoint is a tuned model. The first is tuned from the base, and each later one from the checkpoint before it. Step
k is the k-th checkpoint, from 1.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from shiftbench.contracts.result import Figure, Result, Score, no_change
from shiftbench.family.matrix import WEIGHTS, Matrix, per_prompt
from shiftbench.stats import Bootstrap, Interval, paired_p

TRAJECTORY_COLUMNS = ["step", "checkpoint", "prompts", "value", "low", "high", "p", "n"]
FORGETTING_COLUMNS = [
    "prompts",
    "step",
    "checkpoint",
    "best",
    "best value",
    "value",
    "forgotten",
    "low",
    "high",
    "p",
    "n",
]


CAPTIONS = {
    "trajectory": (
        "One row is one checkpoint of the chain on one group of prompts. The columns have the headline score against "
        "the base model, its interval, p and number of observations."
    ),
    "forgetting": (
        "One row is one later checkpoint on one group of prompts. The columns have the best earlier value of the "
        "headline, the checkpoint's value, and what was forgotten: the first less the second, with its interval."
    ),
}


def trajectories(matrix: Matrix, first_steps: Mapping[str, int], bootstrap: Bootstrap) -> list[Result]:
    """One result for each finding: the headline's value at each checkpoint, and what later checkpoints forgot.

    matrix: its models are the checkpoints, in the order of the chain. first_steps: for each group of prompts, the first
    step (from 1) that was tuned toward it; step 1 for groups that it lacks.

    The forgetting of a group after step k is the best value of the headline on the group among the steps from its first
    step to k - 1, minus the value at step k (Chaudhry et al. 2018, equation 3). Where the headline is a mean over
    prompts, it is the mean of the differences on the prompts that have a value at both steps; where it is not, or no
    prompt has both values, the difference has no interval.

    The table `trajectory` has a row for each checkpoint and group. The table `forgetting` (columns FORGETTING_COLUMNS)
    has a row for each group and each step after the group's first step. The first score is the mean of the
    prompts' differences after the last step, over all groups; it is left out where no prompt has one. Then comes the
    last checkpoint's headline on each group. The first of the scores that are there is the result's headline.
    """
    return [_trajectory(name, matrix, first_steps, bootstrap) for name in matrix.findings]


def _trajectory(name: str, matrix: Matrix, first_steps: Mapping[str, int], bootstrap: Bootstrap) -> Result:
    results = matrix.results_of(name)
    table = pd.DataFrame(
        [
            (matrix.models.index(model) + 1, model, group, score.value, score.low, score.high, score.p, score.n)
            for (model, group), result in results.items()
            for score in [result.score(result.headline)]
        ],
        columns=TRAJECTORY_COLUMNS,
    )
    groups = list(dict.fromkeys(group for _, group in results))
    headline = next(iter(results.values())).headline
    forgetting = _forgetting_table(
        matrix, headline, results, {group: first_steps.get(group, 1) for group in groups}, bootstrap
    )
    scores = [_final_score(headline, group, results[matrix.models[-1], group]) for group in groups]
    forgotten = _forgetting_score(name, headline, matrix, forgetting, bootstrap)
    return Result(
        finding=name,
        captions=CAPTIONS,
        headline=forgotten[0].name if forgotten else scores[0].name,
        sentence=_sentence(headline, table, forgetting, matrix.models),
        scores=[*forgotten, *scores],
        tables={"trajectory": table, "forgetting": forgetting.drop(columns="lost")},
        figures=[_figure(headline, table)],
    )


def _final_score(headline: str, group: str, result: Result) -> Score:
    """The headline score of `result`, which is the last checkpoint's on a group, under another name.

    The name is HEADLINE_on_GROUP, or HEADLINE alone where the finding depends on no prompt (the group is WEIGHTS).
    """
    name = headline if group == WEIGHTS else f"{headline}_on_{group}"
    return dataclasses.replace(result.score(result.headline), name=name)


def _forgetting_table(
    matrix: Matrix,
    headline: str,
    results: Mapping[tuple[str, str], Result],
    first_steps: Mapping[str, int],
    bootstrap: Bootstrap,
) -> pd.DataFrame:
    """A table with FORGETTING_COLUMNS and "lost": a row for each group and each step after the group's first step.

    results: by (model, group), of one finding. first_steps: the first step of each group, from 1. best, best value: the
    checkpoint with the largest value from the group's first step to the step before this one (the earliest of several),
    and that value. value: this step's. forgotten: the mean of lost, or best value - value where lost is None; the row
    then has no interval and no p, and n is 0. lost: for each prompt, its value at the best checkpoint less its value at
    this step; None where the headline is no mean over prompts, or where no prompt has both values.
    """
    table_rows = []
    for group, first_step in first_steps.items():
        value = [results[model, group].score(headline).value for model in matrix.models]
        for step in range(first_step, len(matrix.models)):
            best = first_step - 1 + int(np.argmax(value[first_step - 1 : step]))
            lost = _loss_per_prompt(results[matrix.models[best], group], results[matrix.models[step], group])
            mean = Interval(value[best] - value[step], np.nan, np.nan) if lost is None else bootstrap.mean(lost)
            p, n = (None, 0) if lost is None else (paired_p(lost), len(lost))
            now, then = matrix.models[step], matrix.models[best]
            table_rows.append(
                (group, step + 1, now, then, value[best], value[step], mean.value, mean.low, mean.high, p, n, lost)
            )
    return pd.DataFrame(table_rows, columns=[*FORGETTING_COLUMNS, "lost"])


def _loss_per_prompt(before: Result, after: Result) -> pd.Series | None:
    """For each prompt with a value in both results, its value of the headline in `before` less its value in `after`.

    None where the headline is no mean over prompts, or where no prompt has a value in both.
    """
    first, second = per_prompt(before), per_prompt(after)
    lost = None if first is None or second is None else (first - second).dropna()
    return None if lost is None or lost.empty else lost


def _forgetting_score(
    name: str, headline: str, matrix: Matrix, forgetting: pd.DataFrame, bootstrap: Bootstrap
) -> list[Score]:
    """A list with one score, HEADLINE_forgotten: the mean loss at the last step, over the prompts of all groups.

    Groups whose rows of the last step have no `lost` are left out, and the list is empty where none is left. The
    interval resamples prompts within their group. Where every loss is 0, the score is `no_change`. forgetting: the
    table of _forgetting_table; it has no row for a group whose first step is the last step.
    """
    at_end = forgetting[forgetting["step"] == len(matrix.models)]
    lost = [series for series in at_end["lost"] if series is not None]
    if not lost:
        return []
    values, groups = np.concatenate(lost), np.repeat(np.arange(len(lost)), [len(series) for series in lost])
    score_name = f"{headline}_forgotten"
    if not values.any():
        return [no_change(name, score_name)]
    mean = bootstrap.stratified_mean(values, groups)
    return [Score(name, score_name, mean.value, mean.low, mean.high, paired_p(values), len(values))]


def _figure(headline: str, table: pd.DataFrame) -> Figure:
    return Figure(
        name="trajectory",
        title=f"{headline.replace('_', ' ')} over the chain",
        kind="line",
        table=table,
        x="step",
        y="value",
        series="prompts",
        low="low",
        high="high",
        x_label="checkpoint, counted from the base",
        y_label="score against the base",
    )


def _sentence(headline: str, table: pd.DataFrame, forgetting: pd.DataFrame, models: Sequence[str]) -> str:
    paths = [
        f"{group}: {', '.join(f'{value:+.2f}' for value in rows['value'])}" for group, rows in table.groupby("prompts")
    ]
    sentence = f"Over {len(models)} checkpoints {headline.replace('_', ' ')} went {'; '.join(paths)}."
    at_end = forgetting[forgetting["step"] == len(models)]
    for row in at_end.to_dict("records"):
        bounds = "" if np.isnan(row["low"]) else f" [{row['low']:+.2f}, {row['high']:+.2f}]"
        sentence += f" On {row['prompts']} the last one lost {row['forgotten']:+.2f}{bounds} of what {row['best']} had."
    return sentence
