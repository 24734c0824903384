"""Results are never lost without a message: each pair has its own folder, and earlier results in it are kept."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from shiftbench.config import folders, literals
from shiftbench.leaderboard import site
from shiftbench.readers import sampled_digest
from shiftbench.results import results_folder
from shiftbench.system import locks
from shiftbench.tracking import Tracking, pending_folders
from tests.command.conftest import arguments, scores
from tests.command.test_bad_input import refused

pytestmark = [pytest.mark.whole, pytest.mark.usefixtures("no_pictures")]


def nudged(folder, target, seed=1):
    """A copy of a model's folder, with noise added to each weight."""
    shutil.copytree(folder, target)
    weights = load_file(target / "model.safetensors")
    torch.manual_seed(seed)
    for name, weight in weights.items():
        weights[name] = weight + 0.01 * torch.randn_like(weight)
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    return target


def earlier(folder):
    """The folders of earlier results in a results folder, sorted."""
    return sorted(path for path in (Path(folder) / "earlier").glob("*")) if (Path(folder) / "earlier").exists() else []


def test_two_pairs_with_the_same_folder_names_have_different_results_folders(
    shiftbench, job_options, folders, tmp_path
):
    twin = nudged(folders / "tuned", tmp_path / "other" / "tuned")
    for tuned in (job_options["pair.tuned"], str(twin)):
        assert shiftbench(*arguments(job_options, out=None, pair__tuned=tuned)).code == 0
    found = sorted(path.parent.name for path in (tmp_path / "shiftbench-runs").glob("*/scores.json"))
    assert len(found) == 2 and all(re.fullmatch(r"base-tuned-[0-9a-f]{8}", name) for name in found)
    assert shiftbench(*arguments(job_options, out=None, pair__name="mine")).code == 0
    assert (tmp_path / "shiftbench-runs" / "mine" / "scores.json").exists()


def test_a_moved_or_resharded_model_keeps_the_digest_in_its_name(folders, tmp_path):
    shutil.copytree(folders / "tuned", tmp_path / "moved")
    weights = load_file(tmp_path / "moved" / "model.safetensors")
    (tmp_path / "moved" / "model.safetensors").unlink()
    names = sorted(weights)
    save_file({n: weights[n] for n in names[:3]}, tmp_path / "moved" / "a.safetensors")
    save_file({n: weights[n] for n in names[3:]}, tmp_path / "moved" / "b.safetensors", metadata={"format": "pt"})
    assert sampled_digest(tmp_path / "moved") == sampled_digest(folders / "tuned") != sampled_digest(folders / "base")


@pytest.mark.parametrize("content", [b"", b"\xff" * 64, b"\x02\0\0\0\0\0\0\0{}", b"\x02\0\0\0\0\0\0\0[]rest"])
def test_malformed_weights_have_a_digest_too(tmp_path, content):
    (tmp_path / "model.safetensors").write_bytes(content)
    assert re.fullmatch("[0-9a-f]{64}", sampled_digest(tmp_path))
    (tmp_path / "model.safetensors").unlink()
    os.mkfifo(tmp_path / "model.safetensors")
    pair = {"name": str(tmp_path), "base": "some/hub-id", "tuned": str(tmp_path)}
    assert folders.pair_name(literals.literal(pair)).startswith("hub-id-")  # reading the pipe does not block


def test_results_of_another_pair_are_refused_before_anything_is_explained(shiftbench, job_options, folders, tmp_path):
    assert shiftbench(*arguments(job_options)).code == 0
    before = (Path(job_options["out"]) / "scores.json").read_bytes()
    twin = nudged(folders / "tuned", tmp_path / "other" / "tuned")
    ran = shiftbench(*arguments(job_options, pair__tuned=str(twin)))
    refused(ran, job_options["out"], "another pair", "out=", "pair.name=")
    assert "explained" not in ran.err + ran.out
    assert (Path(job_options["out"]) / "scores.json").read_bytes() == before and not earlier(job_options["out"])


def test_earlier_results_are_moved_if_settings_differ_and_replaced_if_equal(shiftbench, job_options, tmp_path, caplog):
    out = Path(job_options["out"])
    assert shiftbench(*arguments(job_options)).code == 0
    first = {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    again = shiftbench(*arguments(job_options))
    assert again.code == 0 and not earlier(out) and "moved" not in caplog.text
    first = {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    other = shiftbench(*arguments(job_options, response__max_new_tokens="5"))
    assert other.code == 0
    [moved] = earlier(out)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d", moved.name)
    [line] = [record.getMessage() for record in caplog.records if "moved" in record.getMessage()]
    assert str(moved) in line and "\n" not in line
    assert {path.relative_to(moved): path.read_bytes() for path in moved.rglob("*") if path.is_file()} == first
    assert scores(out)["pair"]["max_new_tokens"] == 5
    # The same model in another folder is not another setting.
    shutil.copytree(job_options["pair.tuned"], tmp_path / "moved" / "tuned")
    assert (
        shiftbench(
            *arguments(job_options, response__max_new_tokens="5", pair__tuned=str(tmp_path / "moved/tuned"))
        ).code
        == 0
    )
    assert earlier(out) == [moved]
    # response.beside is in no digest of scores.json and is a setting nevertheless.
    assert shiftbench(*arguments(job_options, response__max_new_tokens="5", response__beside="null")).code == 0
    assert len(earlier(out)) == 2 and not list((out / "tables").glob("*own_response*"))


def test_earlier_results_that_were_not_sent_can_still_be_sent(shiftbench, job_options, tmp_path):
    out = Path(job_options["out"])
    for tokens in ("6", "5"):
        assert shiftbench(*arguments(job_options, response__max_new_tokens=tokens)).code == 0
    uri = f"sqlite:///{tmp_path}/db/mlflow.db"
    waiting = pending_folders(tmp_path, Tracking(uri, "shiftbench"))
    assert waiting == [out, *earlier(out)]
    ran = shiftbench("sync", f"root={out}", f"tracking.uri={uri}")
    assert ran.code == 0 and "sent 2 of 2" in ran.out, ran.err


def test_files_of_other_programs_in_the_folder_are_never_deleted(shiftbench, job_options):
    out = Path(job_options["out"])
    (out / "tables").mkdir(parents=True)
    (out / "tables" / "precious.csv").write_text("mine")
    (out / "figures").write_text("a file")
    (out / "scores.json").write_text('{"of": "another program"}')
    (out / "notes.txt").write_text("kept")
    assert shiftbench(*arguments(job_options)).code == 0
    [moved] = earlier(out)
    assert (moved / "tables" / "precious.csv").read_text() == "mine" and (moved / "figures").read_text() == "a file"
    assert "another program" in (moved / "scores.json").read_text() and (out / "notes.txt").read_text() == "kept"
    assert scores(out)["schema"] == "shiftbench/scores/2" and (out / "figures").is_dir()


@pytest.mark.parametrize("content", ["[" * 3000, "null", '{"schema": "shiftbench/scores/1", "pair": 3}', "\x00", None])
def test_a_damaged_scores_json_is_kept_and_does_not_stop_a_run(tmp_path, content):
    out = filled(tmp_path / "out", "old")
    if content is None:  # a pipe that no process writes to
        (out / "scores.json").unlink()
        os.mkfifo(out / "scores.json")
    else:
        (out / "scores.json").write_text(content)
    assert results_folder.held(out) is None and not results_folder.same_settings(out, {}, {}, "")
    results_folder.check_pair(out, {}, "")
    with results_folder.writing(out) as part:
        moved = results_folder.put(filled(part, "new"), out, NAMES, same=False)
    assert (moved / "config.yaml").read_text() == "old" and (out / "scores.json").read_text() == "new"
    if content is not None:
        assert (moved / "scores.json").read_text() == content


NAMES = ("scores.json", "config.yaml", "tables")


def filled(folder, text):
    """The folder, with results files that contain this text."""
    (folder / "tables").mkdir(parents=True, exist_ok=True)
    for name in ("scores.json", "config.yaml", "tables/a.csv"):
        (folder / name).write_text(text)
    return folder


def test_killed_at_any_step_of_a_replacement_nothing_is_lost(tmp_path, monkeypatch):
    """The process dies before each call that changes the disk, and runs again.

    `earlier` then holds the complete old results.
    """
    real = {name: getattr(os, name) for name in ("link", "rename", "replace")}
    for death in range(1, 12):
        out = filled(tmp_path / str(death), "old")
        calls = iter(range(1, 1000))

        def deadly(name, calls=calls, death=death):
            def call(*arguments, **options):
                if next(calls) == death:
                    raise KeyboardInterrupt
                return real[name](*arguments, **options)

            return call

        with monkeypatch.context() as patch:
            for name in real:
                patch.setattr(os, name, deadly(name))
            try:
                with results_folder.writing(out) as part:
                    results_folder.put(filled(part, "new"), out, NAMES, same=False)
                died = False
            except KeyboardInterrupt:
                died = True
        if died:
            with results_folder.writing(out) as part:
                results_folder.put(filled(part, "new"), out, NAMES, same=False)
        kept = [path for path in earlier(out) if (path / "scores.json").read_text() == "old"]
        assert len(kept) == 1, death
        assert {(kept[0] / name).read_text() for name in ("scores.json", "config.yaml", "tables/a.csv")} == {"old"}
        assert {(out / name).read_text() for name in ("scores.json", "config.yaml", "tables/a.csv")} == {"new"}
        assert not [path.name for path in out.rglob(".*")]
    assert not died, "every step was tried"


def test_temporary_files_of_dead_processes_are_removed_and_of_living_ones_kept(shiftbench, job_options):
    out = Path(job_options["out"])
    (out / ".part-dead" / "tables").mkdir(parents=True)
    (out / ".probe-dead").write_bytes(bytes(100))
    old = out / "..tracked.json.tmp-dead"
    old.write_text("{}")
    os.utime(old, (1, 1))
    code = "import sys, time; from pathlib import Path; from shiftbench.results import results_folder as r\n"
    code += "with r.writing(Path(sys.argv[1])) as part:\n print(part, flush=True); time.sleep(float(sys.argv[2]))"
    living = subprocess.Popen([sys.executable, "-c", code, str(out), "2"], stdout=subprocess.PIPE, text=True)
    part = Path(living.stdout.readline().strip())
    assert part.is_dir() and not (out / ".part-dead").exists(), "the next writer removes what a dead one left"
    assert locks.is_free(out / ".part-lock") is False
    with results_folder.writing(out):  # waits for the living process, whose folder stays until it has finished
        assert living.wait(10) == 0
    assert shiftbench(*arguments(job_options)).code == 0
    assert [path.name for path in out.iterdir() if path.name.startswith(".")] == [".tracked.json"]


def test_the_next_writer_removes_what_a_killed_writer_left(tmp_path):
    code = "import sys, time; from pathlib import Path; from shiftbench.results import results_folder as r\n"
    code += "with r.writing(Path(sys.argv[1])) as part:\n print(part, flush=True); time.sleep(60)"
    writer = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    part = Path(writer.stdout.readline().strip())
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    assert part.is_dir()
    with results_folder.writing(tmp_path):
        assert not part.exists()
    assert not list(tmp_path.iterdir())


def test_only_temporary_files_of_a_killed_leaderboard_are_removed(tmp_path):
    tmp_path.joinpath(".board.part-dead", "reports").mkdir(parents=True)
    tmp_path.joinpath(".board-mine").mkdir()
    site.check(tmp_path / "board", "out")
    assert [path.name for path in tmp_path.iterdir()] == [".board-mine"]


def test_the_message_about_a_file_size_limit_uses_readable_units(job_options):
    """RLIMIT_FSIZE stands for a disk that takes no file as large as results may be."""

    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))

    command = [sys.executable, "-m", "shiftbench", *arguments(job_options)]
    ran = subprocess.run(command, preexec_fn=limited, capture_output=True, text=True)
    assert ran.returncode == 2 and "Traceback" not in ran.stderr
    assert job_options["out"] in ran.stderr and "16.0 MiB" in ran.stderr and "at most 1.0 MiB" in ran.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_disk_that_fills_while_results_are_written_is_one_message(shiftbench, job_options, tmp_path, monkeypatch):
    small = tmp_path / "small"
    small.mkdir()
    if os.system(f"mount -t tmpfs -o size=20m tmpfs {small} 2>/dev/null"):
        pytest.skip("this sandbox does not mount")
    try:
        from shiftbench.pipeline import recording

        real = recording.summarise

        def filling(*rest):
            (small / "ballast").write_bytes(bytes(shutil.disk_usage(small).free - 8192))
            return real(*rest)

        monkeypatch.setattr(recording, "summarise", filling)
        ran = shiftbench(*arguments(job_options, out=str(small / "out")))
        assert ran.code == 1 and "Traceback" not in ran.err, ran.err
        [line] = [line for line in ran.err.splitlines() if line.startswith("shiftbench:")]
        assert f"disk at {small} is full" in line and "16.0 MiB are needed" in line and "KiB are free" in line
        assert not list((small / "out").glob(".part-*"))
    finally:
        os.system(f"umount {small}")


def test_a_chain_in_the_folder_of_other_results_is_refused(tmp_path, job_options, shiftbench):
    out = tmp_path / "runs"
    out.mkdir()
    document = {
        "schema": "shiftbench/scores/1",
        "pair": {"name": "chain", "base": "a", "tuned": "b, c"},
        "versions": {},
    }
    (out / "scores.json").write_text(json.dumps(document))
    words = [f"{key}={value}" for key, value in job_options.items() if not key.startswith("pair")]
    chain = f"chain=[{job_options['pair.base']},{job_options['pair.tuned']}]"
    refused(shiftbench("chain", chain, *words, f"out={out}"), "holds other results", "out=DIR")
