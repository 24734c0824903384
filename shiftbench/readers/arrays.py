"""Arrays of an untrusted .npz file: the sizes that it declares are checked before it is unpacked.

Nothing is unpickled.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftbench.errors import InputError
from shiftbench.readers.boundary import reading
from shiftbench.readers.files import EXPANSION, LARGEST, UNPACKED, file_bytes

# The compression methods that numpy writes. zipfile does not bound what it unpacks at once by another method.
PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
ENCRYPTED = 1  # the bit of an archive member's flags that says that it is encrypted
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def npz_arrays(path: Path, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """A dict from each of `names` to the array of that name in an .npz file, as np.savez writes it.

    The arrays cannot be written to. Other arrays in the file are not read. Raises InputError where the file cannot be
    read, is no .npz file or is damaged, where it lacks one of the arrays or has any member twice, where a member is
    encrypted or packed by a method that numpy does not write, where the members together declare to unpack to more
    than `_members` allows for the file's size, and where one of the arrays is pickled, is of another version of the
    format than 1.0 and 2.0, or has a header that contradicts its bytes.
    """
    what = str(path)
    with (
        reading(f"{what}: cannot be read as arrays of numbers", "wanted an .npz file with nothing pickled in it"),
        zipfile.ZipFile(io.BytesIO(file_bytes(path, what))) as archive,
    ):
        members = _members(archive, what, path.stat().st_size)
        missing = [name for name in names if f"{name}.npy" not in members]
        if missing:
            raise InputError(f"{what}: array {missing[0]!r} is missing; wanted {', '.join(names)}")
        return {name: _array(_content(archive, members[f"{name}.npy"]), what, name) for name in names}


def _members(archive: zipfile.ZipFile, what: str, size: int) -> dict[str, zipfile.ZipInfo]:
    """The members of an archive by name, such as "levels.npy".

    size: of the archive's file, in bytes. Raises InputError where a name is there twice, where a member is encrypted or
    packed by a method that is not in PACKED, and where the sizes that the members declare add up to more than LARGEST,
    or to more than the larger of UNPACKED bytes and EXPANSION times `size`.
    """
    members: dict[str, zipfile.ZipInfo] = {}
    for member in archive.infolist():
        if member.filename in members:
            raise InputError(f"{what}: the archive holds {member.filename!r} twice")
        if member.compress_type not in PACKED or member.flag_bits & ENCRYPTED:
            raise InputError(f"{what}: {member.filename!r} is encrypted, or packed in a way that numpy does not write")
        members[member.filename] = member
    # `_content` unpacks no more of a member than the size that it declares, so the declared sizes are compared.
    declared = sum(member.file_size for member in members.values())
    limit = min(LARGEST, max(UNPACKED, EXPANSION * size))
    if declared > limit:
        raise InputError(f"{what}: the file has {size:,} bytes and says that it unpacks to {declared:,}")
    return members


def _content(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """A member's bytes, unpacked only up to the size that it declares."""
    with archive.open(member) as file:
        # ZipFile.read, and read() without a size, would unpack up to 1 GiB before cutting it to the declared size.
        return file.read(member.file_size)


def _array(content: bytes, what: str, name: str) -> NDArray[Any]:
    """The array in the bytes of an .npy file; it cannot be written to.

    name: of the array, for messages. Raises InputError where the version of the format is neither 1.0 nor 2.0, where
    the array is pickled, and where its header contradicts its bytes; ValueError where the bytes have no such header.
    """
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    if version not in HEADERS:
        raise InputError(f"{what}: array {name!r} has the npy version {version}, wanted 1.0 or 2.0")
    shape, fortran, kind = HEADERS[version](file)
    if kind.hasobject:
        raise InputError(f"{what}: array {name!r} is pickled; wanted an .npz file with nothing pickled in it")
    count, rest = math.prod(shape), len(content) - file.tell()
    if min(shape, default=0) < 0 or kind.itemsize == 0 or count * kind.itemsize != rest:
        raise InputError(f"{what}: array {name!r} has {rest:,} bytes, and its header says shape {shape} of {kind}")
    found: NDArray[Any] = np.frombuffer(content, kind, count, file.tell())
    return found.reshape(shape, order="F" if fortran else "C")
