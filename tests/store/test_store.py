"""The store returns units as they were stored, byte for byte, whatever happens to its writers and its files."""

from __future__ import annotations

import errno
import itertools
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from shiftbench.errors import InputError, Unreadable, Unwritable
from shiftbench.store import entry as entry_module
from shiftbench.store import store as store_module
from shiftbench.store.explanation import Unit, content_key
from shiftbench.store.sharing import take_or_compute
from shiftbench.store.store import Store, print_entries, prune_and_print, verify_and_print
from shiftbench.store.work import Work

# Children are forked from a server that has imported torch once and run nothing on it: real processes, quickly made.
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["shiftbench.store.store"])

ODD_WORDS = ["", " Ġthe", "\ud83d", "\ud83d\ude00", "😀", "\x00\x1f\u2028", "e\u0301", "é", '"\\\n', "\udcff"]


def record_of(number: int) -> dict[str, object]:
    return {"method": "attribution", "version": 1, "weights": "ab" * 32, "number": number}


def unit_of(number: int, rows: int = 50) -> Unit:
    return Unit({"value_PR": torch.full((rows, 40), float(number))}, {"tokens": [str(number)]})


def put_number(store: Store, number: int) -> str:
    key = content_key(record_of(number))
    store.put(key, unit_of(number), record_of(number))
    return key


def assert_same(found: Unit | None, wanted: Unit) -> None:
    assert found is not None
    assert found.words == wanted.words
    assert found.arrays.keys() == wanted.arrays.keys()
    for name, array in wanted.arrays.items():
        assert found.arrays[name].dtype == array.dtype
        assert found.arrays[name].shape == array.shape
        assert torch.equal(found.arrays[name].view(torch.uint8), array.contiguous().view(torch.uint8))


def leftovers(store: Store) -> list[Path]:
    return [path for path in (store.path / "tmp").iterdir() if path.name != "lock"]


# What goes in comes out


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.int16, torch.uint8]
)
def test_every_dtype_and_shape_comes_back(tmp_path: Path, dtype: torch.dtype) -> None:
    store = Store(tmp_path)
    shapes = [(3, 4), (1,), (0,), (0, 7), (2, 0, 3)]
    unit = Unit({f"array_{i}": torch.arange(24).to(dtype)[: _count(s)].reshape(s) for i, s in enumerate(shapes)})
    store.put("a" * 64, unit, {})
    assert_same(store.get("a" * 64), unit)


def _count(shape: tuple[int, ...]) -> int:
    return torch.Size(shape).numel()


def test_masks_views_scalars_and_nothing_at_all(tmp_path: Path) -> None:
    store = Store(tmp_path)
    whole_PR = torch.arange(12.0).reshape(3, 4)
    arrays = {
        "mask_P": torch.tensor([True, False]),
        "transposed_RP": whole_PR.T,
        "row_R": whole_PR[1],
        "same_row_R": whole_PR[1],
        "special_4": torch.tensor([float("nan"), float("inf"), -0.0, 5e-324], dtype=torch.float64),
    }
    store.put("b" * 64, Unit(arrays), {})
    assert_same(store.get("b" * 64), Unit(arrays))
    store.put("c" * 64, Unit({"scalar": torch.tensor(7)}), {})
    found = store.get("c" * 64)
    assert found is not None and found.arrays["scalar"].item() == 7
    store.put("d" * 64, Unit({}), {})
    assert store.get("d" * 64) == Unit({})


def test_odd_strings_survive_in_words_and_record(tmp_path: Path) -> None:
    store = Store(tmp_path)
    record = {"text": ODD_WORDS, "\udc80": {"nested": [1, 0.1, None, True]}}
    key = content_key(record)
    store.put(key, Unit({}, {"tokens": ODD_WORDS, "none": []}), record)
    found = store.get(key)
    assert found is not None and found.words == {"tokens": ODD_WORDS, "none": []}
    assert [item.record for item in store.entries()] == [record]


def test_changing_an_array_from_the_store_does_not_change_the_store(tmp_path: Path) -> None:
    store = Store(tmp_path)
    key = put_number(store, 3)
    first = store.get(key)
    assert first is not None
    first.arrays["value_PR"].zero_()
    assert_same(store.get(key), unit_of(3))


def test_absent_is_none_and_says_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert Store(tmp_path).get("0" * 64) is None
    assert not caplog.records


@pytest.mark.parametrize("key", ["", "../../../etc/passwd", "A" * 64, "a" * 63, "a" * 65, "a" * 64 + "\n", "/" * 64])
def test_a_key_that_is_no_digest_is_refused(tmp_path: Path, key: str) -> None:
    store = Store(tmp_path)
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        store.get(key)
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        store.put(key, unit_of(1), {})


def test_what_cannot_be_stored_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(ValueError, match="safetensors has no dtype"):
        store.put("a" * 64, Unit({"z": torch.zeros(2, dtype=torch.complex128)}), {})
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.put("a" * 64, unit_of(1), {"cutoff": float("nan")})
    assert not list(store.entries()) and not leftovers(store)


# Damage


def test_any_changed_byte_is_seen(tmp_path: Path) -> None:
    store = Store(tmp_path)
    unit = Unit({"value_P": torch.arange(3.0)}, {"tokens": ["a"]})
    store.put("a" * 64, unit, {"method": "x"})
    for name in (entry_module.ARRAYS, entry_module.RECORD):
        file = tmp_path / "aa" / ("a" * 64) / name
        whole = file.read_bytes()
        for place in range(len(whole)):
            file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            assert [item.key for item in store.verify()] == ["a" * 64], f"{name}: byte {place}"
        file.write_bytes(whole)
    assert store.verify() == []


def _truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def _lengthen(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"\n")


def _replace_folder_by_file(file: Path) -> None:
    shutil.rmtree(file.parent)
    file.parent.write_text("not a folder")


@pytest.mark.parametrize("name", [entry_module.ARRAYS, entry_module.RECORD])
@pytest.mark.parametrize(
    "damage", [_truncate, _lengthen, Path.unlink, lambda f: f.write_bytes(b""), _replace_folder_by_file]
)
def test_a_damaged_entry_is_logged_removed_and_stored_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, damage: Callable[[Path], None]
) -> None:
    store = Store(tmp_path)
    key, other = put_number(store, 1), put_number(store, 2)
    damage(tmp_path / key[:2] / key / name)
    assert [item.key for item in store.verify()] == [key]
    assert store.get(key) is None
    assert len(caplog.records) == 1 and key in caplog.text and "damaged" in caplog.text
    assert not (tmp_path / key[:2] / key).exists() and not leftovers(store)
    put_number(store, 1)
    assert_same(store.get(key), unit_of(1))
    assert_same(store.get(other), unit_of(2))


@pytest.mark.parametrize("damage", [_truncate, Path.unlink, _replace_folder_by_file])
def test_put_replaces_a_damaged_entry_that_was_not_read(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    store = Store(tmp_path)
    key = put_number(store, 1)
    damage(tmp_path / key[:2] / key / entry_module.ARRAYS)
    put_number(store, 1)
    assert_same(store.get(key), unit_of(1))


PASSING = [*(OSError(number, os.strerror(number)) for number in (errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ESTALE,
           errno.EACCES, errno.ETIMEDOUT)), MemoryError()]  # fmt: skip


@pytest.fixture
def failing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Store, str, Unit]]:
    """A store whose files of one name cannot be read until `monkeypatch.undo`, with the key and unit that it holds."""

    def make(name: str, error: Exception) -> tuple[Store, str, Unit]:
        store, read = Store(tmp_path), entry_module.file_bytes
        key = put_number(store, 1)

        def fail(path: Path, what: str, most: int) -> bytes:
            if path.name == name:
                raise error
            return read(path, what, most)

        monkeypatch.setattr(entry_module, "file_bytes", fail)
        return store, key, unit_of(1)

    return make


@pytest.mark.parametrize("name", [entry_module.ARRAYS, entry_module.RECORD])
@pytest.mark.parametrize("error", PASSING, ids=repr)
def test_a_unit_that_the_system_cannot_read_stays_and_is_no_damage(
    failing: Callable[..., tuple[Store, str, Unit]], monkeypatch: pytest.MonkeyPatch, name: str, error: Exception
) -> None:
    store, key, unit = failing(name, error)
    why = getattr(error, "strerror", None) or "not enough memory"
    with pytest.raises(Unreadable, match=rf"{key} cannot be read now \({why}\).*left as it is.*same command") as raised:
        store.get(key)
    assert raised.value.errno == getattr(error, "errno", errno.ENOMEM) and "\n" not in str(raised.value)
    [item] = store.verify(repair=True)
    assert (item.damage, item.unread) == (None, why)
    if name == entry_module.RECORD:
        assert store.prune(older_than_days=0).entries == 0
    monkeypatch.undo()
    assert_same(store.get(key), unit)
    assert store.verify() == []


def test_memory_that_runs_out_after_reading_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    key = put_number(store, 1)

    def fail(_: bytes) -> None:
        raise MemoryError

    for module, name in ((entry_module.safetensors.torch, "load"), (entry_module, "json_value")):
        monkeypatch.setattr(module, name, fail)
        with pytest.raises(Unreadable, match="not enough memory"):
            store.get(key)
        monkeypatch.undo()
        assert_same(store.get(key), unit_of(1))


def test_without_free_file_handles_no_unit_is_removed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    key = put_number(store, 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    next_free = os.dup(0)
    os.close(next_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (next_free, hard))
    try:
        with pytest.raises(Unreadable, match="Too many open files"):
            store.get(key)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert_same(store.get(key), unit_of(1))


def test_put_keeps_a_unit_that_cannot_be_read_now(
    failing: Callable[..., tuple[Store, str, Unit]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    store, key, unit = failing(entry_module.ARRAYS, PASSING[0])
    store.put(key, unit_of(2), record_of(1))
    assert key in caplog.text and not leftovers(store)
    monkeypatch.undo()
    assert_same(store.get(key), unit)


def test_the_verbs_tell_units_that_cannot_be_read_from_damaged_ones(
    failing: Callable[..., tuple[Store, str, Unit]], capsys: pytest.CaptureFixture[str]
) -> None:
    store, key, _ = failing(entry_module.RECORD, PASSING[0])
    config = OmegaConf.create({"store": {"path": str(store.path)}, "repair": True})
    assert print_entries(config) == 0
    assert "(not read)" in capsys.readouterr().out
    assert verify_and_print(config) == 1
    out = capsys.readouterr().out
    assert f"{key}: cannot be read now: Input/output error\n0 damaged units" in out and "1 units cannot be read" in out


def test_an_entry_under_a_foreign_key_is_damage(tmp_path: Path) -> None:
    store = Store(tmp_path)
    key = put_number(store, 1)
    (tmp_path / "ff").mkdir()
    shutil.copytree(tmp_path / key[:2] / key, tmp_path / "ff" / ("f" * 64))
    assert [(item.key, item.damage) for item in store.verify()] == [("f" * 64, f"record.json belongs to {key}")]
    assert len(store.verify(repair=True)) == 1
    assert store.verify() == []
    assert_same(store.get(key), unit_of(1))


def _into_a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def _into_a_loop(file: Path) -> None:
    file.unlink()
    file.symlink_to(file.name)


def _into_a_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)  # reading it would wait for ever


def _into_a_huge_hole(file: Path) -> None:
    os.truncate(file, 2**42)  # takes no room on the disk, and would take 4 TiB of memory


def _entry_into_a_loop(file: Path) -> None:
    shutil.rmtree(file.parent)
    file.parent.symlink_to(file.parent.name)


def _entry_into_a_pipe(file: Path) -> None:
    shutil.rmtree(file.parent)
    os.mkfifo(file.parent)


@pytest.mark.long
@pytest.mark.parametrize("name", [entry_module.ARRAYS, entry_module.RECORD])
@pytest.mark.parametrize(
    "damage",
    [_into_a_folder, _into_a_loop, _into_a_pipe, _into_a_huge_hole, _entry_into_a_loop, _entry_into_a_pipe],
)
def test_what_is_no_file_is_damage_and_nothing_waits_for_it(
    tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    store = Store(tmp_path)
    key = put_number(store, 1)
    file = tmp_path / key[:2] / key / name
    damage(file)
    assert [item.key for item in store.verify()] == [key] and len(list(store.entries())) == 1
    assert store.prune().entries == 0
    put_number(store, 1)
    assert_same(store.get(key), unit_of(1))
    assert store.verify() == [] and not leftovers(store)


GOOD = {"key": "a" * 64, "created": "2026-01-01T00:00:00+00:00", "arrays": "0" * 64, "words": {}, "record": {}}


@pytest.mark.parametrize(
    "body",
    [
        "null", "[]", "3", "{}", "[" * 100_000, '{"key": ' + "9" * 5000 + "}", "not json", "\x00",
        *(
            json.dumps({**GOOD, **change})
            for change in (
                {"created": "yesterday"}, {"created": 3}, {"created": None}, {"created": "2026-01-01T00:00:00"},
                {"created": "0001-01-01T00:00:00+00:00"}, {"words": []}, {"words": {"a": "b"}}, {"words": {"a": [1]}},
                {"words": None}, {"record": []}, {"record": None}, {"arrays": 3}, {"key": 3}, {"more": 1},
            )
        ),
        json.dumps({name: value for name, value in GOOD.items() if name != "words"}),
    ],
)  # fmt: skip
def test_a_wrong_body_with_a_right_checksum_is_damage(tmp_path: Path, body: str) -> None:
    store = Store(tmp_path)
    store.put("a" * 64, unit_of(1), {})
    (tmp_path / "aa" / ("a" * 64) / entry_module.RECORD).write_bytes(entry_module._with_checksum(body.encode()))
    assert [item.damage is not None for item in store.entries()] == [True]
    assert len(store.verify()) == 1 and store.prune(older_than_days=0).entries <= 1
    assert store.get("a" * 64) is None


@pytest.mark.parametrize(
    "packed", [b"", b"junk", b"\xff" * 8, (2**40).to_bytes(8, "little"), b"\x02" + bytes(7) + b"[]"]
)
def test_wrong_arrays_with_a_right_checksum_are_damage(tmp_path: Path, packed: bytes) -> None:
    store = Store(tmp_path)
    store.put("a" * 64, unit_of(1), {})
    folder = tmp_path / "aa" / ("a" * 64)
    body = json.dumps({**GOOD, "arrays": entry_module._digest(packed)}).encode()
    (folder / entry_module.RECORD).write_bytes(entry_module._with_checksum(body))
    (folder / entry_module.ARRAYS).write_bytes(packed)
    assert len(store.verify()) == 1 and store.get("a" * 64) is None


@pytest.mark.parametrize("record", [{"weights": 3}, {"weights": None}, {"weights": {"a": 1}}, {"method": ["x"]}])
def test_a_record_of_another_kind_is_listed(
    tmp_path: Path, record: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path)
    store.put("a" * 64, unit_of(1), record)
    assert print_entries(OmegaConf.create({"store": {"path": str(tmp_path)}})) == 0
    assert "1 units" in capsys.readouterr().out
    assert store.prune(weights="ff").entries == 0 and store.prune(method="x").entries == 0


def _file(path: Path) -> None:
    path.write_text("in the way")


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def _nowhere(path: Path) -> None:
    path.symlink_to("/no/such/place")


@pytest.mark.parametrize("place", ["", "tmp", "claims", "tmp/lock"])
@pytest.mark.parametrize("made", [_file, _loop, _nowhere, Path.mkdir, os.mkfifo])
def test_a_store_in_whose_place_something_else_is(tmp_path: Path, place: str, made: Callable[[Path], None]) -> None:
    """Either it is refused in one line, or it works. It never waits."""
    root = tmp_path / "store"
    where = root / place if place else root
    where.parent.mkdir(parents=True, exist_ok=True)
    made(where)
    try:
        store = Store(root)
    except InputError as error:
        assert str(root) in str(error) and "store.path=DIR" in str(error) and "\n" not in str(error)
        return
    put_number(store, 1)
    assert store.verify() == []


@pytest.mark.parametrize("made", [_loop, _nowhere, Path.mkdir, os.mkfifo])
def test_a_claim_in_whose_place_something_else_is(tmp_path: Path, made: Callable[[Path], None]) -> None:
    store = Store(tmp_path)
    made(tmp_path / "claims" / ("a" * 64))
    with pytest.raises(Unwritable, match="claims"), store.claim("a" * 64):
        pass
    made(tmp_path / "tmp" / "left")
    store.prune()
    assert not leftovers(store)


@pytest.mark.parametrize("path", ["~nosuch/x", "a\0b", "x" * 300])
def test_a_path_that_is_none_is_refused(path: str) -> None:
    with pytest.raises(InputError, match=r"store\.path="):
        Store(path)


# Writers that are killed, that race, that have no room


def write_forever(root: Path, first: int) -> None:
    store = Store(root)
    for number in itertools.count(first):
        put_number(store, number)


@pytest.mark.long
def test_kill_9_at_random_moments_loses_at_most_the_unit_in_hand(tmp_path: Path) -> None:
    store = Store(tmp_path)
    seed = random.SystemRandom().randrange(2**32)
    moments = random.Random(seed)
    stored = 0
    for _ in range(8):
        writer = processes.Process(target=write_forever, args=(tmp_path, stored))
        writer.start()
        _wait_for_more(store, stored, writer)
        time.sleep(moments.uniform(0, 0.1))
        os.kill(writer.pid or 0, signal.SIGKILL)
        writer.join()
        assert store.verify() == [], f"seed {seed}"
        numbers = sorted(int(item.record["number"]) for item in store.entries())
        # The units are stored in order, so one that is missing among them was half-written or lost.
        assert numbers == list(range(len(numbers))), f"seed {seed}"
        stored = len(numbers)
    for item in store.entries():
        assert_same(store.get(item.key), unit_of(int(item.record["number"])))
    store.prune()
    assert not leftovers(store) and len(list(store.entries())) == stored


def _wait_for_more(store: Store, stored: int, writer: multiprocessing.process.BaseProcess) -> None:
    until = time.monotonic() + 120
    while len(list(store.entries())) <= stored:
        assert writer.is_alive(), f"the writer ended with {writer.exitcode}"
        assert time.monotonic() < until, "nothing was stored for two minutes"
        time.sleep(0.005)


def put_and_die(root: Path, call: str, turn: int) -> None:
    """Put unit 7, killed just before the turn-th call of an os function."""
    store, real, turns = Store(root), getattr(os, call), itertools.count(1)

    def deadly(*arguments: object) -> object:
        if next(turns) == turn:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments)

    setattr(os, call, deadly)
    put_number(store, 7)


@pytest.mark.parametrize(
    ("call", "turn", "there"), [("fsync", 1, 0), ("fsync", 2, 0), ("fsync", 3, 0), ("rename", 1, 0), ("fsync", 4, 1)]
)
def test_killed_at_each_step_of_a_put(tmp_path: Path, call: str, turn: int, there: int) -> None:
    writer = processes.Process(target=put_and_die, args=(tmp_path, call, turn))
    writer.start()
    writer.join()
    assert writer.exitcode == -signal.SIGKILL
    store = Store(tmp_path)
    assert len(list(store.entries())) == there and store.verify() == []
    assert len(leftovers(store)) == 1
    pruned = store.prune(dry_run=True)
    assert pruned.leftovers == 1 and len(leftovers(store)) == 1
    assert store.prune() == pruned
    assert not leftovers(store) and len(list(store.entries())) == there
    put_number(store, 7)
    assert_same(store.get(content_key(record_of(7))), unit_of(7))


def put_when_told(
    root: Path, at_work: multiprocessing.synchronize.Event, go: multiprocessing.synchronize.Event
) -> None:
    """Put unit 7, but stop when half of it is written, until `go` is set."""
    store, real = Store(root), os.fsync

    def patient(handle: int) -> None:
        at_work.set()
        assert go.wait(120)
        real(handle)

    setattr(os, "fsync", patient)  # noqa: B010 - mypy refuses the plain assignment
    put_number(store, 7)


def test_prune_leaves_a_living_writer_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "SWEEP_WAIT", 0.1)
    store, at_work, go = Store(tmp_path), processes.Event(), processes.Event()
    writer = processes.Process(target=put_when_told, args=(tmp_path, at_work, go))
    writer.start()
    assert at_work.wait(120)
    assert len(leftovers(store)) == 1
    assert store.prune().leftovers == 0 and len(leftovers(store)) == 1
    go.set()
    writer.join()
    assert writer.exitcode == 0
    assert_same(store.get(content_key(record_of(7))), unit_of(7))
    assert not leftovers(store)


def put_as(root: Path, writer: int, start: multiprocessing.synchronize.Barrier) -> None:
    store = Store(root)
    for number in range(60):
        start.wait(120)
        unit = Unit({"writer_P": torch.full((1000,), writer)}, {"writer": [str(writer)]})
        store.put(content_key(record_of(number)), unit, record_of(number))
        assert store.get(content_key(record_of(number))) is not None


def test_two_processes_that_race_for_a_key_agree(tmp_path: Path) -> None:
    start = processes.Barrier(2)
    writers = [processes.Process(target=put_as, args=(tmp_path, writer, start)) for writer in (1, 2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    store = Store(tmp_path)
    assert len(list(store.entries())) == 60 and store.verify() == [] and not leftovers(store)
    for item in store.entries():
        found = store.get(item.key)
        assert found is not None
        assert found.arrays["writer_P"].unique().tolist() == [int(found.words["writer"][0])]


def test_the_second_put_of_a_key_changes_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    key = put_number(store, 1)
    record = tmp_path / key[:2] / key / entry_module.RECORD
    before = record.stat()
    put_number(store, 1)
    after = record.stat()
    # A replaced file is another inode, a file written again has another time. The time of its last reading may change.
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_an_entry_that_comes_while_it_is_looked_for_is_not_taken_for_a_damaged_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Another process puts it in place between the first check for its file and the check for its folder."""
    store, key, read = Store(tmp_path), content_key(record_of(1)), entry_module.file_bytes

    def late(path: Path, what: str, most: int) -> bytes:
        if store._folder(key).exists():
            return read(path, what, most)
        put_number(store, 1)
        raise FileNotFoundError(path)

    monkeypatch.setattr(entry_module, "file_bytes", late)
    assert_same(store.get(key), unit_of(1))
    assert not caplog.text


def test_a_file_beyond_the_limit_of_size_is_reported_and_leaves_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(OSError, match=r"store\.path=DIR") as raised:
            put_number(store, 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert raised.value.errno == errno.EFBIG and str(tmp_path) in str(raised.value)
    assert not leftovers(store) and not list(store.entries())


@pytest.mark.parametrize(
    ("limit", "unit", "size"),
    [
        ("LARGEST_ARRAYS", Unit({"value_P": torch.zeros(300)}), "arrays have 1,200 bytes"),
        ("LARGEST_ARRAYS", Unit({"value_P": torch.zeros(249)}), "arrays have 1,... bytes"),  # with its header
        ("LARGEST_RECORD", Unit({}, {"tokens": ["é" * 600]}), "words and record have 1,... bytes"),
    ],
)
def test_a_unit_that_is_too_large_to_be_read_is_refused_and_the_others_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, unit: Unit, size: str
) -> None:
    monkeypatch.setattr(entry_module, limit, 1000)
    store = Store(tmp_path)
    small, large = ({"method": "rotation", "layer": layer} for layer in (1, 2))
    units = [Unit({"value_P": torch.zeros(3)}), unit]
    work = [
        Work(str(number), content, lambda number=number: units[number])  # type: ignore[misc]
        for number, content in enumerate((small, large))
    ]
    done = take_or_compute(store, work)
    assert next(done)[0] is work[0]
    with pytest.raises(
        InputError, match=rf"{work[1].key[:12]} \(method rotation, layer 2\).*{size}.* 1,000 "
    ) as raised:
        next(done)
    assert "shorter prompt" in str(raised.value) and "\n" not in str(raised.value)
    assert not leftovers(store) and [item.key for item in store.entries()] == [work[0].key]
    assert store.verify() == [] and store.get(work[1].key) is None


def test_of_units_computed_together_only_the_too_large_one_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entry_module, "LARGEST_ARRAYS", 1000)
    units = [Unit({"value_P": torch.zeros(size)}) for size in (3, 300, 4)]

    def batch(_: object) -> Iterator[tuple[int, Unit]]:
        yield from enumerate(units)

    store, nothing = Store(tmp_path), lambda: pytest.fail("there is a faster way")
    work = [Work(str(number), {"number": number}, nothing, batch) for number in range(3)]  # type: ignore[arg-type]
    with pytest.raises(InputError, match=f"{work[1].key[:12]} cannot be stored"):
        list(take_or_compute(store, work))
    assert {item.key for item in store.entries()} == {work[0].key, work[2].key}


def test_units_of_the_largest_size_are_stored_and_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = entry_module.encode("a" * 64, unit_of(1), {})
    for limit, name in (("LARGEST_ARRAYS", entry_module.ARRAYS), ("LARGEST_RECORD", entry_module.RECORD)):
        monkeypatch.setattr(entry_module, limit, len(files[name]))
    store = Store(tmp_path)
    store.put("a" * 64, unit_of(1), {})
    assert_same(store.get("a" * 64), unit_of(1))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no small file system can be mounted here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_is_reported_and_keeps_what_it_has(small_disk: Path) -> None:
    store = Store(small_disk / "store")
    kept = put_number(store, 1)
    large = Unit({"value_PR": torch.zeros(5 * 2**18)})
    with pytest.raises(OSError, match=r"5\.0 MiB are needed, .* are free; .*missing; make room.*prune") as raised:
        store.put("a" * 64, large, {})
    assert raised.value.errno == errno.ENOSPC and str(store.path) in str(raised.value)
    assert f"the disk at {small_disk} is full" in str(raised.value)
    assert not leftovers(store)
    assert_same(store.get(kept), unit_of(1))
    with pytest.raises(OSError, match="No space left"):
        (small_disk / "filler").write_bytes(bytes(5 * 2**20))
    with pytest.raises(InputError, match="is full"):
        Store(small_disk / "another")


def test_a_full_store_gives_what_it_holds_and_refuses_before_anything_is_computed(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = put_number(Store(small_disk), 1)
    with pytest.raises(OSError, match="No space left"):
        (small_disk / "filler").write_bytes(bytes(5 * 2**20))
    store = Store(small_disk)
    assert "is full" in caplog.text
    assert_same(store.get(kept), unit_of(1))
    missing = content_key(record_of(2))
    with pytest.raises(InputError, match=r"is full: .*; choose another with store\.path=DIR"), store.claim(missing):
        pass
    with pytest.raises(InputError, match="is full"):
        store.check_writable()
    assert store.prune(older_than_days=1e3).entries == 0  # a full store may be emptied
    (small_disk / "filler").unlink()
    with store.claim(missing) as mine:  # room was made meanwhile
        assert mine
        put_number(store, 2)
    assert_same(store.get(missing), unit_of(2))


def test_a_store_that_may_only_be_read_serves_what_it_holds(small_disk: Path) -> None:
    kept = put_number(Store(small_disk), 1)
    spoiled = put_number(Store(small_disk), 2)
    (small_disk / spoiled[:2] / spoiled / entry_module.ARRAYS).write_bytes(b"")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    store = Store(small_disk)
    assert_same(store.get(kept), unit_of(1))
    assert store.get(spoiled) is None
    for change in (store.prune, lambda: store.verify(repair=True)):
        with pytest.raises(InputError, match="cannot be written: Read-only"):
            change()
    assert [item.key for item in store.verify()] == [spoiled]
    with pytest.raises(InputError, match="cannot be written: Read-only"), store.claim(spoiled):
        pass


# Where it is


def test_the_default_place_is_the_users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert Store(None).path == tmp_path / "shiftbench" / "explanations"


def test_a_relative_path_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = Store("kept here")
    monkeypatch.chdir("/")
    put_number(store, 1)
    assert len(list(Store(tmp_path / "kept here").entries())) == 1


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"store of explanations .*file.* cannot be written.*store\.path=DIR"):
        Store(tmp_path / "file")


def test_a_folder_without_permission_is_refused() -> None:
    folder = Path(os.path.realpath("/tmp")) / f"shiftbench-locked-{os.getpid()}"
    folder.mkdir(mode=0o555)
    was = os.geteuid()
    try:
        if was == 0:  # root may write everywhere, so be nobody for a moment
            os.seteuid(65534)
        with pytest.raises(InputError, match="Permission denied"):
            Store(folder / "store")
    finally:
        os.seteuid(was)
        folder.rmdir()


# Looking after it


@pytest.fixture
def filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Entries of two methods and two models, one of them of a pair. Number 3 was stored forty days ago."""
    store = Store(tmp_path)
    made = [("attribution", "aa" * 32), ("attribution", "bb" * 32), ("rotation", ["aa" * 32, "bb" * 32])]
    for number, (method, weights) in enumerate(made):
        record = {"method": method, "weights": weights, "number": number}
        store.put(content_key(record), unit_of(number), record)

    class LongAgo(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) - timedelta(days=40)

    with monkeypatch.context() as patch:
        patch.setattr(entry_module, "datetime", LongAgo)
        put_number(store, 3)
    return store


@pytest.mark.parametrize(
    ("conditions", "removed"),
    [
        ({}, []),
        ({"older_than_days": 30}, [3]),
        ({"older_than_days": 41}, []),
        ({"older_than_days": 0}, [0, 1, 2, 3]),
        ({"method": "rotation"}, [2]),
        ({"weights": "bbbb"}, [1, 2]),
        ({"weights": "bbbb", "method": "attribution"}, [1]),
        ({"method": "attr"}, []),
    ],
)
def test_prune_removes_what_meets_every_condition(
    filled: Store, conditions: dict[str, Any], removed: list[int]
) -> None:
    sizes = {item.record["number"]: item.size for item in filled.entries()}
    told = filled.prune(dry_run=True, **conditions)
    assert {item.record["number"] for item in filled.entries()} == {0, 1, 2, 3}
    pruned = filled.prune(**conditions)
    assert pruned == told
    assert (pruned.entries, pruned.bytes) == (len(removed), sum(sizes[number] for number in removed))
    assert {item.record["number"] for item in filled.entries()} == {0, 1, 2, 3} - set(removed)


def test_the_verbs_say_what_there_is_what_is_wrong_and_what_went(
    filled: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"store": {"path": str(filled.path)}, "repair": False, "older_than_days": None, "method": "rotation"}
    config = OmegaConf.create({**options, "weights": None, "dry_run": True})
    assert print_entries(config) == 0
    out = capsys.readouterr().out
    assert "attribution" in out and "aaaaaaaaaaaa bbbbbbbbbbbb" in out and "4 units, " in out
    assert f" KiB, in {filled.path}" in out

    key = next(item.key for item in filled.entries() if item.record["number"] == 1)
    (filled.path / key[:2] / key / entry_module.RECORD).write_text("{")
    assert print_entries(config) == 0
    assert "(damaged)" in capsys.readouterr().out
    assert verify_and_print(config) == 1
    assert f"{key}: record.json does not match its checksum" in capsys.readouterr().out

    assert prune_and_print(config) == 0
    assert "would remove 1 units and 0 leftovers" in capsys.readouterr().out
    config.dry_run, config.repair = False, True
    assert prune_and_print(config) == 0 and verify_and_print(config) == 0
    assert "removed 1 units" in capsys.readouterr().out
    assert verify_and_print(config) == 0 and len(list(filled.entries())) == 2
