"""`shiftbench leaderboard`: writes the tracked runs as one table, to pages and files."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from hydra.utils import instantiate
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from shiftbench.config import composition, help_texts, literals
from shiftbench.config.overrides import read, refuse_without_effect
from shiftbench.leaderboard import Board, build, gather, read_reports, site
from shiftbench.leaderboard.board import count_reasons
from shiftbench.leaderboard.view import Cell, lines, named
from shiftbench.readers import path_of
from shiftbench.report.intervals import interval_text
from shiftbench.report.text import title, visible
from shiftbench.tracking import RUNS, find_runs, without_secrets

NOTE_WIDTH = 400  # characters of a reason on the terminal; the page and leaderboard.json have it whole
PIPE_WIDTH = 140  # columns of the table where the output is no terminal


def main(arguments: list[str]) -> int:
    """Read the tracked runs, write the leaderboard's pages and files, and print its table.

    The last line on standard output names the first page. Returns the exit code 0; raises InputError for bad input and
    where there is no run to show.
    """
    if {"-h", "--help"} & set(arguments):
        print(help_texts.options_help("shiftbench leaderboard [option=value ...]", "leaderboard"))
        return 0
    words = read(arguments, "leaderboard")
    config = composition.compose("leaderboard", words)
    if config.publish:
        refuse_without_effect(words, ("out",), "with publish=, which names the folder of the site")
    option = "publish" if config.publish else "out"
    folder = path_of(str(config.publish or config.out or Path(RUNS) / "leaderboard"), option).absolute()
    site.check(folder, option)
    tracking = instantiate(literals.instantiable(config.tracking))
    runs = find_runs(tracking)
    board = build(*gather(tracking, runs), group=config.group)
    write = site.write_site if config.publish else site.write_folder
    page = write(board, read_reports(tracking, board.rows), folder)
    console = Console(file=sys.stdout)
    if not console.is_terminal:
        console = Console(file=sys.stdout, width=PIPE_WIDTH)
    console.print(_table(board))
    _say(f"{_count(board.rows, 'pair')} of {_count(runs, 'run')} in {without_secrets(tracking.address)}")
    for line in _left_out(board):
        _say(line)
    _say(f"page: {page}")
    return 0


def _table(board: Board) -> Table:
    """A row for each pair, the best of the first finding first; a column for each finding's headline score.

    A cell has the rank, the value and the interval.
    """
    table = Table(box=SIMPLE_HEAD, caption="rank: 1 + the number of pairs whose whole interval lies above")
    table.add_column("pair", overflow="fold")
    for column in board.columns:
        table.add_column(title(column.finding))
    for line in lines(board.rows, board.columns, named(board.rows), {}):
        # As Text, because rich would read square brackets in a string as markup.
        table.add_row(*(Text(cell) for cell in (visible(line.entry.pair["name"]), *map(_cell, line.cells))))
    return table


def _cell(cell: Cell) -> str:
    if cell.score is None or not cell.score.n:
        return "-"
    return f"{cell.rank.first}.  {interval_text(cell.score)}" if cell.rank else interval_text(cell.score)


def _left_out(board: Board) -> Sequence[str]:
    reasons = count_reasons(board.left_out)
    return [
        f"left out: {count} {'run' if count == 1 else 'runs'}: {visible(textwrap.shorten(reason, NOTE_WIDTH))}"
        for reason, count in reasons.items()
    ]


def _count(items: Sequence[object], noun: str) -> str:
    return f"{len(items):,} {noun}{'' if len(items) == 1 else 's'}"


def _say(line: str) -> None:
    print(line.encode("utf-8", "backslashreplace").decode(), flush=True)
