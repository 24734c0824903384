"""Which weights a folder holds, told from samples in milliseconds: to name a folder of results before any is loaded."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from shiftbench.errors import InputError
from shiftbench.readers.files import opened
from shiftbench.readers.tensor_headers import safetensors_places

PIECE = 4096  # bytes looked at in each place
PLACES = 64  # of a file whose tensors cannot be told apart
TENSORS = 4096  # of one file, evenly spread where there are more


def sampled_digest(place: Path) -> str:
    """sha256 (hex) of samples of the weights in a folder or a file, the same wherever they lie and however sharded.

    Of a safetensors file: each tensor's name, dtype and shape with the first, the middle and the last PIECE bytes of
    its content. The header alone would not do, because every tuned model of a base has the same one; all the content
    would take half a minute for a model of 14 GB, before there is anything to do. Training changes numbers all over a
    tensor, so two models whose samples are equal are equal in all likelihood; whoever must be sure has the digest of
    the loaded weights. Of another file, as GGUF: its size and PLACES pieces. Never waits for a pipe. Raises OSError
    or InputError where there is nothing to read.
    """
    files = sorted(place.glob("*.safetensors")) if place.is_dir() else [place]
    if not files:
        raise FileNotFoundError(f"no weights in {place}")
    rows = sorted(row for file in files for row in _rows(file))
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _rows(file: Path) -> Iterator[list[str]]:
    try:
        places = safetensors_places(file, str(file)) if file.suffix == ".safetensors" else None
    except InputError:
        places = None  # a damaged file has a name of its own too, and is refused when it is to be loaded
    with opened(file, str(file)) as content:
        handle = content.fileno()
        if places is None:
            size = os.fstat(handle).st_size
            gap = max(1, size // PLACES)
            yield ["", str(size), _digest(handle, range(0, size, gap), size)]
            return
        for tensor, start, stop in places[:: 1 + len(places) // TENSORS]:
            kind = json.dumps([tensor.dtype, tensor.shape])
            yield [tensor.name, kind, _digest(handle, (start, (start + stop) // 2, max(start, stop - PIECE)), stop)]


def _digest(handle: int, places: tuple[int, ...] | range, stop: int) -> str:
    made = hashlib.sha256()
    for place in places:
        made.update(os.pread(handle, min(PIECE, stop - place), place))
    return made.hexdigest()
