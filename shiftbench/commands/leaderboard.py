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
from shiftbench.leaderboard.data_files import cell_text
from shiftbench.leaderboard.view import correction, lines, named
from shiftbench.readers import path_of
from shiftbench.report.text import visible
from shiftbench.tracking import RUNS, find_runs, without_secrets

NOTE_WIDTH = 400  # most characters of a reason on standard output; the page and leaderboard.json have it whole
PIPE_WIDTH = 140  # columns of the table where the output is no terminal


def main(arguments: list[str]) -> int:
    """Read the tracked runs, write the leaderboard's pages and files, and print the table of one group of runs.

    It is the group that the option `group` names, or the first in the order of `leaderboard.build`. The last line on
    standard output names the first page. Returns the exit code 0; raises InputError for bad input and where there is no
    run to show.
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
    boards = build(*gather(tracking, runs), group=config.group)
    board = boards[0]
    write = site.write_site if config.publish else site.write_folder
    page = write(boards, read_reports(tracking, [entry for each in boards for entry in each.rows]), folder)
    console = Console(file=sys.stdout)
    if not console.is_terminal:
        console = Console(file=sys.stdout, width=PIPE_WIDTH)
    console.print(_table(board))
    _say(f"{_count(board.rows, 'pair')} of {_count(runs, 'run')} in {without_secrets(tracking.address)}")
    _say(f"shown: {visible(board.group.title)}")
    others = len(board.groups) - 1
    if others:
        _say(f"other groups of comparable runs, which the page links: {others:,}")
    for line in _left_out(board):
        _say(line)
    _say(f"page: {page}")
    return 0


def _table(board: Board) -> Table:
    """A row for each pair, in the order of the page; a column for each claim and check.

    A cell has the word, the rank of a supported pair, the value and the interval.
    """
    caption = f"rank: 1 + the number of supported pairs whose whole interval lies above. {_correction(board)}"
    table = Table(box=SIMPLE_HEAD, caption=caption.rstrip())
    table.add_column("pair", overflow="fold")
    for column in board.columns:
        table.add_column(visible(column.label))
    for line in lines(board, board.rows, named(board.rows), {}):
        # As Text, because rich would read square brackets in a string as markup.
        cells = [cell_text(cell) or "-" for cell in line.cells]
        table.add_row(*(Text(visible(cell)) for cell in (line.entry.pair["name"], *cells)))
    return table


def _correction(board: Board) -> str:
    found = correction(board)
    if found.draws is None:
        return ""
    return (
        f"Words hold over all {_count(range(found.tests), 'tested claim')} of the board (Holm); a further one needs at "
        f"least {found.needed:,} null models."
    )


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
