"""Files and folders that appear whole or not at all."""

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

TEMPORARY = ".tmp-"  # in the name of a temporary file, between the name of the final file and random letters
UNLOCKED_LEFTOVER = 86400.0  # seconds; without locks, an older temporary folder counts as left by a dead process
YOUNG = 60.0  # seconds; the process that writes a temporary file this young may not have locked it yet


def replace_whole(path: Path, content: bytes) -> None:
    """Write a file with this content in one step, in place of an earlier file at this path if there is one.

    The content is on the disk when this returns; the new name may still be in a cache, so that after a power cut the
    old file may be there. The file gets the permissions of a new one, and a link at this path is itself replaced.
    Raises OSError where the file cannot be written; the old file is still there then.
    """
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:50]}{TEMPORARY}")
    try:
        with open(handle, "wb") as file:
            with suppress(OSError):  # raised where the file system has no locks
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shows sweep_files that this process is alive
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            os.chmod(part, new_mode(0o666))  # mkstemp gives the owner alone access
            os.replace(part, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(part)
        raise


@contextmanager
def temporary_folder(parent: Path, prefix: str, besides: Sequence[tuple[Path, str]] = ()) -> Iterator[Path]:
    """A new folder in `parent`, named `prefix` and random letters, which is removed when the block ends.

    During the block this process holds the lock file parent/PREFIXlock, which is removed at the end. Another process
    that needs such a folder, with the same parent and prefix, waits until the block has ended.
    Before the folder is created, what killed processes left is removed: everything in `parent` whose name begins with
    the prefix, the lock file left aside, and the same for each (folder, prefix) in `besides`. Where the file system has
    no locks, no process waits, and only what is older than UNLOCKED_LEFTOVER is removed. Raises OSError where the lock
    file or the folder cannot be created.
    """
    lock = parent / f"{prefix}lock"
    with locks.held(lock, wait=True, remove=True):
        unlocked = locks.is_free(lock) is None  # without locks, a leftover's age is the only sign that it is unused
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
    """Remove a file, a link, or a folder with everything in it. Nothing happens where nothing is at the path."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sweep_files(folder: Path) -> None:
    """Remove the temporary files of `replace_whole` that killed processes left in a folder.

    A file that a living process has locked is kept, and so are a file younger than YOUNG seconds and a file that cannot
    be removed. Where the file system has no locks, all are kept.
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
    """Write a UTF-8 text file in one step, and create its folder where missing.

    option: the option that named the file, for the message. A lone surrogate in the text is written as a backslash
    escape. Raises InputError where the file cannot be written; the old file is still there then.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_whole(path, text.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise InputError(f"{option}={path} cannot be written: {write_failure(error, path.parent, len(text))}") from None


def write_failure(error: OSError, folder: Path, needed: int) -> str:
    """Why a write to a folder failed, in words.

    error: the one that the write raised. needed: the number of bytes that were to be written.
    """
    return disks.no_room_reason(error, folder, needed) if error.errno in disks.FULL else error.strerror or str(error)


def check_writable(path: Path, option: str) -> None:
    """Raise InputError where no file can be created in the folder of `path`, or where `path` is a folder.

    To be used before long work whose result `write_whole` will write there. Creates the folder of `path` where it is
    missing. A disk without enough room for the result is not noticed. option: the option that named the file, for the
    message.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise InputError(f"{option}={path} cannot be written: {write_failure(error, path.parent, 0)}") from None
    if path.is_dir():
        raise InputError(f"{option}={path} is a folder; name a file in it")


def new_mode(mode: int) -> int:
    """The permissions that this process's umask leaves of `mode`, for a new file or folder."""
    mask = os.umask(0)
    os.umask(mask)
    return mode & ~mask
