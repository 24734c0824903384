"""SIGTERM, SIGHUP and Ctrl-C end a job alike: a message, an exit code, no lock and no child left, and it can go on."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from shiftbench.sweep.ledger import INTERRUPTED, Ledger
from shiftbench.system import locks, signals
from tests.command.conftest import arguments
from tests.command.kills import killed
from tests.command.spawned import Spawner

pytestmark = pytest.mark.whole


@pytest.fixture(scope="module")
def spawner():
    with Spawner() as made:
        yield made


@pytest.fixture
def started(spawner, tmp_path):
    """Starts the command line in a process of its own; gives it back once `ready()` is true."""

    def start(words, ready, ignored=0):
        process = spawner.start(words, tmp_path / "log", ignored)
        until = time.monotonic() + 60
        while not ready():
            assert process.poll() is None, process.said()
            assert time.monotonic() < until
            time.sleep(0.02)
        return process

    return start


def units(asked):
    return lambda: len(list(Path(asked["store.path"]).glob("[0-9a-f][0-9a-f]/*"))) > 2


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)])
def test_a_signal_ends_a_job_with_a_message_and_its_exit_code(started, asked, number, code):
    process = started(arguments(asked), units(asked))
    process.send_signal(number)
    assert process.wait() == code, process.said()
    said = process.said()
    assert "Traceback" not in said and "the same command goes on where this one stopped" in said
    assert not list(Path(asked["out"]).glob(".p*")) and not list((Path(asked["store.path"]) / "claims").iterdir())


def test_nohup_stays(started, asked):
    """Where SIGHUP is ignored, as under nohup, it ends nothing."""
    process = started(arguments(asked), units(asked), ignored=signal.SIGHUP)
    process.send_signal(signal.SIGHUP)
    assert process.wait() == 0, process.said()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_sweep_never_says_that_its_own_process_is_gone(started, asked, number):
    ledger = Ledger(Path(asked["out"]))
    process = started([*arguments(asked, seed="0,1"), "-m"], units(asked))
    process.send_signal(number)
    assert process.wait() == 128 + number, process.said()
    said = process.said()
    assert "is gone" not in said and "Traceback" not in said and "interrupted" in said
    states = [status.state for status in ledger.statuses()]
    assert states[0] == INTERRUPTED and locks.free(ledger.folder / "lock") is True


def test_a_sweep_that_is_ended_leaves_no_child(started, asked):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    words = [*arguments(asked, seed="0,1"), "-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    process = started(words, units(asked))
    children = signals.descendants(process.pid)
    assert children
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 143, process.said()
    until = time.monotonic() + 10
    while any(Path(f"/proc/{child}").exists() for child in children) and time.monotonic() < until:
        time.sleep(0.1)
    assert not [child for child in children if Path(f"/proc/{child}").exists()]


def test_a_handler_that_is_there_stays():
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        signals.handle()
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def test_three_kills_at_random_moments_change_no_score(spawner, asked, tmp_path):
    """A small version of tests/command/kills.py, which is run by hand with 40."""
    small = {**asked, "dataset.limit": "3", "bootstrap.resamples": "100"}
    figures = killed(small, tmp_path / "kills", 3, start=spawner.start)
    assert figures.kills == 3 and figures.equal == 3, figures
    assert os.listdir(tmp_path / "kills")
