"""The leaderboard's folder: pages, reports and data files. It is written beside its place and then put there.

The new folder replaces the old one, and everything in the old one is lost. Therefore `check` refuses a folder that
holds anything beside an earlier leaderboard.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path

from shiftbench.errors import InputError
from shiftbench.leaderboard import data_files
from shiftbench.leaderboard.board import Board
from shiftbench.leaderboard.folder_swap import swap
from shiftbench.leaderboard.page import Location, group_folders, page
from shiftbench.leaderboard.report_frame import framed_report
from shiftbench.leaderboard.view import Names, bases_with_pages, lines, named
from shiftbench.readers import file_bytes, json_value
from shiftbench.system.files import new_mode, temporary_folder, write_failure

DATA = "leaderboard.json"
# What a leaderboard's folder holds at its top.
CONTENT = frozenset(
    (DATA, "leaderboard.html", "index.html", "leaderboard.md", "leaderboard.csv", "groups", "bases", "reports")
)


def write_folder(boards: Sequence[Board], reports: Mapping[str, bytes], folder: Path) -> Path:
    """Replace the folder by one with this leaderboard, and return the path of its first page, folder/leaderboard.html.

    The folder itself gets the files of the first board: also a page for each base model with several pairs, the
    reports, and leaderboard.json, .csv and .md. Every other board gets the same files in a folder below groups/.
    boards: as `build` gives them. reports: the bytes of report.html by run id; a row without one is shown without a
    report. folder: what is in it is removed, so `check` must have passed.
    Raises InputError where the folder cannot be written.
    """
    return _write(boards, reports, folder, "leaderboard.html")


def write_site(boards: Sequence[Board], reports: Mapping[str, bytes], folder: Path) -> Path:
    """Replace the folder by one with this leaderboard for a web server, and return the path of index.html.

    The only difference to `write_folder` is that the first page of each board is index.html, not leaderboard.html.
    """
    return _write(boards, reports, folder, "index.html")


def check(folder: Path, option: str) -> None:
    """Raise InputError where the folder cannot be replaced by a leaderboard. Call it before any run is read.

    Refused are: a link, a mount point or a file; a folder that holds a file or folder, but no leaderboard.json of an
    earlier leaderboard; a folder that holds, beside such a leaderboard.json, a file or folder that is not in CONTENT;
    and a folder whose parent (where that is missing, the nearest folder above that exists) cannot be written, because
    the new folder is written beside the old one. A folder that is missing or empty is not refused for its content.
    option: the option of the command line that names the folder, for the message.
    """
    try:
        if folder.is_symlink() or folder.is_mount() or (folder.exists() and not folder.is_dir()):
            raise InputError(
                f"{option}={folder} is not a plain folder, and only a plain folder can be replaced in one step; "
                f"choose {option}=DIR"
            )
        names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        replaceable = CONTENT if _is_leaderboard(folder / DATA) else frozenset()
        foreign = [name for name in names if name not in replaceable]
        if foreign:
            raise InputError(
                f"{option}={folder} holds files that are not a leaderboard's, such as {foreign[0]!r}, and they would "
                f"be lost; choose a new or an empty folder with {option}=DIR"
            )
        parent = next(above for above in folder.parents if above.exists())
        with temporary_folder(parent, _temporary_prefix(folder)):
            pass
    except OSError as error:
        raise InputError(
            f"{option}={folder} cannot be written: {error.strerror}; the folder around it must be writable too, "
            f"because the leaderboard is written there before it is put in place"
        ) from None


def _is_leaderboard(data: Path) -> bool:
    """Whether this file exists and is a leaderboard.json whose schema is one of OURS."""
    try:
        found = json_value(file_bytes(data, DATA))
    except (OSError, InputError):
        return False
    return isinstance(found, dict) and found.get("schema") in data_files.OURS


def _write(boards: Sequence[Board], reports: Mapping[str, bytes], folder: Path, home: str) -> Path:
    """Write the leaderboard to a temporary folder beside `folder`, and put it in the place of `folder` (`swap`).

    home: file name of the first page. Raises InputError where the folder cannot be written. Returns the path of the
    first page.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with temporary_folder(folder.parent, _temporary_prefix(folder)) as part:
            written_at = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
            for board in boards:
                _fill(board, reports, part, home, written_at)
            part.chmod(_mode(folder))  # a temporary folder is readable by its owner alone
            swap(part, folder)
    except OSError as error:
        needed = sum(map(len, reports.values()))
        raise InputError(
            f"the leaderboard could not be written to {folder}: {write_failure(error, folder.parent, needed)}"
        ) from None
    return folder / home


def _temporary_prefix(folder: Path) -> str:
    """The beginning of the names of the temporary folders beside a leaderboard."""
    return f".{folder.name[:100]}.part-"


def _mode(folder: Path) -> int:
    """The permission bits that the new folder gets: those of `folder`, or of any new folder where that is missing."""
    if folder.is_dir():
        return folder.stat().st_mode & 0o7777
    return new_mode(0o777)


def _fill(board: Board, reports: Mapping[str, bytes], folder: Path, home: str, written_at: str) -> None:
    """Write all files of one board, the pages of its runs' reports included.

    reports: the bytes of report.html by run id. folder: the leaderboard's folder; the board's files are written to the
    folder in it that `group_folders` names. home: file name of the board's first page. written_at: the time
    that the pages and leaderboard.json show, as "YYYY-MM-DD HH:MM UTC".
    """
    below = group_folders(board)[board.group.key]
    folder = folder / below
    folder.mkdir(parents=True, exist_ok=True)
    names = named(board.rows)
    shown = lines(board, board.rows, names, reports)
    bases = bases_with_pages(board, names)
    site = "../" * below.count("/")
    texts = {
        home: page(board, shown, Location("", site, home, None, bases), written_at),
        "leaderboard.md": data_files.as_markdown(board, shown),
        "leaderboard.csv": data_files.as_csv(board, shown),
        DATA: data_files.as_json(board, shown, written_at),
        **_base_pages(board, names, reports, site, home, written_at),
    }
    contents = {name: text.encode("utf-8", "backslashreplace") for name, text in texts.items()}
    for entry in board.rows:
        if entry.run_id in reports:
            text = framed_report(reports[entry.run_id], entry.pair["name"], home)
            contents[f"reports/{names.stems[entry.run_id]}.html"] = text.encode("utf-8", "backslashreplace")
    for name, content in contents.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)


def _base_pages(
    board: Board, names: Names, reports: Mapping[str, bytes], site: str, home: str, written_at: str
) -> dict[str, str]:
    """The HTML of a page for each base model with several pairs, by the page's path in the board's folder.

    The pairs of a page are ranked among themselves. names: `named` of all rows of the board. site: the relative path
    from the board's folder to the leaderboard's. reports, home, written_at: as in `_fill`.
    """
    pages = {}
    bases = bases_with_pages(board, names)
    for base in bases:
        rows = [entry for entry in board.rows if entry.pair["base_weights"] == base.identity]
        shown = lines(board, rows, names, reports)
        pages[f"bases/{base.stem}.html"] = page(
            board, shown, Location("../", f"../{site}", home, base, bases), written_at
        )
    return pages
