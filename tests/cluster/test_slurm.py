"""A sweep over two Slurm nodes, of which one worker is killed: no unit is lost, and none is computed twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from shiftbench.results.document import without_circumstances
from shiftbench.store.store import Store
from tests.cluster import slurm

pytestmark = pytest.mark.cluster

PAIRS = ("demo", "demo_lora", "demo_continued")
SWEEP = ["score", "-m", "suite=smoke", "dataset.limit=6", "tracking=none"]
SLURM = ["hydra/launcher=submitit_slurm", "hydra.launcher.cpus_per_task=1", "hydra.launcher.timeout_min=10"]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    if slurm.missing():
        pytest.skip(slurm.missing())
    with slurm.running(tmp_path_factory.mktemp("slurm")) as environment:
        yield environment


def started(folder: Path, environment: Mapping[str, str], *more: str) -> subprocess.Popen[str]:
    """The sweep in a new process, with results and store below a folder.

    It computes with one thread, because the number of threads changes the last digits of results.
    """
    command = [sys.executable, "-m", "shiftbench", *SWEEP, f"out={folder}/out", f"store.path={folder}/store", *more]
    environment = {**environment, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def jobs(folder: Path) -> dict[str, dict]:
    """The content of the ledger's status files, by the name of the job."""
    read = (json.loads(path.read_text()) for path in (folder / "out" / ".sweep" / "jobs").glob("*.json"))
    return {status["name"]: status for status in read}


def units(folder: Path) -> set[str]:
    """The keys of all units in the store."""
    return {item.key for item in Store(folder / "store").entries()}


def kill_a_worker(folder: Path, seconds: float = 120) -> dict:
    """Kill the first worker that has computed at least three units; returns its status at that moment."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        busy = [s for s in jobs(folder).values() if s["state"] == "running" and 3 <= s["explained"]]
        if busy:
            os.kill(busy[0]["pid"], signal.SIGKILL)
            return jobs(folder)[busy[0]["name"]]
        time.sleep(0.05)
    raise TimeoutError(f"no worker has computed three units: {jobs(folder)}")


def test_a_killed_worker_costs_at_most_one_unit(cluster: Mapping[str, str], tmp_path: Path) -> None:
    alone, apart = tmp_path / "alone", tmp_path / "apart"
    single = started(alone, os.environ)
    assert single.wait(300) == 0, single.communicate()[0]

    sweep = started(apart, cluster, *SLURM)
    victim = kill_a_worker(apart)
    output = sweep.communicate(timeout=240)[0]
    assert sweep.returncode == 0, output

    assert victim["state"] == "running", "it was killed while it ran"
    assert f"job {PAIRS.index(victim['name']) + 1}/3 {victim['name']}: its process" in output or "gave up" in output, (
        output
    )
    after = jobs(apart)
    assert {name: status["state"] for name, status in after.items()} == dict.fromkeys(PAIRS, "done")
    assert after[victim["name"]]["pid"] != victim["pid"]
    assert len({status["pid"] for status in after.values()}) == 3

    whole = units(alone)
    assert units(apart) == whole, "the same units, none lost"
    explained = sum(status["explained"] for status in after.values())
    assert len(whole) - 1 <= explained <= len(whole), "at most one unit was stored and not yet counted"
    for name in PAIRS:
        mine, theirs = (
            without_circumstances((place / "out" / name / "scores.json").read_bytes()) for place in (alone, apart)
        )
        assert mine == theirs, name

    again = started(apart, cluster, *SLURM)
    output = again.communicate(timeout=120)[0]
    assert again.returncode == 0 and "3 of 3 jobs are done already" in output, output
    assert jobs(apart) == after
