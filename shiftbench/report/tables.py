"""The tables of findings as CSV files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from shiftbench.contracts.result import Result
from shiftbench.report.text import file_name


def write_tables(results: Sequence[Result], folder: Path) -> list[Path]:
    """Write every table to folder/tables/STEM.csv, and return the paths; STEM is `file_stem` of finding and table.

    An index that has a name is written as the first columns. Numbers have full precision. The files are UTF-8; a lone
    surrogate, which UTF-8 cannot hold, is written as its backslash escape.
    """
    target = folder / "tables"
    target.mkdir(parents=True, exist_ok=True)
    paths = []
    for result in results:
        for name, table in result.tables.items():
            path = target / f"{file_stem(result.finding, name)}.csv"
            text = with_index(table).to_csv(index=False, lineterminator="\n")
            path.write_bytes(text.encode("utf-8", errors="backslashreplace"))
            paths.append(path)
    return paths


def file_stem(finding: str, item: str) -> str:
    """The name, without its ending, of the file that holds a table or a figure of a finding: FINDING.ITEM."""
    return f"{file_name(finding)}.{file_name(item)}"


def with_index(table: pd.DataFrame) -> pd.DataFrame:
    """The table with its index as the first columns, where the index has a name.

    An index without a name is only a row number; such a table comes back unchanged, and its index is not written.
    """
    return table.reset_index() if any(name is not None for name in table.index.names) else table
