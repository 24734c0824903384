"""Reads one model's published attribution maps, the arrays of an .npz file, and checks them.

A map has a level for each pair of a prompt piece and a response piece. The file holds the maps of all prompts, one
after another, in these arrays:

    ids                             uint8: the prompt id of each map, as UTF-8 text with one id on each line
    vocab                           uint8: the different SentencePiece pieces, as UTF-8 text with one piece on each line
    input_ids, output_ids           integers: the pieces of all prompts, and of all responses, as line numbers of vocab,
                                    counted from 0
    input_offsets, output_offsets   integers [maps + 1]: where the pieces of each map begin in input_ids and in
                                    output_ids; the last number is where they end
    explain_offsets                 integers [maps + 1]: where the levels of each map begin, counted in levels; the last
                                    number is where they end
    explain_nibbles                 uint8: the levels of all maps, two in a byte, the level of even index in the low
                                    four bits; each map in C order [prompt pieces, response pieces]

Pickled arrays are refused.
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
MOST_PIECES = 2**20  # most lines of vocab; the largest known vocabularies have a quarter of that
TEXTS = ("ids", "vocab")
OFFSETS = ("input_offsets", "output_offsets", "explain_offsets")
ARRAYS = (*TEXTS, "input_ids", "output_ids", *OFFSETS, "explain_nibbles")
Array = NDArray[np.int64]


@dataclass(frozen=True)
class Map:
    """One prompt's map in one model: how important each prompt piece was for each response piece.

    level_PR: the levels 0 to 10 (uint8) as they were published; no cutoff is applied to them.
    """

    prompt_pieces: tuple[str, ...]
    response_pieces: tuple[str, ...]
    level_PR: Tensor


def read_maps(path: Path) -> dict[str, Map]:
    """The maps of a file by prompt id, in the order of `ids`.

    Raises InputError where the file cannot be read, an array is missing or not as the top of this file describes it, an
    id is there twice, or arrays contradict each other.
    """
    arrays = _arrays(path)
    offsets = {name: _offsets(path, name, arrays[name]) for name in OFFSETS}
    ids = _text_lines(path, "ids", arrays["ids"], most=len(arrays["input_offsets"]))
    vocabulary = _text_lines(path, "vocab", arrays["vocab"], most=MOST_PIECES)
    if len(set(ids)) < len(ids):
        twice = next(name for name, count in Counter(ids).items() if count > 1)
        raise InputError(f"{path}: ids holds {twice!r} more than once")
    for name, offset in offsets.items():
        if offset.size != len(ids) + 1:
            raise InputError(f"{path}: {name} has {offset.size} entries, wanted {len(ids) + 1} (one more than ids)")
    pieces = {side: arrays[f"{side}_ids"].astype(np.int64) for side in ("input", "output")}
    for side, ids_N in pieces.items():
        if ids_N.size and not 0 <= ids_N.min() <= ids_N.max() < len(vocabulary):
            worst = ids_N.min() if ids_N.min() < 0 else ids_N.max()
            raise InputError(f"{path}: {side}_ids has {worst}, but vocab holds {len(vocabulary)} pieces")
    for side, ids_N in pieces.items():
        _check_last_offset(path, f"{side}_offsets", offsets[f"{side}_offsets"], f"{side}_ids", ids_N.size)
    level_N = _levels(path, arrays["explain_nibbles"], int(offsets["explain_offsets"][-1]))
    found = {}
    for i, name in enumerate(ids):
        prompt_pieces, response_pieces = (
            tuple(vocabulary[j] for j in pieces[side][slice(*offsets[f"{side}_offsets"][i : i + 2])])
            for side in ("input", "output")
        )
        level = level_N[slice(*offsets["explain_offsets"][i : i + 2])]
        if level.size != len(prompt_pieces) * len(response_pieces):
            raise InputError(
                f"{path}: map {name!r} has {level.size} levels, wanted {len(prompt_pieces)} x {len(response_pieces)} "
                "(prompt pieces x response pieces)"
            )
        level_PR = torch.from_numpy(level.reshape(len(prompt_pieces), len(response_pieces)))
        found[name] = Map(prompt_pieces, response_pieces, level_PR)
    return found


def _arrays(path: Path) -> dict[str, NDArray[np.generic]]:
    """The arrays of ARRAYS by name.

    Raises InputError as npz_arrays does, and where an array has not one dimension or not its dtype. The dtype must be
    uint8 for ids, vocab and explain_nibbles, and any integer dtype for the others.
    """
    arrays = npz_arrays(path, ARRAYS)
    for name, array in arrays.items():
        wanted = np.uint8 if name in (*TEXTS, "explain_nibbles") else np.integer
        if array.ndim != 1 or array.dtype.kind not in "iu" or not np.issubdtype(array.dtype, wanted):
            raise InputError(
                f"{path}: {name} must be one row of {wanted.__name__} numbers, got {array.dtype}, shape {array.shape}"
            )
    return arrays


def _text_lines(path: Path, name: str, array: NDArray[np.generic], most: int) -> list[str]:
    """The lines of the UTF-8 text in an array of bytes; none where the array is empty.

    A line feed at the end of the text is followed by one more line, "".
    path, name: of the file and of the array, for messages. most: a text of more lines is refused before it is split,
    because an empty line takes one byte in the file, and eight bytes or more in a list.
    Raises InputError where there are more lines, and where the bytes are not UTF-8.
    """
    if (count := int((array == ord("\n")).sum()) + 1) > most:
        raise InputError(f"{path}: {name} holds {count:,} lines; at most {most:,} are allowed")
    try:
        text = array.tobytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: {name} is not UTF-8 text (byte {error.start})") from None
    return text.split("\n") if text else []


def _offsets(path: Path, name: str, array: NDArray[np.generic]) -> Array:
    offset = array.astype(np.int64)  # a number beyond the range of int64 becomes negative, so it is refused below
    # Neighbours are compared and not subtracted: their difference could overflow and change its sign.
    if not offset.size or offset[0] != 0 or (offset[1:] < offset[:-1]).any():
        raise InputError(f"{path}: {name} must begin at 0 and never fall")
    return offset


def _check_last_offset(path: Path, name: str, offset: Array, what: str, size: int) -> None:
    if offset[-1] != size:
        raise InputError(f"{path}: {name} ends at {offset[-1]}, but {what} has {size} entries")


def _levels(path: Path, nibbles: NDArray[np.generic], count: int) -> NDArray[np.uint8]:
    """The levels of all maps, one after another, from the array explain_nibbles, which packs two into a byte.

    count: the number of levels, which the last number in explain_offsets gives. Raises InputError where the array has
    not (count + 1) // 2 bytes, and where a level is above LEVELS.
    """
    if nibbles.size != -(-count // 2):
        raise InputError(
            f"{path}: explain_nibbles has {nibbles.size} bytes, wanted {-(-count // 2)} (two of {count} levels each)"
        )
    packed = nibbles.astype(np.uint8)
    level_N = np.stack([packed & 15, packed >> 4], axis=1).ravel()[:count]
    if (level_N > LEVELS).any():
        at = int(np.argmax(level_N > LEVELS))
        raise InputError(f"{path}: explain_nibbles has level {level_N[at]} at index {at}; levels are 0 to {LEVELS}")
    return level_N
