"""The paper's Table 1 and Table 2 from per-prompt scores, and both again with responses of equal length."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from shiftbench.published.scores import FIRST, SHORTEST
from shiftbench.stats import TTest, paired_test, welch_test

VERSIONS = {  # of both tables: name in tables.json -> what is said of it
    "whole": "whole responses",
    "first50": f"first {FIRST} pieces",
    "min_len": "cut to the shorter",
}


def by_rating(rows: pd.DataFrame, version: str) -> tuple[pd.Series, pd.Series]:
    """Tuned's scores of (unfollowed, followed) responses of at least SHORTEST pieces."""
    counted = rows[rows["tuned_pieces"] >= SHORTEST].dropna(subset=[f"tuned_{version}"])
    score = counted[f"tuned_{version}"]
    return score[counted["rating"] == 1], score[counted["rating"] >= 2]


def by_model(rows: pd.DataFrame, version: str) -> tuple[pd.Series, pd.Series]:
    """Scores of (base, tuned), prompt by prompt."""
    both = rows.dropna(subset=[f"base_{version}", f"tuned_{version}"])
    return both[f"base_{version}"], both[f"tuned_{version}"]


def document(rows: pd.DataFrame, base: str, tuned: str) -> dict[str, Any]:
    """What tables.json holds: table1 and table2 by prompt set, the cut versions of both, and every prompt's scores.

    std has ddof 0, as the paper's; p is one-sided Welch (unfollowed < followed, base < tuned), paired_p one-sided
    paired t. A number that does not exist (too few responses) is None.
    """
    sets = {str(name): part for name, part in rows.groupby("dataset")}

    def both(part: pd.DataFrame, version: str) -> dict[str, Any]:
        return {"table1": _table1(part, version), "table2": _table2(part, version, base, tuned)}

    whole = {name: both(part, "whole") for name, part in sets.items()}
    return {
        **{table: {name: tables[table] for name, tables in whole.items()} for table in ("table1", "table2")},
        **{
            version: {name: both(part, version) for name, part in sets.items()}
            for version in VERSIONS
            if version != "whole"
        },
        "scores": {
            name: dict(zip(rows["prompt"], rows[f"{model}_whole"].astype(float), strict=True))
            for model, name in (("base", base), ("tuned", tuned))
        },
    }


def _table1(rows: pd.DataFrame, version: str) -> dict[str, float | None]:
    unfollowed, followed = by_rating(rows, version)
    return {
        **_moments("unfollowed", unfollowed),
        **_moments("followed", followed),
        "n_unfollowed": len(unfollowed),
        "n_followed": len(followed),
        **_test(welch_test(unfollowed, followed, "less")),
    }


def _table2(rows: pd.DataFrame, version: str, base: str, tuned: str) -> dict[str, float | None]:
    first, second = by_model(rows, version)
    paired = paired_test(first - second, "less")
    return {
        **_moments(base, first),
        **_moments(tuned, second),
        "n": len(first),
        **_test(welch_test(first, second, "less")),
        "paired_t": paired.t if paired else None,
        "paired_p": paired.p if paired else None,
    }


def _moments(name: str, values: pd.Series) -> dict[str, float | None]:
    x = values.to_numpy(dtype=np.float64)
    mean, std = (float(x.mean()), float(x.std())) if x.size else (None, None)
    return {f"mean_{name}": mean, f"std_{name}": std}


def _test(test: TTest | None) -> dict[str, float | None]:
    return {"t": test.t, "p": test.p, "df": test.df} if test else {"t": None, "p": None, "df": None}
