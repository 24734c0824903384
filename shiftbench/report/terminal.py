"""The scores of a run as the table that the terminal shows."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from shiftbench.contracts.result import Result, Score
from shiftbench.report.numbers import number, p_value
from shiftbench.report.text import title, visible


def score_table(results: Sequence[Result]) -> Table:
    """A table with one row for each score, below a row with the title of its finding. Headline scores are bold."""
    table = Table(
        box=SIMPLE_HEAD,
        caption="A positive score: tuning moved the model in the direction that the finding describes.",
    )
    table.add_column("score", overflow="fold")
    for column in ("value", "interval", "p", "n"):
        table.add_column(column, justify="right", no_wrap=True)
    for result in results:
        table.add_row(Text(title(result.finding), style="cyan"))
        for i, score in enumerate(result.scores):
            style = "bold" if score.name == result.headline else ""
            # rich would read markup in a str, and names may look like markup, so cells are Text.
            table.add_row(
                *(Text(cell, style=style) for cell in _cells(score)),
                end_section=i == len(result.scores) - 1,
            )
    return table


def _cells(score: Score) -> tuple[str, ...]:
    interval = f"[{number(score.low, signed=True)}, {number(score.high, signed=True)}]"
    return (
        f"  {visible(score.name)}",
        number(score.value, signed=True),
        interval,
        p_value(score.p),
        f"{score.n:,}",
    )
