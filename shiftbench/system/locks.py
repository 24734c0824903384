"""Locks between processes, on one machine or on several that share a folder: held until the process lets go or ends."""

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
    """Holds the file's lock for the block, the file made where missing; False, at once, where another holds it.

    wait: until the other lets go, so never False. remove: the file goes when the block ends. True, too, where the file
    system has no locks: whoever needs to know asks `is_free` first. Raises OSError where the file cannot be made or
    opened, and where something else than a file is in its place.
    """
    file = _taken(path, wait)
    try:
        yield file is not None
    finally:
        if file is not None:
            if remove:
                path.unlink(missing_ok=True)
            file.close()


def is_free(path: Path) -> bool | None:
    """Whether nobody holds the file's lock; None where the file system has no locks, and so cannot say."""
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


def _taken(path: Path, wait: bool) -> BinaryIO | None:
    while True:
        file = opened(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still(file, path):
                return file
        except BlockingIOError:
            file.close()
            return None
        except OSError:  # no locks here: everybody may go on
            return file
        except BaseException:
            file.close()
            raise
        file.close()  # who held it before took the file away: the lock is on nothing that others can find


def opened(path: Path, flags: int) -> BinaryIO:
    """A regular file, opened; OSError for what is none. Opening a pipe would wait for somebody at its other end."""
    handle = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return open(handle, "rb" if flags == os.O_RDONLY else "ab")


def _is_still(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False
