"""Recognition as a function of how much of the response counts: density depends on length (docs/controls.md)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd

from shiftbench.contracts.result import Figure
from shiftbench.stats import Bootstrap
from shiftbench.store.explanation import Unit

Pair = tuple[Unit, Unit]  # base's and tuned's unit of one prompt
Recognition = Callable[[Unit, int], float]  # of a unit's first so many response tokens
FEWEST = 2  # prompts; a mean of one has no interval
MODELS = ("base", "tuned")
COLUMNS = ["response_tokens", "model", "recognition", "low", "high", "n"]


def response_tokens(unit: Unit) -> int:
    """R of a unit of attributions."""
    return int(unit.arrays["level_PR"].shape[1])


def cut_to_shorter(pairs: Sequence[Pair], recognition: Recognition) -> list[float]:
    """Tuned less base where both responses are cut to the shorter one; a prompt with an empty one has no value."""
    shorter = [min(map(response_tokens, pair)) for pair in pairs]
    return [
        recognition(tuned, tokens) - recognition(base, tokens)
        for (base, tuned), tokens in zip(pairs, shorter, strict=True)
        if tokens
    ]


def by_length(pairs: Sequence[Pair], recognition: Recognition, bootstrap: Bootstrap) -> pd.DataFrame:
    """COLUMNS: mean recognition of the first 1, 2, 4, ... response tokens, base, tuned, and tuned - base.

    Of each number over the prompts whose responses have so many tokens in both models, so the three are of the same
    prompts; numbers that fewer than two prompts reach are left out.
    """
    lines = []
    tokens = 1
    while len(long := [pair for pair in pairs if min(map(response_tokens, pair)) >= tokens]) >= FEWEST:
        found = pd.DataFrame([[recognition(unit, tokens) for unit in pair] for pair in long], columns=list(MODELS))
        found["tuned - base"] = found["tuned"] - found["base"]
        for name in found:
            mean = bootstrap.mean(found[name])
            lines.append((tokens, name, mean.value, mean.low, mean.high, len(long)))
        tokens *= 2
    return pd.DataFrame(lines, columns=COLUMNS)


def figure(table: pd.DataFrame) -> Figure:
    """Both models' recognition over the length that counts."""
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
