"""Untrusted .npz files: damage and absurd sizes end in one InputError, and nothing is unpickled."""

import io
import pickle
import random
import struct
import time
import tracemalloc
import warnings
import zipfile

import numpy as np
import pytest

from shiftbench.errors import InputError
from shiftbench.readers.arrays import npz_arrays

NAMES = ("a", "b")


def content(**arrays):
    file = io.BytesIO()
    np.savez_compressed(file, **{"a": np.arange(5), "b": np.zeros((2, 3), np.uint8, order="F"), **arrays})
    return file.getvalue()


def members(*named, method=zipfile.ZIP_DEFLATED):
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w", method) as archive:
        warnings.simplefilter("ignore")  # zipfile warns of a name given twice
        for name, body in named:
            archive.writestr(name, body)
    return file.getvalue()


def declaring(archive, size, other):
    """The archive, in which the member of that size declares another one."""
    return archive.replace(struct.pack("<I", size), struct.pack("<I", other))


def npy(shape, kind, body=b"", version=1):
    header = f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': {shape!r}}}".encode()
    length = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + length + header + body


GOOD = npy((2,), "<i4", bytes(8))


def read(tmp_path, found):
    path = tmp_path / "x.npz"
    path.write_bytes(found)
    return npz_arrays(path, NAMES)


def test_arrays_are_those_that_numpy_wrote(tmp_path):
    found = read(tmp_path, content(b=np.asfortranarray(np.arange(6.0).reshape(2, 3)), other=np.arange(3)))
    assert found.keys() == set(NAMES) and found["a"].tolist() == [0, 1, 2, 3, 4]
    assert found["b"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert read(tmp_path, members(("a.npy", GOOD), ("b.npy", npy((0,), "<i4", version=2))))["b"].shape == (0,)


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (b"", "not a zip file"),
        (GOOD, "not a zip file"),  # an .npy file with the name of an .npz file
        (pickle.dumps(print), "not a zip file"),
        (content()[:-30], "not a zip file"),
        (members(("a.npy", GOOD)), "array 'b' is missing"),
        (members(("a.npy", GOOD), ("b.txt", GOOD)), "array 'b' is missing"),
        (members(("a.npy", GOOD), ("b.npy", GOOD), ("a.npy", GOOD)), "holds 'a.npy' twice"),
        (members(("a.npy", GOOD), ("b.npy", GOOD), method=zipfile.ZIP_LZMA), "packed in a way that numpy does not"),
        (members(("a.npy", GOOD), ("b.npy", b"")), "EOF|magic|short"),
        (members(("a.npy", GOOD), ("b.npy", pickle.dumps([1]))), "magic"),
        (members(("a.npy", GOOD), ("b.npy", npy((2,), "|O", bytes(16)))), "is pickled"),
        (members(("a.npy", GOOD), ("b.npy", npy((2**60, 2**60), "<i8"))), "has 0 bytes, and its header says shape"),
        (members(("a.npy", GOOD), ("b.npy", npy((10**12,), "|u1", bytes(9)))), "has 9 bytes"),
        (members(("a.npy", GOOD), ("b.npy", npy((-1, -8), "|u1", bytes(8)))), "has 8 bytes"),
        (members(("a.npy", GOOD), ("b.npy", npy((2**62, 4, 0), "|V0"))), "has 0 bytes"),
        (members(("a.npy", GOOD), ("b.npy", npy((2,), "<i4", bytes(8), version=3))), "npy version"),
        (members(("a.npy", GOOD), ("b.npy", npy("x", "<i4"))), "shape"),
        (members(("a.npy", GOOD), ("b.npy", npy((2,), "evil"))), "descr|dtype"),
        (declaring(members(("a.npy", GOOD), ("b.npy", bytes(300))), 300, 600 * 2**20), "says that it unpacks to"),
    ],
    ids=range(19),
)
def test_what_is_no_archive_of_numbers_is_refused(tmp_path, found, reason):
    began = time.process_time()
    with pytest.raises(InputError, match=rf"x\.npz: .*({reason})"):
        read(tmp_path, found)
    assert time.process_time() - began < 5


def test_a_size_that_is_declared_smaller_than_it_is_unpacks_to_no_more(tmp_path):
    body = npy((2**20,), "|u1", bytes(2**20))
    found = members(("a.npy", GOOD), ("b.npy", body))
    with pytest.raises(InputError, match=r"x\.npz: "):
        read(tmp_path, declaring(found, len(body), 200))


def test_what_unpacks_to_more_than_it_declares_takes_no_memory_for_it(tmp_path):
    """The 64 MiB of this member are 64 kB when packed, and it declares 200 bytes."""
    body = npy((2**26,), "|u1", bytes(2**26))
    found = declaring(members(("a.npy", body)), len(body), 200)
    del body
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=r"x\.npz: "):
            read(tmp_path, found)
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()


def test_any_damaged_byte_is_read_or_refused(tmp_path):
    whole, draw = content(), random.Random(0)
    for _ in range(400):
        damaged = bytearray(whole)
        for _ in range(draw.choice([1, 1, 4])):
            damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
        try:
            read(tmp_path, bytes(damaged[: draw.choice([len(whole), draw.randrange(len(whole))])]))
        except InputError as error:
            assert "x.npz" in str(error)
