"""SIGTERM, SIGHUP and Ctrl-C end a job alike: a message, an exit code, locks let go, no child left, and it can go on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shiftbench import locks, signals
from shiftbench.sweep.ledger import INTERRUPTED, Ledger
from tests.command.conftest import arguments
from tests.command.kills import killed

LONG = {"bootstrap.resamples": "200", "response.max_new_tokens": "100", "dataset.limit": "null"}


def started(words, ready, **options):
    """The command line in a process of its own, once `ready()` is true."""
    command = [sys.executable, "-m", "shiftbench", *words]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **options)
    until = time.monotonic() + 60
    while not ready():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < until
        time.sleep(0.02)
    return process


def units(asked):
    return lambda: len(list(Path(asked["store.path"]).glob("[0-9a-f][0-9a-f]/*"))) > 2


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)])
def test_a_signal_ends_a_job_with_a_message_and_its_exit_code(asked, number, code):
    process = started(arguments(asked), units(asked))
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    assert process.returncode == code, said
    assert "Traceback" not in said and "the same command goes on where this one stopped" in said
    assert not list(Path(asked["out"]).glob(".p*")) and not list((Path(asked["store.path"]) / "claims").iterdir())


def test_nohup_stays(asked):
    """Where SIGHUP is ignored, as under nohup, it ends nothing."""
    process = started(arguments(asked), units(asked), preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    process.send_signal(signal.SIGHUP)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_sweep_never_says_that_its_own_process_is_gone(asked, number):
    ledger = Ledger(Path(asked["out"]))
    process = started([*arguments(asked, seed="0,1"), "-m"], units(asked))
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 128 + number, said
    assert "is gone" not in said and "Traceback" not in said and "interrupted" in said
    states = [status.state for status in ledger.statuses()]
    assert states[0] == INTERRUPTED and locks.free(ledger.folder / "lock") is True


def test_a_sweep_that_is_ended_leaves_no_child(asked):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    words = [*arguments(asked, seed="0,1"), "-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    process = started(words, units(asked))
    children = signals.descendants(process.pid)
    assert children
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=40)
    assert process.returncode == 143, said
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


def test_three_kills_at_random_moments_change_no_score(asked, tmp_path):
    """A small version of tests/command/kills.py, which is run by hand with 40."""
    figures = killed(asked, tmp_path / "kills", times=3)
    assert figures.kills == 3 and figures.equal == 3, figures
    assert os.listdir(tmp_path / "kills")
