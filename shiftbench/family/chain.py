"""Continual tuning: every finding as a trajectory over checkpoints, and what is forgotten (arXiv 2407.11780)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from shiftbench.contracts.result import Figure, Result, Score, no_change
from shiftbench.family.matrix import WEIGHTS, Matrix, per_prompt
from shiftbench.stats import Bootstrap, Interval, paired_p

TRAJECTORY = ["step", "checkpoint", "prompts", "value", "low", "high", "p", "n"]
FORGETTING = ["prompts", "step", "checkpoint", "best", "best value", "value", "forgotten", "low", "high", "p", "n"]


def trajectories(matrix: Matrix, owners: Mapping[str, int], bootstrap: Bootstrap) -> list[Result]:
    """A result a finding. owners: of each group, the step (from 1) that was tuned toward it, whose forgetting it shows.

    Forgetting of a group after step k is the best value that a step from its own to k - 1 had on it, less the value at
    k (Chaudhry et al. 2018, equation 3). Where the headline is a mean over prompts the two are compared prompt by
    prompt; elsewhere the difference has no interval.
    """
    return [_trajectory(name, matrix, owners, bootstrap) for name in matrix.findings]


def _trajectory(name: str, matrix: Matrix, owners: Mapping[str, int], bootstrap: Bootstrap) -> Result:
    found = matrix.of(name)
    table = pd.DataFrame(
        [
            (matrix.models.index(model) + 1, model, group, score.value, score.low, score.high, score.p, score.n)
            for (model, group), result in found.items()
            for score in [result.score(result.headline)]
        ],
        columns=TRAJECTORY,
    )
    groups = list(dict.fromkeys(group for _, group in found))
    called = next(iter(found.values())).headline
    forgetting = _forgetting(matrix, called, found, {group: owners.get(group, 1) for group in groups}, bootstrap)
    scores = [_last(called, group, found[matrix.models[-1], group]) for group in groups]
    forgotten = _forgotten(name, called, matrix, forgetting, bootstrap)
    return Result(
        finding=name,
        headline=forgotten[0].name if forgotten else scores[0].name,
        sentence=_sentence(called, table, forgetting, matrix.models),
        scores=[*forgotten, *scores],
        tables={"trajectory": table, "forgetting": forgetting.drop(columns="lost")},
        figures=[_figure(called, table)],
    )


def _last(called: str, group: str, result: Result) -> Score:
    """The headline at the end of the chain, under the group's name where it has prompts."""
    name = called if group == WEIGHTS else f"{called}_on_{group}"
    return dataclasses.replace(result.score(result.headline), name=name)


def _forgetting(
    matrix: Matrix,
    called: str,
    found: Mapping[tuple[str, str], Result],
    owners: Mapping[str, int],
    bootstrap: Bootstrap,
) -> pd.DataFrame:
    """FORGETTING, a row a group and later step, and per prompt what was lost, where there are prompts."""
    lines = []
    for group, owner in owners.items():
        value = [found[model, group].score(called).value for model in matrix.models]
        for step in range(owner, len(matrix.models)):
            best = owner - 1 + int(np.argmax(value[owner - 1 : step]))
            lost = _lost(found[matrix.models[best], group], found[matrix.models[step], group])
            mean = Interval(value[best] - value[step], np.nan, np.nan) if lost is None else bootstrap.mean(lost)
            p, n = (None, 0) if lost is None else (paired_p(lost), len(lost))
            now, then = matrix.models[step], matrix.models[best]
            lines.append(
                (group, step + 1, now, then, value[best], value[step], mean.value, mean.low, mean.high, p, n, lost)
            )
    return pd.DataFrame(lines, columns=[*FORGETTING, "lost"])


def _lost(before: Result, after: Result) -> pd.Series | None:
    """What each prompt lost, of the prompts that both have."""
    first, second = per_prompt(before), per_prompt(after)
    lost = None if first is None or second is None else (first - second).dropna()
    return None if lost is None or lost.empty else lost


def _forgotten(name: str, called: str, matrix: Matrix, forgetting: pd.DataFrame, bootstrap: Bootstrap) -> list[Score]:
    """One score, of all earlier groups' prompts at the end of the chain; none where prompts cannot be compared."""
    at_end = forgetting[forgetting["step"] == len(matrix.models)]
    lost = [series for series in at_end["lost"] if series is not None]
    if not lost:
        return []
    values, groups = np.concatenate(lost), np.repeat(np.arange(len(lost)), [len(series) for series in lost])
    called = f"{called}_forgotten"
    if not values.any():
        return [no_change(name, called)]
    mean = bootstrap.stratified_mean(values, groups)
    return [Score(name, called, mean.value, mean.low, mean.high, paired_p(values), len(values))]


def _figure(called: str, table: pd.DataFrame) -> Figure:
    return Figure(
        name="trajectory",
        title=f"{called.replace('_', ' ')} over the chain",
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


def _sentence(called: str, table: pd.DataFrame, forgetting: pd.DataFrame, models: Sequence[str]) -> str:
    paths = [
        f"{group}: {', '.join(f'{value:+.2f}' for value in rows['value'])}" for group, rows in table.groupby("prompts")
    ]
    told = f"Over {len(models)} checkpoints {called.replace('_', ' ')} went {'; '.join(paths)}."
    at_end = forgetting[forgetting["step"] == len(models)]
    for row in at_end.to_dict("records"):
        bounds = "" if np.isnan(row["low"]) else f" [{row['low']:+.2f}, {row['high']:+.2f}]"
        told += f" On {row['prompts']} the last one lost {row['forgotten']:+.2f}{bounds} of what {row['best']} had."
    return told
