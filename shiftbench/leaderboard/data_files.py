"""The board as data files: JSON with every score, CSV for spreadsheets, Markdown for a README."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from shiftbench.leaderboard.board import Board, count_reasons
from shiftbench.leaderboard.multiplicity import METHOD
from shiftbench.leaderboard.page import correction_text, group_folders
from shiftbench.leaderboard.view import Cell, Line, correction
from shiftbench.report.intervals import interval_text
from shiftbench.report.page import model_name
from shiftbench.report.text import in_markdown
from shiftbench.verdicts.decision import ALPHA

SCHEMA = "shiftbench/leaderboard/2"
OURS = (SCHEMA, "shiftbench/leaderboard/1")  # schemas of leaderboard.json in folders that may be replaced
PARTS = ("verdict", "rank", "rank_last", "headline", "value", "low", "high", "n", "p_uncorrected", "p_board")
# A sign that begins a formula, with the white space before it, at the start of a text or after a character at which a
# spreadsheet may split cells. The full-width forms of the signs, tab and carriage return count as such signs too.
FORMULA = re.compile("(^|[;\t\r\n])(\\s*[=+\\-@\uff1d\uff0b\uff0d\uff20\t\r])")


def as_json(board: Board, lines: Sequence[Line], written_at: str) -> str:
    """The text of leaderboard.json: the board's rows with all scores of each run, and what they were made from.

    That is the setting, the correction, the columns, the runs that were left out, and all groups of comparable runs.
    lines: the board's rows, in the order of the table. written_at: when the leaderboard was written, as text. Numbers
    have full precision, and names are as in scores.json.
    """
    found, folders = correction(board), group_folders(board)
    document = {
        "schema": SCHEMA,
        "made": written_at,
        "group": board.group.key,
        "title": board.group.title,
        "setting": dict(board.setting),
        "correction": {"method": METHOD, "alpha": ALPHA, **vars(found)},
        "columns": [
            {
                "column": column.key, "finding": column.finding, "headline": column.headline, "label": column.label,
                "claim": column.claim, "check": column.check,
            }
            for column in board.columns
        ],
        "rows": [_row(line) for line in lines],
        "left_out": [{"run": item.run_id, "pair": item.pair, "reason": item.reason} for item in board.left_out],
        "groups": [
            {
                "group": group.key, "title": group.title, "pairs": group.pairs, "recorded": group.recorded,
                "folder": folders.get(group.key),
            }
            for group in board.groups
        ],
    }  # fmt: skip
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


def as_csv(board: Board, lines: Sequence[Line]) -> str:
    """The text of leaderboard.csv: a heading and one row for each pair, with the PARTS of each column.

    lines: the board's rows, in the order of the table. A text that a spreadsheet could run as a formula gets an
    apostrophe (`_without_formula`). A number that a pair does not have is an empty cell.
    """
    head = ["pair", "base", "tuned", "family", "size"]
    head += [f"{column.key}.{part}" for column in board.columns for part in PARTS]
    head += ["flags", "report", "run", "recorded", "shiftbench", "base_weights", "tuned_weights"]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([_without_formula(name) for name in head])
    writer.writerows([_without_formula(value) for value in _values(line)] for line in lines)
    return buffer.getvalue()


def as_markdown(board: Board, lines: Sequence[Line]) -> str:
    """The text of leaderboard.md: a table with one row for each pair, and the number of runs left out for each reason.

    lines: the board's rows, in the order of the table. The cells of the columns are `cell_text`. Flags have a column
    where any of the lines has one.
    """
    has_flags = any(line.entry.flags for line in lines)
    head = ["pair", "base → tuned", "size"]
    head += [column.label + (" (a check)" if column.check else "") for column in board.columns]
    head += ["flags"] if has_flags else []
    rows = [
        [
            f"[{in_markdown(line.entry.pair['name'])}](reports/{line.stem}.html)" if line.has_report
            else in_markdown(line.entry.pair["name"]),
            " → ".join(in_markdown(model_name(line.entry.pair[side])) for side in ("base", "tuned")),
            in_markdown(line.entry.pair.get("size", "")),
            *(in_markdown(cell_text(cell)) for cell in line.cells),
            *([in_markdown("; ".join(line.entry.warnings))] if has_flags else []),
        ]
        for line in lines
    ]  # fmt: skip
    table = [_markdown_row(list(map(in_markdown, head))), _markdown_row(["---"] * len(head)), *map(_markdown_row, rows)]
    legend = (
        "Each cell has a word, a value and its confidence interval. Only supported pairs have a rank: 1 + the number "
        f"of supported pairs whose whole interval lies above. {correction_text(correction(board))}"
    ).rstrip()
    left_out = [f"- {count} left out: {in_markdown(reason)}" for reason, count in count_reasons(board.left_out).items()]
    heading = f"# Leaderboard: {in_markdown(board.group.title)}"
    return "\n".join([heading, "", legend, "", *table, *(["", *left_out] if left_out else [])]) + "\n"


def cell_text(cell: Cell) -> str:
    """A cell in one line, for example 'supported, rank 1: +0.307 [+0.193, +0.417]'.

    Parts that the cell does not have are left out. A score with n = 0 is shown as 'no observations'.
    """
    standing = cell.standing
    word = f"{standing.word}, rank {cell.rank.first}" if cell.rank else standing.word
    said = "; ".join(part for part in (word, standing.phrase) if part)
    score = standing.score
    numbers = "" if score is None else (interval_text(score) if score.n else "no observations")
    return ": ".join(part for part in (said, numbers) if part)


def _row(line: Line) -> dict[str, Any]:
    """The element of "rows" in leaderboard.json for one line.

    "verdicts" has every column but checks, and "ranks" the columns in which the pair has a rank, both by Column.key.
    """
    entry = line.entry
    return {
        "pair": dict(entry.pair),
        "versions": dict(entry.versions),
        "flags": list(entry.flags),
        "run": entry.run_id,
        "recorded": entry.recorded,
        "report": _report(line) or None,
        "verdicts": {cell.column.key: _verdict(cell) for cell in line.cells if not cell.column.check},
        "ranks": {
            cell.column.key: {"first": cell.rank.first, "last": cell.rank.last} for cell in line.cells if cell.rank
        },
        "scores": [vars(score) for score in entry.scores],
    }


def _verdict(cell: Cell) -> dict[str, Any]:
    """What the board says in one cell: `Standing`, whose score is taken apart into numbers.

    Without a score, "headline" is null and there are no numbers. "p_uncorrected" and "p_board" are null where the board
    did not test the claim.
    """
    standing = cell.standing
    score = standing.score
    numbers = {} if score is None else {name: getattr(score, name) for name in ("value", "low", "high", "n")}
    return {
        "word": standing.word, "phrase": standing.phrase, "headline": None if score is None else score.name, **numbers,
        "p_uncorrected": standing.p_alone, "p_board": standing.p_board, "reasons": list(standing.reasons),
    }  # fmt: skip


def _report(line: Line) -> str:
    """The path of the line's report, relative to the folder of its board; '' where the line has no report."""
    return f"reports/{line.stem}.html" if line.has_report else ""


def _values(line: Line) -> Iterator[Any]:
    """The values of a line in the order of `as_csv`'s columns."""
    pair = line.entry.pair
    yield from (pair["name"], pair["base"], pair["tuned"], pair.get("family", ""), pair.get("size", ""))
    for cell in line.cells:
        standing, score = cell.standing, cell.standing.score
        yield "; ".join(part for part in (standing.word, standing.phrase) if part)
        yield from (cell.rank.first, cell.rank.last) if cell.rank else ("", "")
        yield from ("",) * 5 if score is None else (score.name, score.value, score.low, score.high, score.n)
        yield from (standing.p_alone, standing.p_board)
    yield from ("; ".join(line.entry.warnings), _report(line), line.entry.run_id, line.entry.recorded)
    yield from (line.entry.versions.get("shiftbench", ""), pair["base_weights"], pair["tuned_weights"])


def _without_formula(value: Any) -> Any:
    """The value, where a text gets an apostrophe before every sign that could begin a formula.

    The apostrophe stands before the white space in front of the sign. A value that is no text is returned as it is.

    A spreadsheet would otherwise run a formula that is part of a model's name. Depending on its country settings, a
    spreadsheet splits cells at ';', tab or line break too, so a sign after one of these gets an apostrophe as well.
    """
    return value if not isinstance(value, str) else FORMULA.sub(r"\1'\2", value)


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
