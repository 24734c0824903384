"""Processes that are at the same pair at the same time make each unit once."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from shiftbench.store.explanation import Unit, content_key
from shiftbench.store.sharing import shared
from shiftbench.store.store import Store
from shiftbench.store.work import Work
from tests.command.conftest import arguments, scores

pytestmark = pytest.mark.whole
HOLDER = """
import sys, time
from shiftbench.store.store import Store
with Store(sys.argv[1]).claim(sys.argv[2]) as mine:
    print(mine, flush=True)
    time.sleep(600)
"""


def holder(store, key):
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(store), key], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "True\n"
    return process


def work(name):
    return Work(name, {"unit": name}, lambda: Unit({}, {"made": [name]}))


def test_two_processes_racing_for_one_pair_make_each_unit_once(asked, tmp_path):
    outs = [str(tmp_path / name) for name in ("one", "two")]
    commands = [[sys.executable, "-m", "shiftbench", *arguments(asked, out=out)] for out in outs]
    racing = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
    said = [process.communicate(timeout=200)[0] for process in racing]
    assert [process.returncode for process in racing] == [0, 0]
    counts = [re.search(r"explained (\d+) units anew, (\d+) were in the store", text) for text in said]
    made = [int(count[1]) for count in counts]
    units = len(list(Store(asked["store.path"]).entries()))
    assert sum(made) == units and all(int(count[1]) + int(count[2]) == units for count in counts)
    assert scores(outs[0]) == scores(outs[1])
    assert not list((Path(asked["store.path"]) / "claims").iterdir())


def test_what_another_process_makes_is_left_for_later_and_made_here_when_it_dies(tmp_path):
    store = Store(tmp_path)
    process = holder(tmp_path, content_key({"unit": "a"}))
    items = shared(store, [work("a"), work("b")])
    assert next(items)[0].unit == "b", "a is claimed"
    process.send_signal(signal.SIGKILL)
    process.wait()
    item, unit, made = next(items)
    assert (item.unit, unit.words["made"], made) == ("a", ["a"], True)


def test_what_another_process_made_meanwhile_is_taken(tmp_path):
    store, key = Store(tmp_path), content_key({"unit": "a"})
    process = holder(tmp_path, key)
    items = shared(store, [work("a"), work("b")])
    next(items)
    store.put(key, Unit({}, {"made": ["elsewhere"]}), {"unit": "a"})
    assert [(unit.words["made"], made) for _, unit, made in items] == [(["elsewhere"], False)]
    process.kill()
    process.wait()


def test_prompts_of_the_same_text_share_a_unit_and_wait_for_nobody(tmp_path):
    assert [made for _, _, made in shared(Store(tmp_path), [work("a"), work("a")])] == [True, False]
