"""Processes that score the same pair at the same time compute each unit once."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from shiftbench.store.explanation import Unit, content_key
from shiftbench.store.sharing import take_or_compute
from shiftbench.store.store import Store
from shiftbench.store.work import Work
from tests.command.conftest import arguments, same_results

pytestmark = pytest.mark.whole
HOLDER = """
import sys, time
from shiftbench.store.store import Store
with Store(sys.argv[1]).claim(sys.argv[2]) as mine:
    print(mine, flush=True)
    time.sleep(600)
"""


def holder(store, key):
    """A process that holds the claim on a unit until it is killed."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(store), key], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "True\n"
    return process


def work(name):
    """A work item that computes a unit with this name in it."""
    return Work(name, {"unit": name}, lambda: Unit({}, {"computed": [name]}))


def test_two_processes_racing_for_one_pair_make_each_unit_once(job_options, tmp_path):
    outs = [str(tmp_path / name) for name in ("one", "two")]
    commands = [[sys.executable, "-m", "shiftbench", *arguments(job_options, out=out, verbose="true")] for out in outs]
    racing = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
    outputs = [process.communicate(timeout=200)[0] for process in racing]
    assert [process.returncode for process in racing] == [0, 0]
    counts = [re.search(r"explained (\d+) units anew, (\d+) were in the store", text) for text in outputs]
    computed = [int(count[1]) for count in counts]
    units = len(list(Store(job_options["store.path"]).entries()))
    assert sum(computed) == units and all(int(count[1]) + int(count[2]) == units for count in counts)
    assert same_results(*outs)
    assert not list((Path(job_options["store.path"]) / "claims").iterdir())


def test_a_unit_claimed_by_another_process_is_computed_here_once_that_process_dies(tmp_path):
    store = Store(tmp_path)
    process = holder(tmp_path, content_key({"unit": "a"}))
    items = take_or_compute(store, [work("a"), work("b")])
    assert next(items)[0].unit == "b", "a is claimed"
    process.send_signal(signal.SIGKILL)
    process.wait()
    item, unit, computed = next(items)
    assert (item.unit, unit.words["computed"], computed) == ("a", ["a"], True)


def test_a_unit_that_another_process_stored_meanwhile_is_read_from_the_store(tmp_path):
    store, key = Store(tmp_path), content_key({"unit": "a"})
    process = holder(tmp_path, key)
    items = take_or_compute(store, [work("a"), work("b")])
    next(items)
    store.put(key, Unit({}, {"computed": ["elsewhere"]}), {"unit": "a"})
    assert [(unit.words["computed"], computed) for _, unit, computed in items] == [(["elsewhere"], False)]
    process.kill()
    process.wait()


def test_prompts_with_the_same_text_share_a_unit_without_waiting(tmp_path):
    assert [computed for _, _, computed in take_or_compute(Store(tmp_path), [work("a"), work("a")])] == [True, False]
