"""The board as plain files: JSON in full, CSV for spreadsheets, Markdown for a README."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from shiftbench.contracts.result import Score
from shiftbench.leaderboard.board import Board, group_counts
from shiftbench.leaderboard.view import Cell, Line
from shiftbench.report.intervals import interval_text
from shiftbench.report.page import model_name
from shiftbench.report.text import title, visible

SCHEMA = "shiftbench/leaderboard/1"
FORMULA = re.compile("(^|[;\t\r\n])(\\s*[=+\\-@\uff1d\uff0b\uff0d\uff20\t\r])")  # full-width signs count too


def as_json(board: Board, lines: Sequence[Line], made: str) -> str:
    """Everything that the table shows and is made from, in full precision; names as they were given."""
    document = {
        "schema": SCHEMA,
        "made": made,
        "group": board.group,
        "setting": dict(board.setting),
        "columns": [
            {"finding": column.finding, "headline": column.headline, "check": column.level} for column in board.columns
        ],
        "rows": [_row(line) for line in lines],
        "left_out": [{"run": item.run_id, "pair": item.pair, "reason": item.reason} for item in board.left_out],
    }
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


def as_csv(board: Board, lines: Sequence[Line]) -> str:
    """A row a pair. A text that a spreadsheet would take for a formula has an apostrophe in front."""
    head = ["pair", "base", "tuned", "family", "size"]
    parts = ("rank", "rank_last", "value", "low", "high", "p", "n")
    for column in board.columns:
        head += [f"{column.finding}.{column.headline}.{part}" for part in parts]
        if column.over_null:
            head += [f"{column.finding}.{column.null_name}.{part}" for part in parts[2:]]
    head += ["flags", "report", "run", "recorded", "shiftbench", "base_weights", "tuned_weights"]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([_plain(name) for name in head])
    writer.writerows([_plain(value) for value in _values(line)] for line in lines)
    return buffer.getvalue()


def as_markdown(board: Board, lines: Sequence[Line]) -> str:
    """A table for a README: rank, value and interval of each headline, and what is left out."""
    wide = any(line.entry.flags for line in lines)
    head = ["pair", "base → tuned", "size"]
    for column in board.columns:
        head += [
            title(column.finding) + (" (a check)" if column.level else ""),
            *(["over null"] if column.over_null else []),
        ]
    head += ["flags"] if wide else []
    rows = [
        [
            f"[{_md(line.entry.pair['name'])}](reports/{line.stem}.html)" if line.has_report
            else _md(line.entry.pair["name"]),
            " → ".join(_md(model_name(line.entry.pair[side])) for side in ("base", "tuned")),
            _md(line.entry.pair.get("size", "")),
            *(text for cell in line.cells for text in _md_cells(cell)),
            *([_md(", ".join(line.entry.flags))] if wide else []),
        ]
        for line in lines
    ]  # fmt: skip
    table = [_md_row([_md(name) for name in head]), _md_row(["---"] * len(head)), *(_md_row(row) for row in rows)]
    told = "Rank, value and interval. A rank is 1 + the number of pairs whose whole interval lies above."
    left = [f"- {count} left out: {_md(reason)}" for reason, count in group_counts(board.left_out).items()]
    return "\n".join(["# Leaderboard", "", told, "", *table, *(["", *left] if left else [])]) + "\n"


def _row(line: Line) -> dict[str, Any]:
    entry = line.entry
    return {
        "pair": dict(entry.pair),
        "versions": dict(entry.versions),
        "flags": list(entry.flags),
        "run": entry.run_id,
        "recorded": line.recorded,
        "report": _report(line) or None,
        "ranks": {
            cell.column.finding: {"first": cell.rank.first, "last": cell.rank.last} for cell in line.cells if cell.rank
        },
        "scores": [vars(score) for score in entry.scores],
    }


def _report(line: Line) -> str:
    return f"reports/{line.stem}.html" if line.has_report else ""


def _values(line: Line) -> Iterator[Any]:
    pair = line.entry.pair
    yield from (pair["name"], pair["base"], pair["tuned"], pair.get("family", ""), pair.get("size", ""))
    for cell in line.cells:
        yield from (cell.rank.first, cell.rank.last) if cell.rank else ("", "")
        yield from _numbers(cell.score)
        if cell.column.over_null:
            yield from _numbers(cell.over_null)
    yield from (", ".join(line.entry.flags), _report(line), line.entry.run_id, line.recorded)
    yield from (line.entry.versions.get("shiftbench", ""), pair["base_weights"], pair["tuned_weights"])


def _numbers(score: Score | None) -> tuple[Any, ...]:
    return ("",) * 5 if score is None else (score.value, score.low, score.high, score.p, score.n)


def _plain(value: Any) -> Any:
    """A number or a harmless text as it is.

    An apostrophe goes before each sign that begins a formula, at the start of the text and after what a spreadsheet set
    up for another country takes for the end of a cell: it would else run a formula that is part of a model's name.
    """
    return value if not isinstance(value, str) else FORMULA.sub(r"\1'\2", value)


def _md_cells(cell: Cell) -> Iterator[str]:
    score = cell.score
    shown = "" if score is None else (interval_text(score) if score.n else "nothing to compare")
    yield _md(f"{cell.rank.first}. {shown}" if cell.rank else shown)
    if cell.column.over_null:
        yield _md(interval_text(cell.over_null)) if cell.over_null else ""


def _md(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    escaped = re.sub(r"([\\`*_\[\]<>|~&#!:@$])", r"\\\1", visible(text))
    return re.sub(r"(?i)\b(www)\.", r"\1\\.", escaped)  # GitHub makes links of such names


def _md_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
