"""Recognition scores that count the first response tokens only, because density depends on the length of a response.

docs/controls.md, 'Length'.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd

from shiftbench.contracts.result import Figure
from shiftbench.stats import Bootstrap
from shiftbench.store.explanation import Unit

Pair = tuple[Unit, Unit]  # base's and tuned's unit of one prompt
# (unit, number of response tokens that count, from the first) -> the unit's recognition score
Recognition = Callable[[Unit, int], float]
MIN_PROMPTS = 2  # a mean over one prompt has no interval
MODELS = ("base", "tuned")
COLUMNS = ["response_tokens", "model", "recognition", "low", "high", "n"]


def response_tokens(unit: Unit) -> int:
    """R, the number of response tokens of a unit of attributions."""
    return int(unit.arrays["level_PR"].shape[1])


def cut_to_shorter(pairs: Sequence[Pair], recognition: Recognition) -> list[float]:
    """For each prompt, tuned's recognition score less base's, both with responses of equal length.

    pairs: base's and tuned's unit of each prompt. Each score counts only as many response tokens, from the first, as
    the shorter of the two responses has. Prompts where either response is empty are left out of the list.
    """
    token_counts = [min(map(response_tokens, pair)) for pair in pairs]
    return [
        recognition(tuned, tokens) - recognition(base, tokens)
        for (base, tuned), tokens in zip(pairs, token_counts, strict=True)
        if tokens
    ]


def by_length(pairs: Sequence[Pair], recognition: Recognition, bootstrap: Bootstrap) -> pd.DataFrame:
    """A table with COLUMNS: mean recognition scores where only the first 1, 2, 4, 8, ... response tokens count.

    Each number of tokens has three rows (column model): "base", "tuned" and "tuned - base". Their means, with bootstrap
    intervals, are over the same n prompts: those where both models' responses have at least that many tokens. The table
    ends before the first number of tokens that fewer than MIN_PROMPTS prompts reach.
    """
    rows = []
    tokens = 1
    while len(long_enough := [pair for pair in pairs if min(map(response_tokens, pair)) >= tokens]) >= MIN_PROMPTS:
        values = [[recognition(unit, tokens) for unit in pair] for pair in long_enough]
        scores = pd.DataFrame(values, columns=list(MODELS))
        scores["tuned - base"] = scores["tuned"] - scores["base"]
        for name in scores:
            mean = bootstrap.mean(scores[name])
            rows.append((tokens, name, mean.value, mean.low, mean.high, len(long_enough)))
        tokens *= 2
    return pd.DataFrame(rows, columns=COLUMNS)


def figure(table: pd.DataFrame) -> Figure:
    """A line figure of the table by `by_length`: each model's mean recognition score against the tokens that count."""
    return Figure(
        name="recognition_by_length",
        title="Instruction recognition by how much of the response counts",
        kind="line",
        table=table[table["model"].isin(MODELS)],
        x="response_tokens",
        y="recognition",
        series="model",
        low="low",
        high="high",
        dashed=("base",),
        x_label="first tokens of the response that count",
        y_label="mean recognition score",
    )
