"""Scores and tables as files, and as what the terminal prints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from shiftbench.contracts.result import Result, Score
from shiftbench.report.text import file_name, number, p_value, title, visible


def write_tables(results: Sequence[Result], folder: Path) -> list[Path]:
    """Paths of the CSV files written, folder/tables/<finding>.<table>.csv, in UTF-8, in full precision.

    A lone surrogate, which UTF-8 cannot hold, is written as its backslash escape.
    """
    target = folder / "tables"
    target.mkdir(parents=True, exist_ok=True)
    paths = []
    for result in results:
        for name, table in result.tables.items():
            path = target / f"{table_name(result.finding, name)}.csv"
            text = with_index(table).to_csv(index=False, lineterminator="\n")
            path.write_bytes(text.encode("utf-8", errors="backslashreplace"))
            paths.append(path)
    return paths


def table_name(finding: str, table: str) -> str:
    """The stem of a table's file."""
    return f"{file_name(finding)}.{file_name(table)}"


def with_index(table: pd.DataFrame) -> pd.DataFrame:
    """The table with a named index as columns; an index without a name is only a row number."""
    return table.reset_index() if any(name is not None for name in table.index.names) else table


def score_table(results: Sequence[Result]) -> Table:
    """The scores of all findings as a table for the terminal; headline scores in bold."""
    table = Table(
        box=SIMPLE_HEAD,
        caption="positive: tuning moved the model the way the finding says",
    )
    table.add_column("score", overflow="fold")
    for column in ("value", "interval", "p", "n"):
        table.add_column(column, justify="right", no_wrap=True)
    for result in results:
        table.add_row(Text(title(result.finding), style="cyan"))
        for i, score in enumerate(result.scores):
            style = "bold" if score.name == result.headline else ""
            # Text, not strings: a name is never markup.
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
