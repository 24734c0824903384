"""Headers of safetensors and GGUF files: which tensors a file declares, checked before a library opens the file."""

from __future__ import annotations

import mmap
import os
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, TypeGuard

from shiftbench.errors import InputError
from shiftbench.readers.boundary import reading
from shiftbench.readers.files import opened
from shiftbench.readers.strict_json import json_value

LARGEST_HEADER = 100_000_000  # most bytes of a safetensors header; the safetensors library has the same limit
MOST_DIMENSIONS = 8  # most dimensions of one tensor
# The first two bytes of pickled weights: of a zip archive, as torch.save writes it, or of a bare pickle.
PICKLED = (b"PK", *(b"\x80" + bytes([protocol]) for protocol in range(2, 6)))
LFS_POINTER = b"version https://git-lfs.github.com/spec/v1"

# Bits of one value of each safetensors dtype.
BITS = {
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "F8_E8M0": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "F16": 16, "BF16": 16, "U32": 32, "I32": 32, "F32": 32,
    "U64": 64, "I64": 64, "F64": 64, "C64": 64,
}  # fmt: skip

# Type of a GGUF metadata value -> the letter that the module struct has for it. These types have a fixed size. The
# missing types are strings and arrays.
_GGUF_VALUES = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_GGUF_STRING, _GGUF_ARRAY = 8, 9
_GGUF_VERSIONS = (2, 3)


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a file, as the file's header describes it.

    dtype: of a safetensors file the dtype's name ("F32", "I8"), of a GGUF file the number of the GGML type, as a string
    ("0"). shape: as torch has it, which is the reverse of the order in a GGUF file.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def values(self) -> int:
        """How many numbers the tensor has."""
        return prod(self.shape)


@dataclass(frozen=True)
class GgufHeader:
    """The header of a GGUF file. metadata: key -> value; for an array, the value is the number of its elements."""

    metadata: dict[str, Any]
    tensors: tuple[StoredTensor, ...]


def refuse_lfs_pointer(path: Path, what: str) -> None:
    """Raise InputError where a file is a git-lfs pointer, which stands in the place of the real file.

    what: the file as the user named it; messages begin with it. Raises OSError where the file cannot be opened, and
    InputError where it is a folder, a pipe or a device.
    """
    with opened(path, what) as file:
        pointer = file.read(len(LFS_POINTER)) == LFS_POINTER
    if pointer:
        raise InputError(
            f"{what} is a git-lfs pointer of {path.stat().st_size} bytes, which stands for the file; "
            f"run `git lfs pull` in {path.parent}"
        )


def safetensors_header(path: Path, what: str) -> tuple[StoredTensor, ...]:
    """The tensors of a safetensors file, in the order of the file's header.

    what: the file as the user named it; messages begin with it. Raises InputError as safetensors_places does.
    """
    return tuple(tensor for tensor, _, _ in safetensors_places(path, what))


def safetensors_places(path: Path, what: str) -> list[tuple[StoredTensor, int, int]]:
    """The tensors of a safetensors file and where their bytes are, in the order of the file's header.

    Each element is (tensor, offset of the tensor's first byte, offset after its last byte); offsets count bytes from
    the beginning of the file. what: the file as the user named it; messages begin with it. Raises InputError where the
    file cannot be read, is a git-lfs pointer or pickled, where the header is longer than the file or LARGEST_HEADER, is
    no JSON object, gives a key twice or has a malformed entry, where a dtype is not one of BITS or does not fit the
    tensor's shape and bytes, and where the tensors, sorted by offset, do not fill the rest of the file without gaps.
    """
    with reading(f"{what}: cannot read the file"):
        refuse_lfs_pointer(path, what)
        with opened(path, what) as file:
            size = os.fstat(file.fileno()).st_size
            start = file.read(8)
            length = int.from_bytes(start, "little")
            if len(start) < 8 or length > min(size - 8, LARGEST_HEADER):
                if start[:2] in PICKLED:
                    raise InputError(f"{what} is no safetensors file: it is pickled, and unpickling runs code")
                raise InputError(
                    f"{what} is no whole safetensors file: it has {size:,} bytes, and its first 8 say that the header "
                    f"has {length:,}; copy the file again"
                )
            content = file.read(length)
        header = json_value(content, f"{what}: the header")
        if not isinstance(header, dict):
            raise InputError(f"{what}: the header is no JSON object")
        header.pop("__metadata__", None)
        begins = 8 + length
        placed = _placed(header, size - begins, what)
        return [(tensor, begins + begin, begins + end) for tensor, begin, end in placed]


def gguf_header(path: Path, what: str) -> GgufHeader:
    """The header of a GGUF file of version 2 or 3.

    what: the file as the user named it; messages begin with it. Raises InputError where the file cannot be read, is a
    git-lfs pointer or no GGUF file, where it names a key or a tensor twice, where a version or a type in it is not
    known, where its arrays or a tensor have too many dimensions, where general.alignment is no whole number from 1 to
    2**20, and where a length, a count or an offset leads beyond the file's end. Raises it too where the package gguf is
    not installed.
    """
    with reading(f"{what}: cannot read the file"):
        refuse_lfs_pointer(path, what)
        with (
            opened(path, what) as file,
            mmap.mmap(file.fileno(), os.fstat(file.fileno()).st_size or 1, access=mmap.ACCESS_READ) as content,
        ):
            return _GgufReader(content, what).header()


class _GgufReader:
    """Reads the header of a memory-mapped GGUF file from its start. Every length is compared with what the file holds.

    place: the offset of the next byte to be read. _tensor, _value, _string and _unpack read at `place` and advance it.
    """

    def __init__(self, content: mmap.mmap, what: str) -> None:
        self.content, self.what, self.place = content, what, 0

    def header(self) -> GgufHeader:
        """The file's header, with its tensors in the file's order. Raises InputError as gguf_header does."""
        if self.content[:4] != b"GGUF":
            raise InputError(f"{self.what} is no GGUF file")
        self.place = 4
        version, tensor_count, metadata_count = self._unpack("IQQ")
        if version not in _GGUF_VERSIONS:
            raise InputError(f"{self.what}: GGUF version {version} is not known; known are versions 2 and 3")
        self._check_rest(tensor_count, 24)
        self._check_rest(metadata_count, 13)
        metadata: dict[str, Any] = {}
        for _ in range(metadata_count):
            key = self._string()
            if key in metadata:
                raise InputError(f"{self.what} gives the key {key!r} twice")
            (kind,) = self._unpack("I")
            metadata[key] = self._value(kind)
        tensors = [self._tensor() for _ in range(tensor_count)]
        names = [tensor.name for tensor, _ in tensors]
        if len(set(names)) < len(names):
            raise InputError(f"{self.what} names a tensor twice")
        alignment = metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or not 0 < alignment <= 2**20:
            raise InputError(f"{self.what}: general.alignment is {alignment!r}")
        start = -(-self.place // alignment) * alignment
        sizes = _gguf_sizes()
        for tensor, offset in tensors:
            values, stored = sizes.get(int(tensor.dtype), (0, 0))
            if not values:
                raise InputError(f"{self.what}: tensor {tensor.name!r} is of GGML type {tensor.dtype}, not known")
            if start + offset + -(-tensor.values // values) * stored > len(self.content):
                raise InputError(
                    f"{self.what} is no whole GGUF file: tensor {tensor.name!r} of shape {tensor.shape} leads beyond "
                    f"its end; copy the file again"
                )
        return GgufHeader(metadata, tuple(tensor for tensor, _ in tensors))

    def _tensor(self) -> tuple[StoredTensor, int]:
        name = self._string()
        (dimensions,) = self._unpack("I")
        if dimensions > MOST_DIMENSIONS:
            raise InputError(f"{self.what}: tensor {name!r} has {dimensions} dimensions")
        shape = self._unpack(f"{dimensions}Q")
        kind, offset = self._unpack("IQ")
        return StoredTensor(name, str(kind), tuple(reversed(shape))), offset

    def _value(self, kind: int, depth: int = 0) -> Any:
        """A metadata value of type `kind`; for an array, which is skipped, the number of its elements.

        depth: how many arrays the value is inside of. Raises InputError as gguf_header does.
        """
        if kind == _GGUF_STRING:
            return self._string()
        if kind == _GGUF_ARRAY:
            inner, count = self._unpack("IQ")
            if inner in _GGUF_VALUES:
                size = struct.calcsize(f"<{_GGUF_VALUES[inner]}")
                self._check_rest(count, size)
                self.place += count * size
            elif depth < 4:
                self._check_rest(count, 8)
                for _ in range(count):
                    self._value(inner, depth + 1)
            else:
                raise InputError(f"{self.what}: its metadata nests too deeply")
            return count
        if kind not in _GGUF_VALUES:
            raise InputError(f"{self.what}: its metadata has a value of type {kind}, not known")
        return self._unpack(_GGUF_VALUES[kind])[0]

    def _string(self) -> str:
        (length,) = self._unpack("Q")
        self._check_rest(length, 1)
        text = self.content[self.place : self.place + length]
        self.place += length
        return text.decode("utf-8", "surrogateescape")

    def _unpack(self, letters: str) -> tuple[Any, ...]:
        size = struct.calcsize(f"<{letters}")
        self._check_rest(1, size)
        found = struct.unpack_from(f"<{letters}", self.content, self.place)
        self.place += size
        return found

    def _check_rest(self, count: int, size: int) -> None:
        """Raise InputError unless the rest of the file has room for `count` values of `size` bytes."""
        if count * size > len(self.content) - self.place:
            raise InputError(
                f"{self.what} is no whole GGUF file: at byte {self.place:,} it announces more than it holds; "
                f"copy the file again"
            )


def _gguf_sizes() -> dict[int, tuple[int, int]]:
    """A dict GGML type -> (values in one block, bytes of one block). InputError where gguf is not installed."""
    try:
        from gguf.constants import GGML_QUANT_SIZES
    except ImportError:
        raise InputError("a GGUF file needs the package gguf; pip install 'shiftbench[gguf]'") from None

    return {int(kind): size for kind, size in GGML_QUANT_SIZES.items()}


def _placed(header: dict[str, Any], size: int, what: str) -> list[tuple[StoredTensor, int, int]]:
    """(tensor, begin, end) for each tensor of a safetensors header, in its order.

    header: without the key "__metadata__". begin, end: offsets in bytes, counted from the header's end. size: bytes of
    the file after the header. Raises InputError where an entry is malformed, where the bytes of a tensor do not fit its
    dtype and shape, and where the tensors, sorted by offset, do not fill the `size` bytes without gaps.
    """
    placed = []
    for name, entry in header.items():
        tensor, begin, end = _entry(name, entry, what)
        if (end - begin) * 8 != tensor.values * BITS[tensor.dtype]:
            raise InputError(f"{what}: tensor {name!r} of shape {tensor.shape} is given {end - begin:,} bytes")
        placed.append((tensor, begin, end))
    place = 0
    for tensor, begin, end in sorted(placed, key=lambda item: item[1:]):
        if begin != place:
            raise InputError(f"{what}: tensor {tensor.name!r} does not begin where the one before it ends")
        place = end
    if place != size:
        raise InputError(
            f"{what} is no whole safetensors file: its header describes {place:,} bytes of weights, and {size:,} "
            f"follow it; copy the file again"
        )
    return placed


def _entry(name: str, entry: Any, what: str) -> tuple[StoredTensor, int, int]:
    """(tensor, begin, end) of one entry of a safetensors header; offsets as in _placed.

    Raises InputError where the entry is malformed or its dtype is not one of BITS.
    """
    fields: dict[str, Any] = entry if isinstance(entry, dict) else {}
    dtype, shape, offsets = fields.get("dtype"), fields.get("shape"), fields.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in BITS:
        raise InputError(f"{what}: tensor {name!r} has the dtype {dtype!r}, not known")
    if not (_counts(shape, MOST_DIMENSIONS) and _counts(offsets, 2)) or len(offsets) < 2:
        raise InputError(f"{what}: tensor {name!r} has no shape and offsets that can be read")
    return StoredTensor(name, dtype, tuple(shape)), offsets[0], offsets[1]


def _counts(found: Any, max_length: int) -> TypeGuard[list[int]]:
    """Whether a value is a list of at most `max_length` whole numbers from 0 to 2**63 - 1."""
    short = isinstance(found, list) and len(found) <= max_length
    return short and all(type(number) is int and 0 <= number < 2**63 for number in found)
