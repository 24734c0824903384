"""Jobs in real processes lease GPUs, and no GPU is leased twice. The GPUs are only names, because none is needed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from shiftbench.config import composition
from shiftbench.errors import InputError
from shiftbench.sweep.gpus import _on, assigned, leased, visible

JOB = """
import sys
from pathlib import Path
from shiftbench.sweep.gpus import leased
count, names, root = int(sys.argv[1]), sys.argv[2].split(","), Path(sys.argv[3])
with leased(count, names, lambda text: print(text, flush=True), root) as mine:
    print(mine, flush=True)
    sys.stdin.readline()
"""


def job(count: int, names: str, root: Path) -> subprocess.Popen[str]:
    """A process that leases GPUs, prints which, and keeps them until it reads a line or is killed."""
    command = [sys.executable, "-c", JOB, str(count), names, str(root)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def read_line(process: subprocess.Popen[str]) -> str:
    """The next line that a process prints."""
    assert process.stdout
    return process.stdout.readline().strip()


@pytest.mark.long
def test_jobs_at_the_same_time_have_different_gpus_and_a_killed_ones_is_free(tmp_path: Path) -> None:
    jobs = [job(1, "0,1,2", tmp_path) for _ in range(3)]
    leased_gpus = [json.loads(read_line(one)) for one in jobs]
    assert sorted(leased_gpus) == [[0], [1], [2]]
    late = job(1, "0,1,2", tmp_path)
    assert read_line(late) == "waiting for 1 of 3 GPUs to be free"
    jobs[1].send_signal(signal.SIGKILL)
    assert json.loads(read_line(late)) == leased_gpus[1]
    for one in (jobs[0], jobs[2], late):
        one.communicate("\n", timeout=30)


@pytest.mark.long
def test_a_job_takes_all_of_its_gpus_at_once_or_none(tmp_path: Path) -> None:
    """Two jobs that need two of three GPUs each: the second holds no GPU while it waits for the first."""
    first = job(2, "0,1,2", tmp_path)
    assert json.loads(read_line(first)) == [0, 1]
    second = job(2, "0,1,2", tmp_path)
    assert read_line(second) == "waiting for 2 of 3 GPUs to be free"
    with leased(1, ["0", "1", "2"], print, tmp_path) as mine:
        assert mine == [2]
    first.communicate("\n", timeout=30)
    assert json.loads(read_line(second)) == [0, 1]
    second.communicate("\n", timeout=30)


@pytest.mark.long
def test_a_gpu_is_locked_by_its_name_on_the_machine_not_by_its_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,GPU-8f/1")
    assert visible(2) == ["2", "GPU-8f/1"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert visible(2) == ["0", "1"]
    other = job(1, "2", tmp_path)
    assert json.loads(read_line(other)) == [0]
    with leased(1, ["2", "GPU-8f/1"], print, tmp_path) as mine:
        assert mine == [1], "the other process has GPU 2 under another number"
    other.communicate("\n", timeout=30)


def test_more_gpus_than_the_machine_has_are_refused(tmp_path: Path) -> None:
    for count in (0, 3):
        with pytest.raises(InputError, match=f"gpus={count}: a job can take 1 to 2 GPUs"):
            leased(count, "01", print, tmp_path).__enter__()


def test_a_lease_sets_the_devices_of_a_jobs_models() -> None:
    config = composition.compose("config", ["pair=demo"])
    one, two = _on(config, [1]), _on(config, [1, 3])
    assert (one.pair.base_model.device, one.pair.base_model.device_map) == ("cuda:1", None)
    assert (two.pair.tuned_model.device, two.pair.tuned_model.device_map) == ("cuda:1", [1, 3])
    spread = composition.compose("config", ["pair=demo", "pair.tuned_model.device_map=auto"])
    assert _on(spread, [2]).pair.tuned_model.device_map == [2]
    elsewhere = composition.compose("config", ["pair=demo", "pair.tuned_model.device_map=[0,1]"])
    assert _on(elsewhere, [2]).pair.tuned_model.device_map == [2], "no GPU that is not leased"
    assert config.pair.base_model.device == "auto", "the job's own configuration stays"


def test_without_a_gpu_the_configuration_stays() -> None:
    config = composition.compose("config", ["pair=demo", "device=cpu", "gpus=8"])
    with assigned(config, print) as same:
        assert same is config
