"""Matrices of made-up results, in which the change of each prompt is a planted value plus noise."""

import numpy as np
import pandas as pd

from shiftbench.contracts.result import Result, Score
from shiftbench.family.matrix import WEIGHTS, Matrix
from shiftbench.stats import Bootstrap

BOOTSTRAP = Bootstrap(500, 0.95, 0)


def on_prompts(changes, group):
    """A result of the finding `planted`, in which each prompt of the group has the given change."""
    changes = np.asarray(changes, dtype=float)
    rows = pd.DataFrame(
        {"prompt": [f"{group} {i}" for i in range(len(changes))], "moved_base": 1.0, "moved_tuned": 1 + changes}
    )
    mean = BOOTSTRAP.mean(changes)
    score = Score("planted", "moved", mean.value, mean.low, mean.high, None, len(changes))
    return Result("planted", "moved", "", [score], {"prompts": rows})


def on_weights(value):
    """A result of the finding `weights`, which depends on no prompt."""
    return Result("weights", "turned", "", [Score("weights", "turned", value, value - 0.1, value + 0.1, None, 9)], {})


def matrix(moved, count=40, noise=0.2, seed=0, turned=None):
    """A Matrix with `count` prompts in each group.

    moved: the planted change by model and then by group. noise: the standard deviation of the noise of each prompt,
    which all models share, and of the further noise of each model. turned: by model, the value of the finding
    `weights`.
    """
    draws = np.random.default_rng(seed)
    groups = list(dict.fromkeys(group for changes in moved.values() for group in changes))
    prompt_noise = {group: noise * draws.normal(size=count) for group in groups}
    results = {
        (model, group): {"planted": on_prompts(value + prompt_noise[group] + noise * draws.normal(size=count), group)}
        for model, changes in moved.items()
        for group, value in changes.items()
    }
    for model, value in (turned or {}).items():
        results[model, WEIGHTS] = {"weights": on_weights(value)}
    return Matrix(list(moved), groups, results, None, [])
