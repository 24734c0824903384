"""The board as data files: JSON with everything, CSV for spreadsheets, Markdown for a README."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from shiftbench.contracts.result import Score
from shiftbench.leaderboard.board import Board, count_reasons
from shiftbench.leaderboard.view import Cell, Line
from shiftbench.report.intervals import interval_text
from shiftbench.report.page import model_name
from shiftbench.report.text import title, visible

SCHEMA = "shiftbench/leaderboard/1"
# A sign that begins a formula, at the start of a text or after a character at which a spreadsheet may split cells.
# Spreadsheets also take the full-width forms of the signs.
FORMULA = re.compile("(^|[;\t\r\n])(\\s*[=+\\-@\uff1d\uff0b\uff0d\uff20\t\r])")


def as_json(board: Board, lines: Sequence[Line], written_at: str) -> str:
    """The text of leaderboard.json: the board's setting, columns, rows with all scores of each run, and left-out runs.

    lines: the board's rows, in the order of the table. written_at: when the leaderboard was written, as text. Numbers
    have full precision, and names are unchanged.
    """
    document = {
        "schema": SCHEMA,
        "made": written_at,
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
    """The text of leaderboard.csv: a heading and one row for each pair, with the numbers of each headline score.

    lines: the board's rows, in the order of the table. A text that a spreadsheet would run as a formula gets an
    apostrophe in front. A number that a pair does not have is an empty cell.
    """
    head = ["pair", "base", "tuned", "family", "size"]
    parts = ("rank", "rank_last", "value", "low", "high", "p", "n")
    for column in board.columns:
        head += [f"{column.finding}.{column.headline}.{part}" for part in parts]
        if column.over_null:
            head += [f"{column.finding}.{column.null_name}.{part}" for part in parts[2:]]
    head += ["flags", "report", "run", "recorded", "shiftbench", "base_weights", "tuned_weights"]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([_without_formula(name) for name in head])
    writer.writerows([_without_formula(value) for value in _values(line)] for line in lines)
    return buffer.getvalue()


def as_markdown(board: Board, lines: Sequence[Line]) -> str:
    """The text of leaderboard.md: a table with one row for each pair, and the number of runs left out for each reason.

    lines: the board's rows, in the order of the table. The cell of a finding has the rank, the value and the interval
    of its headline score.
    """
    has_flags = any(line.entry.flags for line in lines)
    head = ["pair", "base → tuned", "size"]
    for column in board.columns:
        head += [
            title(column.finding) + (" (a check)" if column.level else ""),
            *(["over null"] if column.over_null else []),
        ]
    head += ["flags"] if has_flags else []
    rows = [
        [
            f"[{_escaped(line.entry.pair['name'])}](reports/{line.stem}.html)" if line.has_report
            else _escaped(line.entry.pair["name"]),
            " → ".join(_escaped(model_name(line.entry.pair[side])) for side in ("base", "tuned")),
            _escaped(line.entry.pair.get("size", "")),
            *(text for cell in line.cells for text in _markdown_cells(cell)),
            *([_escaped(", ".join(line.entry.flags))] if has_flags else []),
        ]
        for line in lines
    ]  # fmt: skip
    table = [_markdown_row(list(map(_escaped, head))), _markdown_row(["---"] * len(head)), *map(_markdown_row, rows)]
    legend = (
        "Each cell has a rank, a value and its confidence interval. A rank is 1 + the number of pairs whose whole "
        "interval lies above."
    )
    left_out = [f"- {count} left out: {_escaped(reason)}" for reason, count in count_reasons(board.left_out).items()]
    return "\n".join(["# Leaderboard", "", legend, "", *table, *(["", *left_out] if left_out else [])]) + "\n"


def _row(line: Line) -> dict[str, Any]:
    """The element of "rows" in leaderboard.json for one line. "ranks" has only the findings with a rank."""
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
    """The path of the line's report, relative to the leaderboard's folder; '' where the line has no report."""
    return f"reports/{line.stem}.html" if line.has_report else ""


def _values(line: Line) -> Iterator[Any]:
    """The values of a line in the order of `as_csv`'s columns."""
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


def _without_formula(value: Any) -> Any:
    """The value, with an apostrophe before every sign of a text that could begin a formula; no text: unchanged.

    A spreadsheet would otherwise run a formula that is part of a model's name. Depending on its country settings, a
    spreadsheet splits cells at ';', tab or line break too, so a sign after one of these gets an apostrophe as well.
    """
    return value if not isinstance(value, str) else FORMULA.sub(r"\1'\2", value)


def _markdown_cells(cell: Cell) -> Iterator[str]:
    score = cell.score
    shown = "" if score is None else (interval_text(score) if score.n else "no observations")
    yield _escaped(f"{cell.rank.first}. {shown}" if cell.rank else shown)
    if cell.column.over_null:
        yield _escaped(interval_text(cell.over_null)) if cell.over_null else ""


def _escaped(text: str) -> str:
    """The text on one line, with what Markdown would interpret escaped."""
    escaped = re.sub(r"([\\`*_\[\]<>|~&#!:@$])", r"\\\1", visible(text))
    return re.sub(r"(?i)\b(www)\.", r"\1\\.", escaped)  # GitHub makes links of names that begin with www.


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
