"""Text files: those that ship with the package, and those that a user names."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from typing import Any

from shiftbench.errors import InputError
from shiftbench.readers import file_bytes, path_of, reading, unpacked


def packaged_lines(name: str) -> list[str]:
    """Lines of a packaged text file, named by its path below shiftbench/data."""
    return _lines((files("shiftbench.data") / name).read_bytes())


def user_bytes(path: str, option: str) -> bytes:
    """Bytes of a file that a user named, unpacked where its name ends in .gz.

    option: how the user named it, for the message. Raises InputError where the file cannot be read.
    """
    source, what = path_of(path, option), f"{option}={path}"
    with reading(f"{what}: cannot read the file"):
        content = file_bytes(source, what)
        return unpacked(content, what) if source.suffix == ".gz" else content


def user_lines(path: str, option: str) -> list[str]:
    """Lines of a UTF-8 text file that a user named. Raises InputError where it cannot be read as such."""
    try:
        return _lines(user_bytes(path, option))
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InputError(f"{option}={path}, line {line}: not UTF-8 text; convert the file to UTF-8") from error


def json_rows(
    path: str, option: str, read_line: Callable[[str], tuple[dict[str, Any], Any]]
) -> list[tuple[dict[str, Any], Any]]:
    """What read_line gives for each line of a user's JSON-lines file: a row, whose "id" no other has, and what it says.

    Raises InputError, which names the file and the line, where one cannot be read or the file holds none.
    """
    rows, first_line = [], dict[str, int]()
    for number, line in enumerate(user_lines(path, option), start=1):
        if not line.strip():
            continue
        try:
            row, made = read_line(line)
        except InputError as error:
            raise InputError(f"{path}, line {number}: {error}") from None
        if row["id"] in first_line:
            raise InputError(f"{path}, line {number}: id {row['id']!r} is already that of line {first_line[row['id']]}")
        first_line[row["id"]] = number
        rows.append((row, made))
    if not rows:
        raise InputError(f"{path}: the file holds no line")
    return rows


def _lines(content: bytes) -> list[str]:
    # Not splitlines(): texts hold U+2028 and its like, which JSON leaves unescaped.
    lines = content.decode("utf-8-sig").split("\n")
    return lines[:-1] if lines[-1] == "" else lines
