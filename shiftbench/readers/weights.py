"""A digest of samples of a folder's weights, which is much faster than a digest of all weights.

The name of a folder of results can depend on it. That folder is named before weights are loaded.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from shiftbench.errors import InputError
from shiftbench.readers.files import opened
from shiftbench.readers.tensor_headers import safetensors_places

PIECE = 4096  # most bytes of one sample
PLACES = 64  # about how many samples are taken of a file that is not read as tensors, such as a GGUF file
TENSORS = 4096  # most tensors of one file that are sampled; of a file with as many or more, every n-th is sampled


def sampled_digest(place: Path) -> str:
    """sha256 (hex) of samples of the weights in a folder's safetensors files, or in one file.

    It does not depend on the path. If no file has TENSORS tensors or more, it does not depend either on how the tensors
    are divided among files. Of a folder, only files in the folder itself count, not those in its subfolders.
    Of a safetensors file it covers each sampled tensor's name, dtype and shape, and up to PIECE bytes at the start, in
    the middle and at the end of the tensor. The header alone is not enough, because a base and its tuned models usually
    have equal headers. Reading everything would take half a minute for a model of 14 GB. Training usually changes
    numbers all over a tensor, so different models rarely have equal samples; Model.weights_digest is exact. Of any
    other file, such as GGUF or a damaged safetensors file, it covers the size and about PLACES samples (up to twice as
    many in a small file). It never waits for a pipe. Raises OSError where the folder has no safetensors file or a file
    cannot be opened, and InputError for a pipe or a device. An empty file has a digest.
    """
    files = sorted(place.glob("*.safetensors")) if place.is_dir() else [place]
    if not files:
        raise FileNotFoundError(f"no weights in {place}")
    rows = sorted(row for file in files for row in _samples(file))
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _samples(file: Path) -> Iterator[list[str]]:
    """[name, dtype and shape, digest of samples] of each sampled tensor of a safetensors file.

    Of any other file it is one row, ["", size in bytes, digest of samples].
    """
    try:
        places = safetensors_places(file, str(file)) if file.suffix == ".safetensors" else None
    except InputError:
        places = None  # a damaged file gets a digest too, and is refused when it is loaded
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
    """sha256 (hex) of PIECE bytes of a file from each offset in `places`; bytes from offset `stop` on are left out."""
    digest = hashlib.sha256()
    for place in places:
        digest.update(os.pread(handle, min(PIECE, stop - place), place))
    return digest.hexdigest()
