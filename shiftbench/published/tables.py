"""The numbers of the paper's Table 1 and Table 2, and of both with responses cut short, as JSON and as rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from shiftbench.published.comparable_prompts import MODELS
from shiftbench.published.comparison import VERSIONS, Comparison

Names = Mapping[str, str]  # 'base' and 'tuned' -> the name of the model


def document(rows: pd.DataFrame, comparisons: Sequence[Comparison], names: Names) -> dict[str, Any]:
    """The content of tables.json as a dict, without "unaligned", which `reproduce` adds.

    "table1" and "table2" hold `numbers` by prompt set, for whole responses. "first50" and "min_len" hold `numbers` by
    prompt set and then by table, for cut responses. "scores" holds the score of every prompt's whole response, by model
    name and then by prompt id.
    rows: as `scores.prompt_scores` gives them. comparisons: of both claims.
    """
    tables: dict[str, Any] = {"table1": {}, "table2": {}, **{v: {} for v in VERSIONS if v != "whole"}}
    for comparison in comparisons:
        if comparison.version == "whole":
            tables[comparison.claim.table][comparison.dataset] = numbers(comparison, names)
        else:
            tables[comparison.version].setdefault(comparison.dataset, {})[comparison.claim.table] = numbers(
                comparison, names
            )
    scores = {
        names[model]: dict(zip(rows["prompt"], map(float, rows[f"{model}_whole"]), strict=True)) for model in MODELS
    }
    return {**tables, "scores": scores}


def numbers(comparison: Comparison, names: Names) -> dict[str, float | None]:
    """The numbers of one comparison by name: mean, standard deviation and n of both sides, and the tests.

    Their names are mean_SIDE, std_SIDE, n_SIDE (only `n` where the sides are paired), t, p, df, paired_t and paired_p.
    SIDE is the claim's name of the side, or the name in `names` that belongs to it. Standard deviations have ddof 0, as
    in the paper. t, p and df are those of the one-sided Welch test (unfollowed < followed, base < tuned). paired_t and
    paired_p are those of the one-sided paired t-test, and missing where the sides are not paired. A number that cannot
    be computed, because there are too few responses or they do not vary, is None.
    """
    entry: dict[str, float | None] = {}
    for side, scores in ((comparison.claim.lower, comparison.lower), (comparison.claim.higher, comparison.higher)):
        name = names.get(side, side)
        entry[f"mean_{name}"] = float(scores.mean()) if len(scores) else None
        entry[f"std_{name}"] = float(scores.std(ddof=0)) if len(scores) else None
        entry["n" if comparison.claim.paired else f"n_{name}"] = len(scores)
    for key in ("t", "p", "df"):
        entry[key] = getattr(comparison.welch, key) if comparison.welch else None
    if comparison.claim.paired:
        entry["paired_t"], entry["paired_p"] = (
            (comparison.paired.t, comparison.paired.p) if comparison.paired else (None, None)
        )
    return entry


def as_rows(comparisons: Sequence[Comparison], names: Names) -> pd.DataFrame:
    """A table of the comparisons, with one row for each: its prompt set, its version in words, and its `numbers`.

    comparisons: of one claim. Without any, the table has no columns.
    """
    rows = [
        {"prompt set": comparison.dataset, "responses": VERSIONS[comparison.version], **numbers(comparison, names)}
        for comparison in comparisons
    ]
    return pd.DataFrame(rows).astype({"prompt set": str, "responses": str}) if rows else pd.DataFrame()
