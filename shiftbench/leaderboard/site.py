"""The leaderboard's folder: made whole beside its place, then put there in one step.

A folder that holds anything but an earlier leaderboard is refused, because the new one takes its place.
"""

from __future__ import annotations

import ctypes
import datetime
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from shiftbench.errors import InputError
from shiftbench.leaderboard import files
from shiftbench.leaderboard.board import Board
from shiftbench.leaderboard.framed import framed
from shiftbench.leaderboard.page import Place, page
from shiftbench.leaderboard.view import Names, lines, many, named
from shiftbench.readers import file_bytes, json_value
from shiftbench.system.files import new_mode, temporary_folder, write_failure

DATA = "leaderboard.json"
EXCHANGE, HERE = 2, -100  # renameat2's RENAME_EXCHANGE and AT_FDCWD


def write_folder(board: Board, reports: Mapping[str, bytes], folder: Path) -> Path:
    """The path of folder/leaderboard.html, written with its reports, bases' pages and data files. reports: by run id.

    Raises InputError where the folder cannot be written, or holds something else.
    """
    return _write(board, reports, folder, "leaderboard.html")


def write_site(board: Board, reports: Mapping[str, bytes], folder: Path) -> Path:
    """As write_folder, with index.html as the page, for a web server to serve."""
    return _write(board, reports, folder, "index.html")


def check(folder: Path, option: str) -> None:
    """Raise InputError where the folder cannot be put in place, before any run is read. option: that named it."""
    try:
        if folder.is_symlink() or folder.is_mount() or (folder.exists() and not folder.is_dir()):
            raise InputError(f"{option}={folder} is not a plain folder, which can be swapped; choose {option}=DIR")
        if folder.is_dir() and any(folder.iterdir()) and not _is_ours(folder / DATA):
            raise InputError(
                f"{option}={folder} holds files that are no leaderboard's, and would lose them; choose a new or an "
                f"empty folder with {option}=DIR"
            )
        parent = next(above for above in folder.parents if above.exists())
        with temporary_folder(parent, _prefix(folder)):
            pass
    except OSError as error:
        raise InputError(
            f"{option}={folder} cannot be written: {error.strerror}; the folder around it must be writable too: "
            f"the leaderboard is made there, then put in place"
        ) from None


def _is_ours(data: Path) -> bool:
    try:
        found = json_value(file_bytes(data, DATA))
    except (OSError, InputError):
        return False
    return isinstance(found, dict) and found.get("schema") == files.SCHEMA


def _write(board: Board, reports: Mapping[str, bytes], folder: Path, home: str) -> Path:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with temporary_folder(folder.parent, _prefix(folder)) as part:
            _fill(board, reports, part, home)
            part.chmod(_mode(folder))  # mkdtemp's is for us alone
            _swap(part, folder)
    except OSError as error:
        needed = sum(map(len, reports.values()))
        raise InputError(
            f"the leaderboard could not be written to {folder}: {write_failure(error, folder.parent, needed)}"
        ) from None
    return folder / home


def _prefix(folder: Path) -> str:
    """How the temporary folders of a leaderboard begin, beside its place."""
    return f".{folder.name[:100]}.part-"


def _mode(folder: Path) -> int:
    """Permissions of the folder that is there; those of a new one where there is none."""
    if folder.is_dir():
        return folder.stat().st_mode & 0o7777
    return new_mode(0o777)


def _fill(board: Board, reports: Mapping[str, bytes], folder: Path, home: str) -> None:
    made = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    names = named(board.rows)
    shown = lines(board.rows, board.columns, names, reports)
    bases = many(board, names)
    texts = {
        home: page(board, shown, Place("", home, None, bases), made),
        "leaderboard.md": files.as_markdown(board, shown),
        "leaderboard.csv": files.as_csv(board, shown),
        DATA: files.as_json(board, shown, made),
        **_base_pages(board, names, reports, home, made),
    }
    contents = {name: text.encode("utf-8", "backslashreplace") for name, text in texts.items()}
    for entry in board.rows:
        if entry.run_id in reports:
            shown_in = framed(reports[entry.run_id], entry.pair["name"], home)
            contents[f"reports/{names.stems[entry.run_id]}.html"] = shown_in.encode("utf-8", "backslashreplace")
    for name, content in contents.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)


def _base_pages(board: Board, names: Names, reports: Mapping[str, bytes], home: str, made: str) -> dict[str, str]:
    pages = {}
    bases = many(board, names)
    for base in bases:
        rows = [entry for entry in board.rows if entry.pair["base_weights"] == base.identity]
        shown = lines(rows, board.columns, names, reports)
        pages[f"bases/{base.stem}.html"] = page(board, shown, Place("../", home, base, bases), made)
    return pages


def _swap(part: Path, folder: Path) -> None:
    """Put part where folder is. Where the system can exchange two names, no reader ever finds nothing there.

    What was there is then under the other name, for the caller to remove.
    """
    if not folder.exists():
        part.rename(folder)
    elif not _exchanged(part, folder):
        old = part.with_name(f"{part.name}.old")
        folder.rename(old)
        part.rename(folder)
        old.rename(part)


def _exchanged(one: Path, other: Path) -> bool:
    if not sys.platform.startswith("linux"):
        return False
    call = getattr(ctypes.CDLL(None), "renameat2", None)
    return call is not None and call(HERE, os.fsencode(one), HERE, os.fsencode(other), EXCHANGE) == 0
