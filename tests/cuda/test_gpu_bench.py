"""tests/perf/gpu.py, which only a machine with a GPU can run in earnest, rehearsed; and what it does with surprises."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import shiftbench
from shiftbench import _C, ops
from shiftbench.engine.product import Precision
from tests.cuda import needs_kernels
from tests.perf.gpu_bench import build, checks, engine_checks, op_times
from tests.perf.gpu_bench.bench import FULL, TINY, Bench
from tests.perf.gpu_bench.parts import Part, Run, parts
from tests.perf.rows import Results, Row
from tests.perf.targets import GPU_TOPK, SEVEN, TARGETS, in_precision, lengths

GPU = Path(__file__).parents[1] / "perf" / "gpu.py"


@needs_kernels
@pytest.mark.skipif(_C.has_cuda, reason="a core for GPUs is for measuring, not for rehearsing")
def test_every_part_is_rehearsed_and_right(tmp_path):
    core = Path(shiftbench.__file__).parents[1]
    command = [sys.executable, GPU, "--rehearse", "--core", core, "--out", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert not done.returncode, done.stdout[-3000:] + done.stderr[-3000:]
    (found,) = tmp_path.glob("*.json")
    assert found.name == "rehearsed.json" and found.with_suffix(".md").read_text().startswith("REHEARSED")
    rows = json.loads(found.read_text())["rows"]
    assert {row["test"] for row in rows} == {part.name for part in parts(tiny())}
    assert all(row["agrees"] and row["note"].startswith("REHEARSED") for row in rows)
    # Nothing tiny may pass for what a target is about.
    assert not any((row["spot"], row["case"], row["against"]) in TARGETS for row in rows)
    assert "SKIPPED" not in done.stdout and "checks agree" in done.stdout


def test_every_target_of_a_gpu_names_a_row_that_is_measured():
    assert FULL.model == SEVEN and op_times.topk_case(FULL) == GPU_TOPK
    cases = {lengths(in_precision(SEVEN, kind.value), *pair) for kind in Precision for pair in FULL.lengths}
    assert {case for _, case, _ in TARGETS if case.startswith(f"{SEVEN}, ") and "2 layers" not in case} < cases


@pytest.mark.long
@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
def test_without_a_gpu_it_says_so_in_one_line(tmp_path):
    done = subprocess.run([sys.executable, GPU, "--out", tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stdout.count("\n") == 1 and "no CUDA device here" in done.stdout
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("op", "check", "spoil"),
    [
        ("grad_x_input", checks.importance_ops, lambda found: found * 1.001),
        ("importance_levels", checks.importance_ops, lambda found: found + (found == 3)),
        ("importance_density", checks.importance_ops, lambda found: found * 1.001),
        ("importance_density_from_grad", checks.importance_ops, lambda found: (found[0], found[1], found[2] * 1.001)),
        ("vocab_topk", checks.vocab_topk, lambda found: (found[0].roll(1, 1), found[1].roll(1, 1))),
        ("cooccurrence", checks.cooccurrence_and_pairs, lambda found: (found[0], found[1].flip(0), found[2])),
        ("word_pairs", checks.cooccurrence_and_pairs, lambda found: tuple(part[1:] for part in found)),
        ("bootstrap", checks.bootstrap, lambda found: found + 1e-6),
    ],
)
def test_a_planted_error_of_an_op_shows(op, check, spoil, monkeypatch):
    right = getattr(ops, op)
    assert all(row.agrees for row in check(tiny()))
    monkeypatch.setattr(ops, op, lambda *given: spoil(right(*given)))
    assert any(row.case.startswith(op) and not row.agrees for row in check(tiny()))


@pytest.mark.parametrize("factor", [1.0, 1.01])
def test_a_planted_error_of_the_engine_shows(factor, monkeypatch):
    right = engine_checks.importance
    monkeypatch.setattr(engine_checks, "importance", lambda *given: right(*given) * factor)
    wrong = [row.case for row in engine_checks.engine(tiny()) if not row.agrees]
    assert len(wrong) == (0 if factor == 1 else 4)  # float64 and float32 in both modes; the others' bounds excuse it


@pytest.mark.long
def test_a_failure_and_a_wrong_result_are_kept_and_the_rest_goes_on(tmp_path):
    def broken(_):
        yield Row("spot", "before", "peer", 1.0, "x")
        raise RuntimeError("planted")

    def wrong(_):
        yield Row("spot", "wrong", "peer", 1.0, "x", agreement="far off", agrees=False)

    run = started(tmp_path, 60)
    run(
        [Part("broken", 0, broken), Part("wrong", 0, wrong), Part("needs", 0, lambda bench: [bench.rates["copy"]])], end
    )
    assert run.status == 1 and run.failed == ["broken"] and run.skipped == ["needs (needs copy)"]
    kept = {row["case"]: row for row in json.loads(run.results.path.read_text())["rows"]}
    assert kept["before"]["agrees"] and not kept["broken"]["agrees"] and "planted" in kept["broken"]["note"]
    assert "WRONG RESULT: spot, wrong, peer: far off" in run.report()


def test_a_part_that_no_longer_fits_is_skipped_by_name(tmp_path):
    run = started(tmp_path, 10)
    run([Part("long", 11, lambda _: 1 / 0), Part("short", 1, lambda _: [Row("spot", "short", "peer", 1.0, "x")])], end)
    assert run.skipped == ["long (too late)"] and [row.case for row in run.rows] == ["short"] and run.status == 0
    assert "SKIPPED: long (too late)" in run.report()


def test_what_a_part_measured_earlier_gives_way_to_what_it_measures_now(tmp_path):
    first, second = ([Row("spot", case, "peer", 1.0, "x")] for case in ("old", "new"))
    for rows in (first, second):
        started(tmp_path, 60)([Part("part", 0, lambda _, rows=rows: rows)], end)
    assert [row.case for row in Results(tmp_path, tiny().machine()).ordered()] == ["new"]


def test_a_part_that_does_not_end_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.perf.gpu_bench.parts.LATE", 0.1)
    run, given_up = started(tmp_path, 0.2), []
    run([Part("endless", 0, lambda _: time.sleep(0.6) or [])], lambda: given_up.append(run.report()))
    assert "GIVEN UP in the middle of: endless" in given_up[0]


def test_the_package_is_linked_beside_its_metadata(tmp_path):
    build.link(__file__, str(tmp_path / "link"))
    assert (tmp_path / "link").resolve() == Path(__file__).resolve()
    build._write_metadata(tmp_path)
    (info,) = tmp_path.glob("*.dist-info")
    assert f"Version: {shiftbench.__version__}\n" in (info / "METADATA").read_text()
    assert build.architecture_of(9, 0) == "90a-real" and build.architecture_of(8, 0) == "80-real"


def tiny() -> Bench:
    return Bench(torch.device("cpu"), TINY)


def started(folder: Path, seconds: float) -> Run:
    now = time.monotonic()
    return Run(tiny(), Results(folder, tiny().machine()), now, now + seconds)


def end() -> None:
    raise AssertionError("nothing here should be given up")
