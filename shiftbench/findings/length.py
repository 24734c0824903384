"""Recognition scores over the first response tokens only, because density depends on the length of a response.

docs/controls.md, 'Length'.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd

from shiftbench.contracts.result import Figure
from shiftbench.stats import Bootstrap
from shiftbench.store.explanation import Unit

Pair = tuple[Unit, Unit]  # base's and tuned's unit of one prompt
Recognition = Callable[[Unit, int], float]  # the recognition score of a unit, over its first so many response tokens
MIN_PROMPTS = 2  # a mean over one prompt has no interval
MODELS = ("base", "tuned")
COLUMNS = ["response_tokens", "model", "recognition", "low", "high", "n"]


def response_tokens(unit: Unit) -> int:
    """R, the number of response tokens of a unit of attributions."""
    return int(unit.arrays["level_PR"].shape[1])


def cut_to_shorter(pairs: Sequence[Pair], recognition: Recognition) -> list[float]:
    """For each prompt, the recognition score of tuned less that of base.

    Both are over as many response tokens as the shorter response has. Prompts with an empty response are left out.
    """
    token_counts = [min(map(response_tokens, pair)) for pair in pairs]
    return [
        recognition(tuned, tokens) - recognition(base, tokens)
        for (base, tuned), tokens in zip(pairs, token_counts, strict=True)
        if tokens
    ]


def by_length(pairs: Sequence[Pair], recognition: Recognition, bootstrap: Bootstrap) -> pd.DataFrame:
    """COLUMNS: mean recognition score over the first 1, 2, 4, ... response tokens, of base, tuned, and tuned - base.

    The three means for a number of tokens are over the same prompts: those where both models' responses have at least
    so many tokens. Numbers of tokens that fewer than MIN_PROMPTS prompts have are left out.
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
    """Both models' mean recognition score over the number of response tokens."""
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
