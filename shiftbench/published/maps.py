"""One model's published attribution maps: the arrays of an .npz file, checked before anything is computed.

    ids, vocab                      uint8, UTF-8, newline-joined: prompt ids; SentencePiece pieces
    input_ids, output_ids           whole numbers into vocab: pieces of all prompts, of all responses
    input_offsets, output_offsets   [maps + 1]: where each map's pieces begin
    explain_offsets                 [maps + 1]: where each map's levels begin, in cells
    explain_nibbles                 uint8, two levels a byte, the even cell low; C order [prompt, response pieces]

Nothing pickled is loaded.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shiftbench.errors import InputError
from shiftbench.readers.arrays import npz_arrays

LEVELS = 10
PIECES = 2**20  # in a vocabulary: the largest have a quarter of that
TEXTS = ("ids", "vocab")
OFFSETS = ("input_offsets", "output_offsets", "explain_offsets")
ARRAYS = (*TEXTS, "input_ids", "output_ids", *OFFSETS, "explain_nibbles")
Array = NDArray[np.int64]


@dataclass(frozen=True)
class Map:
    """How much each prompt piece mattered for each response piece. level_PR: uint8, 0..10, uncut."""

    prompt_pieces: tuple[str, ...]
    response_pieces: tuple[str, ...]
    level_PR: Tensor


def read_maps(path: Path) -> dict[str, Map]:
    """Maps of a file by prompt id, in its order. Raises InputError that names the array and what is wrong with it."""
    arrays = _arrays(path)
    place = {name: _offsets(path, name, arrays[name]) for name in OFFSETS}
    ids = _words(path, "ids", arrays["ids"], most=len(arrays["input_offsets"]))
    vocabulary = _words(path, "vocab", arrays["vocab"], most=PIECES)
    if len(set(ids)) < len(ids):
        twice = next(name for name, count in Counter(ids).items() if count > 1)
        raise InputError(f"{path}: ids holds {twice!r} more than once")
    for name, places in place.items():
        if places.size != len(ids) + 1:
            raise InputError(f"{path}: {name} has {places.size} places, wanted {len(ids) + 1} (one more than ids)")
    pieces = {side: arrays[f"{side}_ids"].astype(np.int64) for side in ("input", "output")}
    for side, ids_N in pieces.items():
        if ids_N.size and not 0 <= ids_N.min() <= ids_N.max() < len(vocabulary):
            worst = ids_N.min() if ids_N.min() < 0 else ids_N.max()
            raise InputError(f"{path}: {side}_ids has {worst}, but vocab holds {len(vocabulary)} pieces")
    for side, ids_N in pieces.items():
        _ends(path, f"{side}_offsets", place[f"{side}_offsets"], f"{side}_ids", ids_N.size)
    cell_N = _cells(path, arrays["explain_nibbles"], int(place["explain_offsets"][-1]))
    found = {}
    for i, name in enumerate(ids):
        asked, answer = (
            tuple(vocabulary[j] for j in pieces[side][slice(*place[f"{side}_offsets"][i : i + 2])])
            for side in ("input", "output")
        )
        level = cell_N[slice(*place["explain_offsets"][i : i + 2])]
        if level.size != len(asked) * len(answer):
            raise InputError(
                f"{path}: map {name!r} has {level.size} levels, wanted {len(asked)} x {len(answer)} "
                "(prompt pieces x response pieces)"
            )
        found[name] = Map(asked, answer, torch.from_numpy(level.reshape(len(asked), len(answer))))
    return found


def _arrays(path: Path) -> dict[str, NDArray[np.generic]]:
    """The file's arrays, each of one dimension and of whole numbers."""
    arrays = npz_arrays(path, ARRAYS)
    for name, array in arrays.items():
        wanted = np.uint8 if name in (*TEXTS, "explain_nibbles") else np.integer
        if array.ndim != 1 or array.dtype.kind not in "iu" or not np.issubdtype(array.dtype, wanted):
            raise InputError(
                f"{path}: {name} must be one row of {wanted.__name__} numbers, got {array.dtype}, shape {array.shape}"
            )
    return arrays


def _words(path: Path, name: str, array: NDArray[np.generic], most: int) -> list[str]:
    """The lines of a text. most: refused are more, before they are made: a line of no character takes eight bytes."""
    if (count := int((array == ord("\n")).sum()) + 1) > most:
        raise InputError(f"{path}: {name} holds {count:,} lines, and {most:,} are the most that may be")
    try:
        text = array.tobytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: {name} is not UTF-8 text (byte {error.start})") from None
    return text.split("\n") if text else []


def _offsets(path: Path, name: str, array: NDArray[np.generic]) -> Array:
    place = array.astype(np.int64)  # what is larger than an int64 holds becomes negative, so it falls
    # Not by their difference, which may exceed an int64 and change its sign.
    if not place.size or place[0] != 0 or (place[1:] < place[:-1]).any():
        raise InputError(f"{path}: {name} must begin at 0 and never fall")
    return place


def _ends(path: Path, name: str, place: Array, what: str, size: int) -> None:
    if place[-1] != size:
        raise InputError(f"{path}: {name} ends at {place[-1]}, but {what} has {size} entries")


def _cells(path: Path, nibbles: NDArray[np.generic], count: int) -> NDArray[np.uint8]:
    """Every level of every map, in order."""
    if nibbles.size != -(-count // 2):
        raise InputError(
            f"{path}: explain_nibbles has {nibbles.size} bytes, wanted {-(-count // 2)} (two of {count} levels each)"
        )
    packed = nibbles.astype(np.uint8)
    cell_N = np.stack([packed & 15, packed >> 4], axis=1).ravel()[:count]
    if (cell_N > LEVELS).any():
        at = int(np.argmax(cell_N > LEVELS))
        raise InputError(f"{path}: explain_nibbles has level {cell_N[at]} in cell {at}; levels are 0 to {LEVELS}")
    return cell_N
