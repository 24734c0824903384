"""Reading text files: those in this package, and those that a user names."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from typing import Any

from shiftbench.errors import InputError
from shiftbench.readers.boundary import reading
from shiftbench.readers.files import file_bytes, path_of, unpacked


def packaged_lines(name: str) -> list[str]:
    """The lines of a text file in this package, split as `_lines` does. name: its path below shiftbench/data."""
    return _lines((files("shiftbench.data") / name).read_bytes())


def user_bytes(path: str, option: str) -> bytes:
    """The content of a file that a user named, decompressed where its name ends in .gz.

    path: as the user wrote it; `~` is expanded. option: the name of the option that names the file, for messages.
    Raises InputError where the file cannot be read or decompressed.
    """
    source, what = path_of(path, option), f"{option}={path}"
    with reading(f"{what}: cannot read the file"):
        content = file_bytes(source, what)
        return unpacked(content, what) if source.suffix == ".gz" else content


def user_lines(path: str, option: str) -> list[str]:
    """The lines of a UTF-8 text file that a user named, decompressed where its name ends in .gz.

    The lines are split as `_lines` does. path: as the user wrote it; `~` is expanded. option: the name of the option
    that names the file, for messages. Raises InputError where the file cannot be read or decompressed, or is not UTF-8.
    """
    try:
        return _lines(user_bytes(path, option))
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InputError(f"{option}={path}, line {line}: not UTF-8 text; convert the file to UTF-8") from error


def json_rows(
    path: str, option: str, read_line: Callable[[str], tuple[dict[str, Any], Any]]
) -> list[tuple[dict[str, Any], Any]]:
    """What read_line returns for each line of a user's JSON-lines file, in the order of the lines.

    read_line: a function from the text of a line to (the row as a dict with an "id", the value that was read from it);
    it raises InputError for a bad line. Blank lines are skipped. option: the name of the option that names the file.
    Raises InputError where the file cannot be read (see user_lines), where a line is bad or repeats an id (the message
    names the file and the line), and where the file holds no line that is not blank.
    """
    rows, first_line = [], dict[str, int]()
    for number, line in enumerate(user_lines(path, option), start=1):
        if not line.strip():
            continue
        try:
            row, value = read_line(line)
        except InputError as error:
            raise InputError(f"{path}, line {number}: {error}") from None
        if row["id"] in first_line:
            raise InputError(f"{path}, line {number}: id {row['id']!r} is already that of line {first_line[row['id']]}")
        first_line[row["id"]] = number
        rows.append((row, value))
    if not rows:
        raise InputError(f"{path}: the file holds no line")
    return rows


def _lines(content: bytes) -> list[str]:
    """The lines of a UTF-8 text, without line feeds and without a byte-order mark at the start of the text.

    Only line feeds end lines, and carriage returns are kept. After a line feed at the end of the text there is no empty
    line. Raises UnicodeDecodeError where the text is not UTF-8.
    """
    # split and not splitlines(), which also splits at U+2028 and similar characters, which JSON may hold inside texts.
    lines = content.decode("utf-8-sig").split("\n")
    return lines[:-1] if lines[-1] == "" else lines
