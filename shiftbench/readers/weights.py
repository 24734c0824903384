"""Which weights a folder holds, told from samples in milliseconds: to name a folder of results before any is loaded."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

PIECE = 4096  # bytes looked at in each place
PLACES = 64  # of a file whose tensors cannot be told apart
TENSORS = 4096  # of one file, evenly spread where there are more
LARGEST_HEADER = 100 * 2**20  # bytes; safetensors itself takes no more


def sampled(place: Path) -> str:
    """sha256 (hex) of samples of the weights in a folder or a file, the same wherever they lie and however sharded.

    Of a safetensors file: each tensor's name, dtype and shape with the first, the middle and the last PIECE bytes of
    its content. The header alone would not do, because every tuned model of a base has the same one; all the content
    would take half a minute for a model of 14 GB, before there is anything to do. Training changes numbers all over a
    tensor, so two models whose samples are equal are equal in all likelihood; whoever must be sure has the digest of
    the loaded weights. Of another file, as GGUF: its size and PLACES pieces. Never waits for a pipe. Raises OSError
    where there is nothing to read.
    """
    files = sorted(place.glob("*.safetensors")) if place.is_dir() else [place]
    if not files:
        raise FileNotFoundError(f"no weights in {place}")
    rows = sorted(row for file in files for row in _rows(file))
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _rows(file: Path) -> Iterator[list[str]]:
    handle = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        look = os.fstat(handle)
        if not stat.S_ISREG(look.st_mode):
            raise OSError(f"{file} is no regular file")
        tensors = _tensors(handle, look.st_size) if file.suffix == ".safetensors" else None
        if tensors is None:
            gap = max(1, look.st_size // PLACES)
            yield ["", str(look.st_size), _digest(handle, range(0, look.st_size, gap), look.st_size)]
            return
        for name, kind, start, stop in tensors[:: 1 + len(tensors) // TENSORS]:
            yield [name, kind, _digest(handle, (start, (start + stop) // 2, max(start, stop - PIECE)), stop)]
    finally:
        os.close(handle)


def _tensors(handle: int, size: int) -> list[tuple[str, str, int, int]] | None:
    """(name, dtype and shape, first byte, byte behind the last) of each tensor; None where the header is none."""
    try:
        length = int.from_bytes(os.pread(handle, 8, 0), "little")
        if not 0 < length <= min(size, LARGEST_HEADER):
            return None
        header = json.loads(os.pread(handle, length, 8))
        found = [
            (
                str(name),
                json.dumps([tensor["dtype"], tensor["shape"]]),
                8 + length + int(tensor["data_offsets"][0]),
                8 + length + int(tensor["data_offsets"][1]),
            )
            for name, tensor in header.items()
            if name != "__metadata__"
        ]
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError, OverflowError):
        return None
    return found if all(0 <= start <= stop <= size for *_, start, stop in found) else None


def _digest(handle: int, places: tuple[int, ...] | range, stop: int) -> str:
    made = hashlib.sha256()
    for place in places:
        made.update(os.pread(handle, min(PIECE, stop - place), place))
    return made.hexdigest()
