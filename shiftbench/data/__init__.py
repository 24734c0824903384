"""Text files: those that ship with the package, and those that a user names."""

from __future__ import annotations

import gzip
import zlib
from importlib.resources import files
from pathlib import Path

from shiftbench.errors import InputError


def packaged_lines(name: str) -> list[str]:
    """Lines of a packaged text file, named by its path below shiftbench/data."""
    return _lines((files("shiftbench.data") / name).read_bytes())


def user_bytes(path: str, option: str) -> bytes:
    """Bytes of a file that a user named, unpacked where its name ends in .gz.

    option: how the user named it, for the message. Raises InputError where the file cannot be read.
    """
    source = Path(path).expanduser()
    try:
        return gzip.decompress(source.read_bytes()) if source.suffix == ".gz" else source.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{option}={path}: cannot read the file: {reason}") from error


def user_lines(path: str, option: str) -> list[str]:
    """Lines of a UTF-8 text file that a user named. Raises InputError where it cannot be read as such."""
    try:
        return _lines(user_bytes(path, option))
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InputError(f"{option}={path}, line {line}: not UTF-8 text; convert the file to UTF-8") from error


def _lines(content: bytes) -> list[str]:
    # Not splitlines(): texts hold U+2028 and its like, which JSON leaves unescaped.
    lines = content.decode("utf-8-sig").split("\n")
    return lines[:-1] if lines[-1] == "" else lines
