"""The paper's Table 1 and Table 2, and both again with responses of equal length, as numbers in files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from shiftbench.published.asked import MODELS
from shiftbench.published.comparison import VERSIONS, Comparison

Names = Mapping[str, str]  # 'base' and 'tuned' -> the models' names


def document(rows: pd.DataFrame, comparisons: Sequence[Comparison], names: Names) -> dict[str, Any]:
    """What tables.json holds: table1 and table2 by prompt set, the cut versions of both, and every prompt's scores.

    std has ddof 0, as the paper's; p is one-sided Welch (unfollowed < followed, base < tuned), paired_p one-sided
    paired t. A number that does not exist (too few responses) is None.
    """
    tables: dict[str, Any] = {"table1": {}, "table2": {}, **{v: {} for v in VERSIONS if v != "whole"}}
    for one in comparisons:
        if one.version == "whole":
            tables[one.claim.table][one.dataset] = numbers(one, names)
        else:
            tables[one.version].setdefault(one.dataset, {})[one.claim.table] = numbers(one, names)
    scores = {
        names[model]: dict(zip(rows["prompt"], map(float, rows[f"{model}_whole"]), strict=True)) for model in MODELS
    }
    return {**tables, "scores": scores}


def numbers(one: Comparison, names: Names) -> dict[str, float | None]:
    """One entry of a table. names: what the sides are called, where not by the claim's own words."""
    entry: dict[str, float | None] = {}
    for side, scores in ((one.claim.lower, one.lower), (one.claim.higher, one.higher)):
        name = names.get(side, side)
        entry[f"mean_{name}"] = float(scores.mean()) if len(scores) else None
        entry[f"std_{name}"] = float(scores.std(ddof=0)) if len(scores) else None
        entry["n" if one.claim.paired else f"n_{name}"] = len(scores)
    for key in ("t", "p", "df"):
        entry[key] = getattr(one.welch, key) if one.welch else None
    if one.claim.paired:
        entry["paired_t"], entry["paired_p"] = (one.paired.t, one.paired.p) if one.paired else (None, None)
    return entry


def long(comparisons: Sequence[Comparison], names: Names) -> pd.DataFrame:
    """The same as rows, one a prompt set and version."""
    rows = [
        {"prompt set": one.dataset, "responses": VERSIONS[one.version], **numbers(one, names)} for one in comparisons
    ]
    return pd.DataFrame(rows).astype({"prompt set": str, "responses": str}) if rows else pd.DataFrame()
