"""The table of docs/attribution.md: how faithful each method is on each pair.

`python -m tests.explain.page NAME=RUN ...` reads the tables of each run's folder, keeps them in
docs/results/attribution.csv and writes the table of the page. Without arguments it writes the table from the kept file.
tests/explain/test_page.py compares the two.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "docs" / "results" / "attribution.csv"
PAGE = ROOT / "docs" / "attribution.md"
BEGIN, END = "<!-- table: python -m tests.explain.page -->\n", "<!-- end of the table -->"
SHOWN = ("comprehensiveness_over_random", "correlation")


def keep(runs: dict[str, Path]) -> None:
    """Write both tables of each run, one below the other, to KEPT. Runs that are not named keep their rows."""
    old = pd.read_csv(KEPT) if KEPT.exists() else pd.DataFrame({"pair": []})
    new = []
    for name, run in runs.items():
        folder = run / "tables"
        choice, methods = (
            pd.read_csv(folder / f"attribution_faithfulness.{table}.csv") for table in ("choice", "methods")
        )
        methods = methods.merge(choice[["method", "chosen", "faithful in base", "faithful in tuned"]], on="method")
        new.append(methods.assign(pair=name))
    kept = pd.concat([old[~old["pair"].isin(list(runs))], *new])
    columns = ["pair", "method", "chosen", "faithful in base", "faithful in tuned", "model", "mask", "method's own"]
    columns += ["quantity", "mean", "low", "high", "n", "prompts needed"]
    kept[columns].round(4).to_csv(KEPT, index=False)


def table() -> str:
    """The page's table, in Markdown: a row for each pair, method and model, a column for each mask."""
    kept = pd.read_csv(KEPT, keep_default_na=False)
    masks = list(dict.fromkeys(kept["mask"]))
    lines = [
        f"| pair | method | model | {' | '.join(masks)} | correlation, without its own mask | faithful |",
        f"|---|---|---|{'---|' * len(masks)}---|---|",
    ]
    for (pair, method, model), rows in kept.groupby(["pair", "method", "model"], sort=False):
        cells = []
        for mask in masks:
            row = rows[(rows["mask"] == mask) & (rows["quantity"] == SHOWN[0])].iloc[0]
            own = " (its own)" if row["method's own"] == "yes" else ""
            cells.append(f"{row['mean']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]{own}")
        others = rows[(rows["quantity"] == SHOWN[1]) & (rows["method's own"] != "yes")]
        chosen = " (chosen)" if rows["chosen"].iloc[0] == "yes" else ""
        faithful = rows[f"faithful in {model}"].iloc[0]
        correlation = pd.to_numeric(others["mean"]).mean()
        lines.append(
            f"| {pair} | `{method}`{chosen} | {model} | {' | '.join(cells)} | {correlation:+.2f} | {faithful} |"
        )
    return "\n".join(lines) + "\n"


def write() -> None:
    """Put the table into the page, between its two marks."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(before + BEGIN + "\n" + table() + "\n" + END + rest.partition(END)[2], encoding="utf-8")


if __name__ == "__main__":
    given = dict(each.split("=", 1) for each in sys.argv[1:])
    if given:
        keep({name: Path(folder) for name, folder in given.items()})
    write()
