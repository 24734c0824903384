"""Inputs that once had a defect are read or refused, and the fuzzer detects a crash, a hang and a growth of memory."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from shiftbench.errors import InputError
from tests.fuzz import __main__ as fuzz
from tests.fuzz.targets import SEEDS, Target, targets


@pytest.fixture(scope="module")
def targets_by_name(tmp_path_factory):
    return {target.name: target for target in targets(tmp_path_factory.mktemp("fuzz"))}


def test_every_stored_input_has_a_target(targets_by_name):
    assert {folder.name for folder in SEEDS.iterdir()} <= targets_by_name.keys()


@pytest.mark.parametrize("name", sorted(folder.name for folder in SEEDS.iterdir()))
def test_inputs_that_once_failed_are_read_or_refused(targets_by_name, name, capfd):
    target = targets_by_name[name]
    for content in target.seeds if not target.refuses_seeds else ():
        target.read(content)
    for file, content in target.stored():
        try:
            target.read(content)
        except (InputError, *target.refusals):
            continue
        except BaseException as error:
            raise AssertionError(f"tests/fuzz/seeds/{name}/{file} ends in {type(error).__name__}") from error


def planted_reader(content: bytes) -> None:
    """A reader that returns, refuses, raises, hangs or takes memory, as its input says."""
    if content == b"refused":
        raise InputError("no")
    if content == b"fails":
        raise TypeError("ours")
    if content == b"hangs":
        time.sleep(60)
    if content == b"grows":
        # Twice the limit: what the kernel says of a process's memory is off by some MiB per CPU, and a collection
        # of garbage in between gives memory back.
        held = bytearray(2 * fuzz.MAX_GROWTH)
        held[::4096] = b"x" * len(held[::4096])


@pytest.mark.parametrize(
    ("content", "kind"),
    [(b"accepted", None), (b"fails", "TypeError at "), (b"hangs", "no end after"), (b"grows", "MiB of memory"),
     (b"refused", "a well-formed input is refused")],
)  # fmt: skip
def test_a_defect_is_seen_and_its_input_kept(content, kind, tmp_path, monkeypatch):
    monkeypatch.setattr(fuzz, "DEFECTS", tmp_path)
    monkeypatch.setattr(fuzz, "WARM_UP", 5.0)
    monkeypatch.setattr(fuzz, "MAX_GROWTH", 2**26)
    tally = fuzz._fuzz(Target("planted", [content], lambda _, seed: b"accepted", planted_reader), 0, 3, 60.0)
    assert tally.inputs == 3
    if kind is None:
        assert not tally.defects
    else:
        (found,) = tally.defects
        assert kind in found
        assert Path(tally.defects[found][1][0]).read_bytes() == content
