"""Puts a finished folder in the place of another one, so that the folder never holds files of both."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

RENAME_EXCHANGE, AT_FDCWD = 2, -100  # constants of the Linux call renameat2


def swap(new: Path, folder: Path) -> None:
    """Put `new` where `folder` is. The old folder, if there is one, is then where `new` was; the caller removes it.

    new, folder: on the same file system. Where the system can exchange two names (Linux, most file systems), a
    folder that existed before exists at every moment. Where it cannot, `folder` is missing between two renames.
    """
    if not folder.exists():
        new.rename(folder)
    elif not _exchange(new, folder):
        old = new.with_name(f"{new.name}.old")
        folder.rename(old)
        new.rename(folder)
        old.rename(new)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange the names of two folders in one step; True if that succeeded.

    False where it failed, for example because the system or the file system cannot do it; nothing has changed then.
    """
    if not sys.platform.startswith("linux"):
        return False
    call = getattr(ctypes.CDLL(None), "renameat2", None)
    if call is None:
        return False
    return bool(call(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0)
