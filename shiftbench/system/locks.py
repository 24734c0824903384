"""Locks of files between processes, on one machine or on several that share a folder.

A lock ends with its process at the latest. Some file systems have no locks; the functions that lock say what they do
there.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def held(path: Path, wait: bool = False, remove: bool = False) -> Iterator[bool]:
    """Hold the exclusive lock of a file for the block. Yields whether this call holds it.

    The file is created where missing. wait: whether to wait while the lock is held elsewhere, be it by another call in
    this process; without it, False is yielded at once in that case. remove: remove the file when the block ends, unless
    False was yielded. Where the file system has no locks, True is yielded although nothing is locked; `is_free` returns
    None in that case. Raises OSError where the file cannot be created or opened, and where it is not a regular file.
    """
    file = _acquire(path, wait)
    try:
        yield file is not None
    finally:
        if file is not None:
            if remove:
                path.unlink(missing_ok=True)
            file.close()


def is_free(path: Path) -> bool | None:
    """True where no process, this one included, holds the file's exclusive lock, or where the file does not exist.

    None where that cannot be found out: the file system has no locks, or the file cannot be opened.
    """
    try:
        with opened(path, os.O_RDONLY) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return True
    except FileNotFoundError:
        return True
    except BlockingIOError:
        return False
    except OSError:
        return None


def _acquire(path: Path, wait: bool) -> BinaryIO | None:
    """The open file, locked; None where the lock is held already and `wait` is false.

    Where the file system has no locks, the open file is returned although it is not locked.
    """
    while True:
        file = opened(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still(file, path):
                return file
        except BlockingIOError:
            file.close()
            return None
        except OSError:  # the file system has no locks: go on without one
            return file
        except BaseException:
            file.close()
            raise
        file.close()  # its last holder removed the file, so other processes cannot see this lock: try again


def opened(path: Path, flags: int) -> BinaryIO:
    """A regular file, opened in binary mode: for reading where `flags` is O_RDONLY, else for appending.

    flags: those of os.open; with O_CREAT a missing file is created. O_NONBLOCK is added, so that opening a pipe does
    not wait. Raises OSError for anything but a regular file.
    """
    handle = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return open(handle, "rb" if flags == os.O_RDONLY else "ab")


def _is_still(file: BinaryIO, path: Path) -> bool:
    """Whether the path still names this open file."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False
