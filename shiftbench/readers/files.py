"""Regular files of bounded size, compressed by gzip or not."""

from __future__ import annotations

import errno
import io
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from shiftbench.errors import InputError
from shiftbench.readers.boundary import reading

# Most bytes of one file, packed or unpacked, where the caller gives no limit. Unpacked, GloVe 840B has 5.6 GB.
LARGEST = 8 * 2**30
# Within that limit, an archive may unpack to the larger of UNPACKED bytes and EXPANSION times its own size. Text
# usually unpacks to 10, rarely 20 times its packed size.
UNPACKED = 64 * 2**20
EXPANSION = 100
CHUNK = 2**20  # most bytes unpacked at a time, and what one read asks for where the file states a smaller size


def path_of(text: str, option: str) -> Path:
    """A user's text as a path, with `~` expanded.

    option: the name of the option that gave the text, for messages. Raises InputError for characters that no path can
    have, such as NUL, for the home folder of a user who does not exist, and for a path that is longer than the file
    system allows. The path need not exist.
    """
    if "\0" in text:
        raise InputError(f"{option}={text!r}: a path cannot hold a NUL character")
    try:
        path = Path(text).expanduser()
        os.lstat(path)
        return path
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:  # reported here, because a later is_dir would raise it as an OSError
            raise InputError(f"{option}={text[:40]}...: the path is too long for this file system") from None
        return path
    except ValueError:
        raise InputError(f"{option}={text!r}: a path cannot have these characters") from None
    except RuntimeError:
        raise InputError(f"{option}={text}: there is no user {text.split('/')[0]!r} with a home folder") from None


@contextmanager
def opened(path: Path, what: str) -> Iterator[BinaryIO]:
    """A context whose value is a regular file, open for reading in binary mode.

    Opening never waits, as a plain open of a pipe would. what: the file as the user named it; messages begin with it.
    Raises OSError where the file cannot be opened, and InputError where it is a folder, a pipe or a device.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        mode = os.fstat(handle).st_mode
        if not stat.S_ISREG(mode):
            raise InputError(f"{what}: cannot read the file: it is {_kind(mode)}")
        with open(handle, "rb", closefd=False) as file:
            yield file
    finally:
        os.close(handle)


def file_bytes(path: Path, what: str, max_bytes: int = LARGEST) -> bytes:
    """The bytes of a regular file. Opening never waits, as a plain open of a pipe would.

    what: the file as the user named it; messages begin with it. Raises OSError where the file cannot be opened or read,
    and InputError where it is a folder, a pipe or a device, or has more than `max_bytes` bytes.
    """
    parts, total = [], 0
    with opened(path, what) as file:
        # read(n) reserves n bytes whatever the file's size, and the size that the system states is 0 for some files.
        at_once = max(os.fstat(file.fileno()).st_size + 1, CHUNK)
        while part := file.read(min(at_once, max_bytes + 1 - total)):
            parts.append(part)
            total += len(part)
    if total > max_bytes:
        raise InputError(f"{what}: the file is too large; it may have {max_bytes:,} bytes")
    return b"".join(parts)


class UnpacksTooLarge(InputError):
    """A compressed file unpacks to more bytes than are read."""


def unpacked(content: bytes, what: str, max_bytes: int = LARGEST) -> bytes:
    """The decompressed content of a gzip file, with all its members joined.

    content: the bytes of the gzip file; b"" gives b"". what: the file as the user named it; messages begin with it.
    Raises InputError where the file is damaged, and UnpacksTooLarge where it unpacks to more than `max_bytes` bytes, or
    to more than the larger of UNPACKED bytes and EXPANSION times the size of `content`. Without this second limit a
    file of 5 MB could unpack to 5 GB.
    """
    max_bytes = min(max_bytes, max(UNPACKED, EXPANSION * len(content)))
    whole = io.BytesIO()
    rest = content
    with reading(f"{what}: cannot read the file: it is no whole gzip file"):
        while rest:
            member = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
            while not member.eof:
                piece = member.decompress(rest, CHUNK)
                rest = member.unconsumed_tail
                if not piece and not rest and not member.eof:
                    raise InputError(f"{what}: cannot read the file: it is no whole gzip file: it ends too early")
                whole.write(piece)
                if whole.tell() > max_bytes:
                    raise UnpacksTooLarge(
                        f"{what}: the file has {len(content):,} bytes and unpacks to more than {max_bytes:,}; "
                        f"if that is intended, unpack it and give the plain file"
                    )
            rest = member.unused_data.lstrip(b"\0")  # zeros may follow a member as padding
    return whole.getvalue()


def _kind(mode: int) -> str:
    """What kind of file a mode (st_mode) describes, in words, such as "a pipe"."""
    kinds = {
        stat.S_ISDIR: "a folder",
        stat.S_ISFIFO: "a pipe",
        stat.S_ISCHR: "a device",
        stat.S_ISBLK: "a device",
        stat.S_ISSOCK: "a socket",
    }
    return next((name for matches, name in kinds.items() if matches(mode)), "no regular file")
