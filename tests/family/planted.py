"""Matrices of planted results: each prompt's change is what was planted and noise of its own."""

import numpy as np
import pandas as pd

from shiftbench.contracts.result import Result, Score
from shiftbench.family.matrix import WEIGHTS, Matrix
from shiftbench.stats import Bootstrap

BOOTSTRAP = Bootstrap(500, 0.95, 0)


def on_prompts(changes, group):
    """A finding's result whose prompts changed so."""
    changes = np.asarray(changes, dtype=float)
    rows = pd.DataFrame(
        {"prompt": [f"{group} {i}" for i in range(len(changes))], "moved_base": 1.0, "moved_tuned": 1 + changes}
    )
    mean = BOOTSTRAP.mean(changes)
    score = Score("planted", "moved", mean.value, mean.low, mean.high, None, len(changes))
    return Result("planted", "moved", "", [score], {"prompts": rows})


def on_weights(value):
    return Result("weights", "turned", "", [Score("weights", "turned", value, value - 0.1, value + 0.1, None, 9)], {})


def matrix(moved, count=40, noise=0.2, seed=0, turned=None):
    """moved: by model and group. Noise is the prompt's own, and then each model's."""
    draws = np.random.default_rng(seed)
    groups = list(dict.fromkeys(group for of in moved.values() for group in of))
    of_prompt = {group: noise * draws.normal(size=count) for group in groups}
    results = {
        (model, group): {"planted": on_prompts(value + of_prompt[group] + noise * draws.normal(size=count), group)}
        for model, of in moved.items()
        for group, value in of.items()
    }
    for model, value in (turned or {}).items():
        results[model, WEIGHTS] = {"weights": on_weights(value)}
    return Matrix(list(moved), groups, results, None, [])
