"""SIGTERM, SIGHUP and Ctrl-C end a job with a message and an exit code, without a lock or a child left behind.

The same command then resumes the job.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from shiftbench.sweep.ledger import INTERRUPTED, Ledger
from shiftbench.system import locks, signals
from tests.command.conftest import arguments
from tests.command.kills import kill_jobs
from tests.command.spawned import Spawner

pytestmark = pytest.mark.whole


@pytest.fixture(scope="module")
def spawner():
    with Spawner() as spawner:
        yield spawner


@pytest.fixture
def started(spawner, tmp_path):
    """A function that starts the command line in a process and returns that process once `ready()` is true."""

    def start(words, ready, ignored=0):
        process = spawner.start(words, tmp_path / "log", ignored)
        until = time.monotonic() + 60
        while not ready():
            assert process.poll() is None, process.output()
            assert time.monotonic() < until
            time.sleep(0.02)
        return process

    return start


def units(job_options):
    """A function that says whether the job has stored more than two units."""
    return lambda: len(list(Path(job_options["store.path"]).glob("[0-9a-f][0-9a-f]/*"))) > 2


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)])
def test_a_signal_ends_a_job_with_a_message_and_its_exit_code(started, job_options, number, code):
    process = started(arguments(job_options), units(job_options))
    process.send_signal(number)
    assert process.wait() == code, process.output()
    output = process.output()
    assert "Traceback" not in output and "run the same command again to continue from here" in output
    assert not list(Path(job_options["out"]).glob(".p*")) and not list(
        (Path(job_options["store.path"]) / "claims").iterdir()
    )


def test_a_job_under_nohup_ignores_sighup(started, job_options):
    """A job that was started with SIGHUP ignored, as nohup does, is not ended by SIGHUP."""
    process = started(arguments(job_options), units(job_options), ignored=signal.SIGHUP)
    process.send_signal(signal.SIGHUP)
    assert process.wait() == 0, process.output()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_sweep_does_not_report_its_own_process_as_gone(started, job_options, number):
    ledger = Ledger(Path(job_options["out"]))
    process = started([*arguments(job_options, seed="0,1"), "-m"], units(job_options))
    process.send_signal(number)
    assert process.wait() == 128 + number, process.output()
    output = process.output()
    assert "is gone" not in output and "Traceback" not in output and "interrupted" in output
    states = [status.state for status in ledger.statuses()]
    assert states[0] == INTERRUPTED and locks.is_free(ledger.folder / "lock") is True


def test_a_sweep_that_is_ended_leaves_no_child(started, job_options):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    words = [*arguments(job_options, seed="0,1"), "-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    process = started(words, units(job_options))
    children = signals.descendants(process.pid)
    assert children
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 143, process.output()
    until = time.monotonic() + 10
    while any(Path(f"/proc/{child}").exists() for child in children) and time.monotonic() < until:
        time.sleep(0.1)
    assert not [child for child in children if Path(f"/proc/{child}").exists()]


def test_a_signal_handler_that_was_set_before_is_kept():
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        signals.handle()
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def test_three_kills_at_random_moments_change_no_score(spawner, job_options, tmp_path):
    """A short version of tests/command/kills.py, which is run by hand with 40 kills."""
    small = {**job_options, "dataset.limit": "3", "bootstrap.resamples": "100"}
    counts = kill_jobs(small, tmp_path / "kills", 3, start=spawner.start)
    assert counts.kills == 3 and counts.equal == 3, counts
    assert os.listdir(tmp_path / "kills")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_sweep_that_is_ended_is_killed_in_mlflow(started, job_options, tmp_path, number):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    words = arguments(job_options, seed="0,1", tracking="mlflow", tracking__uri=uri)
    process = started([*words, "-m"], units(job_options))
    process.send_signal(number)
    assert process.wait() == 128 + number, process.output()
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("shiftbench")
    [parent] = client.search_runs([experiment.experiment_id], "tags.`shiftbench.kind` = 'suite'")
    assert parent.info.status == "KILLED" and parent.info.run_name.startswith("sweep suite=all, 2 jobs, 1 pair, ")
    assert parent.info.end_time >= parent.info.start_time
