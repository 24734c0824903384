"""Files from outside must be regular and of bounded size, and are unpacked under a limit."""

import gzip
import os
import time

import pytest

from shiftbench.errors import InputError
from shiftbench.readers import UNPACKED, path_of, unpacked
from shiftbench.readers.text_files import user_bytes


def test_a_packed_file_gives_what_was_packed_with_all_its_members():
    content = os.urandom(3 * 2**20)
    assert unpacked(gzip.compress(content[: 2**20]) + gzip.compress(content[2**20 :]) + b"\0" * 512, "x") == content
    assert unpacked(gzip.compress(b""), "x") == b""


@pytest.mark.long
def test_an_archive_that_unpacks_to_far_more_than_its_size_is_refused_before_it_fills_memory():
    bomb = gzip.compress(bytes(4 * UNPACKED), 9)
    started = time.process_time()
    with pytest.raises(InputError, match=r"vectors\.path=v\.txt\.gz: the file has .* unpacks to more than"):
        unpacked(bomb, "vectors.path=v.txt.gz")
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    "damage", [lambda c: c[:-9], lambda c: c[:40], lambda c: c[:30] + b"\xff" * 9 + c[39:], lambda c: c + b"rest"]
)
def test_a_damaged_archive_is_refused(damage):
    with pytest.raises(InputError, match="x: cannot read the file: it is no whole gzip file"):
        unpacked(damage(gzip.compress(os.urandom(1000))), "x")


def test_a_pipe_a_folder_and_a_device_are_named_and_never_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, kind in ((tmp_path / "pipe", "a pipe"), (tmp_path, "a folder"), ("/dev/zero", "a device")):
        with pytest.raises(InputError, match=f"dataset.path={path}: cannot read the file: it is {kind}"):
            user_bytes(str(path), "dataset.path")


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("a\0b", "NUL"),
        ("~nosuchuser/x", "there is no user '~nosuchuser'"),
        ("no/such", "No such file"),
        ("/" + "a" * 300, "too long"),
    ],
)
def test_paths_that_mean_no_file(path, part):
    with pytest.raises(InputError, match=part):
        user_bytes(path, "dataset.path")
    if "no/such" not in path and "a" * 9 not in path:
        with pytest.raises(InputError, match=part):
            path_of(path, "out")
