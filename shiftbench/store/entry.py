"""One stored unit as a folder of two files, and how damage to them is detected.

    arrays.safetensors   the unit's arrays
    record.json          {"sha256": sha256 of body, "body": {key, created, arrays: sha256, words, record}}

Both digests are of the bytes as they are in the files. Nothing is pickled. Text is UTF-8, and lone surrogates are
allowed in it because tokens may contain them.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from shiftbench.errors import InputError
from shiftbench.readers import file_bytes, json_value, reading
from shiftbench.store.explanation import Unit

ARRAYS, RECORD = "arrays.safetensors", "record.json"
# Most bytes of record.json and of arrays.safetensors. A larger unit is refused, and a larger file counts as damaged.
# Usual files have a thousandth of that.
LARGEST_RECORD, LARGEST_ARRAYS = 2**28, 2**31


class Damaged(Exception):
    """A file of a stored unit is missing, is no file, or is not as it was written. The message says which.

    It is raised only for what was read whole, and for what is certainly no file. Where the system fails while a file is
    read, nothing is known about the file, and the system's own error is raised.
    """


@dataclass(frozen=True)
class Body:
    """The content of a unit's record.json under "body"; the checksum of these bytes was right.

    key: the unit's key. created: when `encode` made these bytes, with a time zone. words: as in Unit.
    record: what the unit was computed from.
    """

    key: str
    created: datetime
    arrays: str  # sha256 of arrays.safetensors
    words: Mapping[str, list[str]]
    record: Mapping[str, Any]


def encode(key: str, unit: Unit, record: Mapping[str, Any]) -> dict[str, bytes]:
    """The content of a unit's two files, by file name.

    key: the unit's key. record: what the unit was computed from, JSON-able. Raises ValueError where the record holds a
    NaN or an infinity, and where an array has a dtype that safetensors lacks. Raises InputError where one of the files
    would be larger than is read. record.json also holds the time of this call (Body.created), so a second call gives
    other bytes for it.
    """
    # Before the arrays are copied, because they may fill the memory.
    _check_size(key, record, "arrays", sum(array.nbytes for array in unit.arrays.values()), LARGEST_ARRAYS)
    # Copies, because safetensors needs contiguous arrays that share no memory.
    arrays = {
        name: array.detach().cpu().clone(memory_format=torch.contiguous_format) for name, array in unit.arrays.items()
    }
    try:
        packed = safetensors.torch.save(arrays)
    except KeyError as error:
        raise ValueError(f"unit {key}: safetensors has no dtype {error}") from None
    _check_size(key, record, "arrays", len(packed), LARGEST_ARRAYS)
    body = {
        "key": key,
        "created": datetime.now(timezone.utc).isoformat(timespec="microseconds"),
        "arrays": _digest(packed),
        "words": {name: list(words) for name, words in unit.words.items()},
        "record": dict(record),
    }
    text = json.dumps(body, sort_keys=True, ensure_ascii=False, allow_nan=False).encode("utf-8", "surrogatepass")
    whole = _with_checksum(text)
    _check_size(key, record, "words and record", len(whole), LARGEST_RECORD)
    return {ARRAYS: packed, RECORD: whole}


def _check_size(key: str, record: Mapping[str, Any], part: str, size: int, limit: int) -> None:
    """Raise InputError where a part of a unit has more bytes than `limit`, so that it would be read as damaged.

    key, record: of the unit, for the message. part: what has this size, in words. size: in bytes.
    """
    if size > limit:
        of = ", ".join(
            f"{name} {record[name]}" for name in ("method", "layer") if isinstance(record.get(name), str | int)
        )
        raise InputError(
            f"unit {key[:12]}{f' ({of})' if of else ''} cannot be stored: its {part} have {size:,} bytes, and at most "
            f"{limit:,} are stored; make it smaller, with a shorter prompt or response (response.max_new_tokens), or "
            "with lower values of the method's options (rank, top, k, draws). What was computed before is in the store"
        )


def write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Create the folder with these files. The files are on the disk, not only in a cache, when this returns.

    The name of the folder itself may still be in a cache. files: the content of each file, by its name. Raises
    FileExistsError where the folder exists, and OSError where the folder or a file cannot be written; what was written
    until then stays.
    """
    folder.mkdir()
    for name, content in files.items():
        with open(folder / name, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Write a folder's list of names to the disk, so that a rename in it survives a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read(folder: Path, key: str) -> tuple[Unit, Body]:
    """(the unit in a folder, the body of its record.json), with every byte checked against the checksums.

    key: the key that the record must have. Raises FileNotFoundError where there is no folder, and Damaged for what is
    no unit. That includes a missing file, a folder or a pipe in a file's place, and a file whose checksum is right but
    which holds no unit. Raises another OSError or a MemoryError where the system fails while reading. Reading never
    waits and runs no code.
    """
    body = read_body(folder, key)
    packed = _bytes(folder, ARRAYS, LARGEST_ARRAYS)
    if _digest(packed) != body.arrays:
        raise Damaged(f"{ARRAYS} does not match its checksum")
    with _as_damaged(ARRAYS):
        return Unit(safetensors.torch.load(packed), body.words), body


def read_body(folder: Path, key: str) -> Body:
    """The body of a folder's record.json, checked against its checksum and `key`; the arrays are not read.

    Raises Damaged where record.json is missing, does not match its checksum, is not the record of a unit, or is that of
    another key; and other errors as `read` does.
    """
    content = _bytes(folder, RECORD, LARGEST_RECORD)
    # The body lies between a beginning of fixed length and the last two bytes, "}\n".
    text = content[len(_with_checksum(b"")) - 2 : -2]
    if content != _with_checksum(text):
        raise Damaged(f"{RECORD} does not match its checksum")
    with _as_damaged(RECORD):
        body = _checked_body(json_value(text.decode("utf-8", "surrogatepass")))
    if body.key != key:
        raise Damaged(f"{RECORD} belongs to {body.key}")
    return body


def _with_checksum(text: bytes) -> bytes:
    """The bytes of record.json: a JSON object with the body and the body's sha256, so that any change is detected.

    text: the body as JSON, in UTF-8.
    """
    return b'{"sha256":"' + _digest(text).encode() + b'","body":' + text + b"}\n"


def _checked_body(fields: Any) -> Body:
    """The Body for `fields`, which is the parsed JSON under "body" in a record.json.

    Raises ValueError or TypeError where the fields, or the types of their values, are not those that `encode` writes,
    and where `created` has no time zone or a year that is not from 1970 to 9998.
    """
    if not isinstance(fields, dict) or set(fields) != {"key", "created", "arrays", "words", "record"}:
        raise ValueError("its fields are not those of a unit")
    created = datetime.fromisoformat(fields["created"])
    words, record = fields["words"], fields["record"]
    if created.tzinfo is None or not 1970 <= created.year < 9999:
        raise ValueError(f"created {created} is not a time at which a unit can be stored")
    if not isinstance(fields["key"], str) or not isinstance(fields["arrays"], str) or not isinstance(record, dict):
        raise ValueError("a field has another type than in a unit")
    if not isinstance(words, dict) or not all(isinstance(row, list) for row in words.values()):
        raise ValueError("its words are not lists")
    if not all(isinstance(word, str) for row in words.values() for word in row):
        raise ValueError("its words are not texts")
    return Body(fields["key"], created, fields["arrays"], words, record)


@contextmanager
def _as_damaged(name: str) -> Iterator[None]:
    """Turn a failure of the block, which interprets bytes of a file that are in memory already, into Damaged.

    name: the file's name, for the message. A lack of memory, an OSError and a KeyboardInterrupt are no
    damage and pass unchanged.
    """
    try:
        with reading(name):
            yield
    except InputError as error:
        if isinstance(error.__cause__, MemoryError | OSError):
            raise error.__cause__ from None
        raise Damaged(f"{name} cannot be read: {str(error).removeprefix(f'{name}: ')}") from error


def _bytes(folder: Path, name: str, max_bytes: int) -> bytes:
    """A file's bytes. Raises FileNotFoundError where the folder is missing.

    Raises Damaged where only the file is missing, where it is no regular file, or has more than `max_bytes` bytes.
    Raises another OSError or a MemoryError where the system fails while reading.
    """
    for _ in range(2):  # another process may create the folder between the two checks: then the second try succeeds
        try:
            return file_bytes(folder / name, name, max_bytes)
        except (FileNotFoundError, NotADirectoryError):
            os.lstat(folder)  # raises FileNotFoundError where the folder is missing
        except OSError as error:
            if not _is_no_file(folder / name, error):
                raise
            raise Damaged(f"{name} cannot be read: {error.strerror or error}") from error
        except InputError as error:
            raise Damaged(str(error)) from error
    raise Damaged(f"{name} is missing")


def _is_no_file(path: Path, error: OSError) -> bool:
    """Whether a file could not be opened because something else is certainly in its place, such as a socket.

    error: the one that opening raised. False where the system cannot say what is there.
    """
    if error.errno == errno.ELOOP:  # a link that leads to itself
        return True
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISLNK(mode)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
