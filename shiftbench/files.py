"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from shiftbench.errors import InputError


def replace_whole(path: Path, content: bytes) -> None:
    """Put a file's new content there in one step, on the disk when this returns.

    Raises OSError where it cannot be written; what was there before is then still there.
    """
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:50]}-")
    try:
        with open(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(part, 0o666 & ~_umask())  # mkstemp's own is for the owner alone
        os.replace(part, path)
    except BaseException:
        os.unlink(part)
        raise


def write_whole(path: Path, text: str, option: str) -> None:
    """Write UTF-8 text in one step; its folder is made. option: how the user named the file.

    Raises InputError where it cannot be written; what was there before is then still there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_whole(path, text.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise InputError(f"{option}={path} cannot be written: {error.strerror or error}") from None


def check_place(path: Path, option: str) -> None:
    """Raise InputError where `write_whole` could not write, before there is anything to write."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise InputError(f"{option}={path} cannot be written: {error.strerror or error}") from None
    if path.is_dir():
        raise InputError(f"{option}={path} is a folder; name a file in it")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
