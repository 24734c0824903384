"""Files that appear whole or not at all."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from shiftbench.errors import InputError
from shiftbench.system import disks, locks

TEMPORARY = ".tmp-"  # between the name of a file and random letters: what becomes the file when it is whole
UNLOCKED_LEFTOVER = 86400.0  # seconds
YOUNG = 60.0  # seconds; a temporary file that young may not be locked yet by the process that makes it


def replace_whole(path: Path, content: bytes) -> None:
    """Put a file's new content there in one step, on the disk when this returns.

    Raises OSError where it cannot be written; what was there before is then still there.
    """
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:50]}{TEMPORARY}")
    try:
        with open(handle, "wb") as file:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # says that this process lives: see sweep_files
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            os.chmod(part, new_mode(0o666))  # mkstemp's own is for the owner alone
            os.replace(part, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(part)
        raise


@contextmanager
def temporary_folder(parent: Path, prefix: str, besides: Sequence[tuple[Path, str]] = ()) -> Iterator[Path]:
    """A new folder in parent for the time of the block; another process that wants one of this prefix waits so long.

    What killed processes left is removed first: all of this prefix, and what `besides` names as (folder, prefix). A
    living process holds the lock parent/PREFIXlock, which is there only meanwhile. Raises OSError where it cannot be
    made.
    """
    lock = parent / f"{prefix}lock"
    with locks.held(lock, wait=True, remove=True):
        unlocked = locks.is_free(lock) is None  # a file system without locks, where only age tells a leftover from work
        before = time.time() - (UNLOCKED_LEFTOVER if unlocked else 0.0)
        for place, beginning in ((parent, prefix), *besides):
            with suppress(OSError):
                for name in [name for name in os.listdir(place) if name.startswith(beginning)]:
                    with suppress(OSError):
                        if place / name != lock and (place / name).lstat().st_mtime <= before:
                            remove(place / name)
        part = Path(tempfile.mkdtemp(dir=parent, prefix=prefix))
        try:
            yield part
        finally:
            shutil.rmtree(part, ignore_errors=True)


def remove(path: Path) -> None:
    """Remove a file, a link or a folder with all that is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sweep_files(folder: Path) -> None:
    """Remove the temporary files of `replace_whole` that killed processes left in a folder.

    A living process holds a lock on its own; one that was made a minute ago is left alone, as are all where the file
    system has no locks.
    """
    with suppress(OSError):
        for path in folder.glob(f".*{TEMPORARY}*"):
            with suppress(OSError):
                if path.lstat().st_mtime > time.time() - YOUNG or not path.is_file() or path.is_symlink():
                    continue
                with open(path, "rb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()


def write_whole(path: Path, text: str, option: str) -> None:
    """Write UTF-8 text in one step; its folder is made. option: how the user named the file.

    Raises InputError where it cannot be written; what was there before is then still there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_whole(path, text.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise InputError(f"{option}={path} cannot be written: {write_failure(error, path.parent, len(text))}") from None


def write_failure(error: OSError, folder: Path, needed: int) -> str:
    """Why something cannot be written to a folder. needed: its bytes, which count where the disk is full."""
    return disks.no_room_reason(error, folder, needed) if error.errno in disks.FULL else error.strerror or str(error)


def check_writable(path: Path, option: str) -> None:
    """Raise InputError where `write_whole` could not write, before there is anything to write."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise InputError(f"{option}={path} cannot be written: {write_failure(error, path.parent, 0)}") from None
    if path.is_dir():
        raise InputError(f"{option}={path} is a folder; name a file in it")


def new_mode(mode: int) -> int:
    """The permissions of a new file or folder that asks for these, under this process's umask."""
    mask = os.umask(0)
    os.umask(mask)
    return mode & ~mask
