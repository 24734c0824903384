"""Regular files of bounded size, packed by gzip or not."""

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

LARGEST = 8 * 2**30  # bytes of one text file: GloVe 840B, 300 wide, unpacked, has 5.6 GB
UNPACKED = 64 * 2**20  # bytes that any archive may unpack to, however small it is
EXPANSION = 100  # times its own size that a larger archive may unpack to; text packs to a tenth, rarely to a twentieth
CHUNK = 2**20  # bytes unpacked at a time


def path_of(text: str, option: str) -> Path:
    """The path that a user's text means, `~` expanded.

    option: how the user named it. Raises InputError for a NUL character, for the home of a user who does not exist
    and for a path that is longer than the file system takes.
    """
    if "\0" in text:
        raise InputError(f"{option}={text!r}: a path cannot hold a NUL character")
    try:
        path = Path(text).expanduser()
        os.lstat(path)
        return path
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:  # pathlib's own questions, such as is_dir, would raise it later
            raise InputError(f"{option}={text[:40]}...: the path is too long for this file system") from None
        return path
    except ValueError:
        raise InputError(f"{option}={text!r}: no path can have these characters") from None
    except RuntimeError:
        raise InputError(f"{option}={text}: there is no user {text.split('/')[0]!r} whose home is meant") from None


@contextmanager
def opened(path: Path, what: str) -> Iterator[BinaryIO]:
    """A regular file, open for reading; never waits for a pipe.

    what: the file as the user named it, which messages begin with. Raises OSError where the file cannot be opened, and
    InputError where it is a folder, a pipe or a device.
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


def file_bytes(path: Path, what: str, most: int = LARGEST) -> bytes:
    """The bytes of a regular file, at most `most` of them; never waits for a pipe.

    what: the file as the user named it, which messages begin with. Raises OSError where the file cannot be opened or
    read, and InputError where it is a folder, a pipe or a device, or larger.
    """
    with opened(path, what) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise InputError(f"{what}: the file is too large; it may have {most:,} bytes")
    return content


def unpacked(content: bytes, what: str, most: int = LARGEST) -> bytes:
    """What gzip packed into `content`, of all its members.

    what: the file as the user named it, which messages begin with.
    Raises InputError where it is damaged or unpacks to more than UNPACKED bytes and more than EXPANSION times its own
    size, or to more than `most`: a file of 5 MB can unpack to 5 GB.
    """
    most = min(most, max(UNPACKED, EXPANSION * len(content)))
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
                if whole.tell() > most:
                    raise InputError(
                        f"{what}: the file has {len(content):,} bytes and unpacks to more than {most:,}; "
                        f"if that is meant, unpack it and give the plain file"
                    )
            rest = member.unused_data.lstrip(b"\0")  # gzip pads with zeros
    return whole.getvalue()


def _kind(mode: int) -> str:
    kinds = {
        stat.S_ISDIR: "a folder",
        stat.S_ISFIFO: "a pipe",
        stat.S_ISCHR: "a device",
        stat.S_ISBLK: "a device",
        stat.S_ISSOCK: "a socket",
    }
    return next((name for matches, name in kinds.items() if matches(mode)), "no regular file")
