"""`shiftbench score -m` and `shiftbench sweep status`: done jobs are not run again, and every failure is reported."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from shiftbench.models import loading
from shiftbench.sweep.submitter import ParentRuns
from shiftbench.tracking import Tracking
from tests.command.conftest import arguments, same_results, save
from tests.tiny import tiny_module

pytestmark = [pytest.mark.whole, pytest.mark.usefixtures("no_pictures")]


@pytest.fixture
def sweep(job_options, folders, tmp_path):
    """The options of a sweep over two pairs with the same base."""
    shutil.copytree(folders / "tuned", tmp_path / "other")
    both = f"{job_options['pair.tuned']},{tmp_path / 'other'}"
    return {**job_options, "pair.tuned": both, "pair.name": "${.tuned}"}


def ledger(out):
    """The statuses in the ledger of a sweep, by the name of the job."""
    return {s["name"]: s for s in (json.loads(p.read_text()) for p in Path(out, ".sweep", "jobs").glob("*.json"))}


def test_a_sweep_again_runs_only_what_is_missing(shiftbench, sweep):
    first = shiftbench(*arguments(sweep), "-m")
    assert first.code == 0, first.err
    done = ledger(sweep["out"])
    assert len(done) == 2 and {s["state"] for s in done.values()} == {"done"}
    lines = [line for line in first.err.splitlines() if line.startswith("job ")]
    assert [line.split(": ")[1].split(" ")[0] for line in lines] == ["started", "done", "started", "done"], first.err
    assert shiftbench("sweep", "status", f"out={sweep['out']}").code == 0

    gone = sorted(done)[0]
    (Path(done[gone]["folder"]) / "scores.json").unlink()
    status = shiftbench("sweep", "status", f"out={sweep['out']}")
    assert status.code == 1 and "1 done" in status.out and "1 missing" in status.out
    again = shiftbench(*arguments(sweep), "-m")
    assert again.code == 0 and "1 of 2 jobs are done already" in again.err
    now = ledger(sweep["out"])
    kept = sorted(done)[1]
    assert now[kept] == done[kept] and now[gone]["start"] > done[gone]["start"]
    assert now[gone]["scores"] == done[gone]["scores"] and now[gone]["explained"] == 0


def test_a_changed_input_file_makes_another_job(shiftbench, sweep, folders, tmp_path):
    prompts = tmp_path / "prompts.jsonl"
    shutil.copy(folders / "prompts.jsonl", prompts)
    command = [*arguments(sweep, dataset__path=str(prompts)), "-m"]
    assert shiftbench(*command).code == 0
    os.utime(prompts, ns=(1, 1))
    again = shiftbench(*command)
    assert again.code == 0 and "done already" not in again.err and "0 units explained" in again.err
    assert shiftbench("sweep", "status", f"out={sweep['out']}").out.count("done") == 3, (
        "two rows of the table and the line of totals"
    )


def test_memory_limits_and_the_stores_path_do_not_change_a_job(shiftbench, sweep, tmp_path):
    assert shiftbench(*arguments(sweep), "-m").code == 0
    moved = {"store.path": str(tmp_path / "elsewhere"), "findings.instruction_recognition.explain.memory": "64"}
    assert "2 of 2 jobs are done already" in shiftbench(*arguments(sweep, **moved), "-m").err
    assert "done already" not in shiftbench(*arguments(sweep, seed="1"), "-m").err


def test_a_failed_job_is_listed_with_its_reason_and_run_again(shiftbench, sweep, tmp_path):
    shutil.rmtree(tmp_path / "other")
    first = shiftbench(*arguments(sweep), "-m")
    assert first.code == 2
    status = shiftbench("sweep", "status", f"out={sweep['out']}")
    assert status.code == 1 and "1 failed" in status.out and "there is no such" in status.out
    save(tiny_module("llama", seed=3), tmp_path / "other")
    again = shiftbench(*arguments(sweep), "-m")
    assert again.code == 0 and "1 of 2 jobs are done already" in again.err


def test_the_base_of_two_pairs_is_loaded_once(shiftbench, sweep, monkeypatch):
    read = []
    original = loading._read

    def counted(parts, config):
        read.append(parts.source.path)
        return original(parts, config)

    monkeypatch.setattr(loading, "_read", counted)
    assert shiftbench(*arguments(sweep), "-m").code == 0
    assert sorted(read) == sorted([sweep["pair.base"], *sweep["pair.tuned"].split(",")])


def test_two_jobs_for_one_folder_are_refused_before_anything_runs(shiftbench, sweep):
    ran = shiftbench("score", "-m", "pair=demo,demo_lora", "pair.name=mine", f"out={sweep['out']}", "tracking=none")
    assert ran.code == 2 and "two jobs of this sweep would write to" in ran.err and "pair.name=" in ran.err
    assert not Path(sweep["out"]).exists()


def test_joblib_gives_the_same_results_as_one_process(shiftbench, sweep, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    alone = shiftbench(*arguments(sweep, out=str(tmp_path / "alone")), "-m")
    both = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    apart = shiftbench(*arguments(sweep, store__path=str(tmp_path / "store2")), "-m", *both)
    assert alone.code == apart.code == 0, apart.err
    one, two = ledger(tmp_path / "alone"), ledger(sweep["out"])
    assert one.keys() == two.keys() and os.getpid() not in {s["pid"] for s in two.values()}
    assert sum(s["explained"] for s in one.values()) == sum(s["explained"] for s in two.values())
    for name, status in one.items():
        assert same_results(status["folder"], two[name]["folder"])


def test_no_file_of_a_sweep_with_submitit_holds_the_password_of_the_tracking_address(shiftbench, sweep, monkeypatch):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    monkeypatch.setattr(Tracking, "check", lambda self: False)  # there is no such database
    monkeypatch.setattr(ParentRuns, "send", lambda self, status: None)
    uri, launcher = "'postgresql://me:se/cret@127.0.0.1:1/db?token=cret'", "hydra/launcher=submitit_local"
    ran = shiftbench(*arguments(sweep, **{"tracking": None, "tracking.uri": uri}), "-m", launcher)
    assert ran.code == 0 and "cret" not in ran.out + ran.err, ran.err
    files = [path for path in Path(sweep["out"]).rglob("*") if path.is_file()]
    assert any("submitted" in path.name and path.is_relative_to(f"{sweep['out']}/.sweep/launcher") for path in files)
    assert [str(path) for path in files if b"cret@" in path.read_bytes() or b"=cret" in path.read_bytes()] == []
    assert any(b"***@127.0.0.1" in path.read_bytes() for path in files), "the address without the password is recorded"
    for thread in threading.enumerate():
        if thread.name == "launcher":
            thread.join(120)  # until it ends, it holds Hydra's global state, which the next test needs


def test_an_unknown_launcher_or_launcher_option_is_refused(shiftbench, sweep):
    assert "choose from basic, joblib" in shiftbench(*arguments(sweep), "-m", "hydra/launcher=jobslib").err
    ran = shiftbench(*arguments(sweep), "-m", "hydra.launcher.n_jobs=2")
    assert ran.code == 2 and "n_jobs" in ran.err and not Path(sweep["out"]).exists()


def test_a_folder_takes_one_sweep_at_a_time(sweep, shiftbench):
    command = [sys.executable, "-m", "shiftbench", *arguments(sweep), "-m"]
    first = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    lock = Path(sweep["out"]) / ".sweep" / "lock"
    while not (lock.exists() and lock.read_text()):
        time.sleep(0.05)
    second = shiftbench(*arguments(sweep), "-m")
    assert second.code == 2 and f"process {first.pid} on" in second.err
    first.send_signal(signal.SIGKILL)
    first.wait()
    again = shiftbench(*arguments(sweep), "-m")
    assert again.code == 0, again.err


@pytest.mark.parametrize("name", ["../up", "..", "it's", '"q" <script>alert(1)</script>'])
def test_hostile_names_stay_below_out(shiftbench, job_options, tmp_path, name):
    quoted = name.replace("'", "\\'")
    before = set(tmp_path.iterdir())
    ran = shiftbench(*arguments(job_options, **{"pair.name": f"'{quoted}'"}), "-m")
    assert ran.code == 0, ran.err
    assert set(tmp_path.iterdir()) - before <= {Path(job_options["out"]), Path(job_options["store.path"])}
    [status] = ledger(job_options["out"]).values()
    folder = Path(status["folder"])
    assert folder.parent == Path(job_options["out"]) and (folder / "scores.json").exists()
    assert "<script>alert" not in (folder / "report.html").read_text()
    assert shiftbench("sweep", "status", f"out={job_options['out']}").code == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_fails_one_job_and_keeps_what_is_done(shiftbench, sweep, folders, tmp_path):
    """The first pair's units are in the store. The second pair's fit there only once space has been freed."""
    rows = [{"id": f"q{i}", "prompt": f"Write {i} now.", "instruction": [[0, 5]]} for i in range(60)]
    prompts = tmp_path / "many.jsonl"
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    small = tmp_path / "small"
    small.mkdir()
    if os.system(f"mount -t tmpfs -o size=64m tmpfs {small} 2>/dev/null"):
        pytest.skip("this sandbox does not mount")
    try:
        job_options = {**sweep, "store.path": str(small / "store"), "dataset.path": str(prompts)}
        first, second = sweep["pair.tuned"].split(",")
        save(tiny_module("llama", seed=5), tmp_path / "other")
        assert shiftbench(*arguments({**job_options, "pair.tuned": first}, out=str(tmp_path / "before"))).code == 0
        free = shutil.disk_usage(small).free
        (small / "ballast").write_bytes(bytes(free - 1_200_000))
        ran = shiftbench(*arguments(job_options, **{"pair.tuned": f"{first},{second}"}), "-m")
        states = {s["name"].rpartition("pair.tuned=")[2]: s for s in ledger(job_options["out"]).values()}
        assert ran.code == 1, ran.err
        assert {s["state"] for s in states.values()} == {"done", "failed"}
        [failed] = [s for s in states.values() if s["state"] == "failed"]
        assert f"the disk at {small} is full" in failed["reason"] and "are missing" in failed["reason"]
        explained_before = failed["explained"]
        assert explained_before > 0
        (small / "ballast").unlink()
        again = shiftbench(*arguments(job_options, **{"pair.tuned": f"{first},{second}"}), "-m")
        assert again.code == 0 and "1 of 2 jobs are done already" in again.err
        [now] = [s for s in ledger(job_options["out"]).values() if s["name"] == failed["name"]]
        assert now["state"] == "done" and now["explained"] > explained_before
    finally:
        os.system(f"umount {small}")
