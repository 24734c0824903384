"""A job whose process died is started once more; a launcher that starts no job is an input error."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from rich.console import Console

from shiftbench.errors import InputError
from shiftbench.sweep.ledger import DONE, Ledger, as_started, scores_digest
from shiftbench.sweep.submitter import group_by_base, launch_all, run_until_settled
from shiftbench.sweep.task import Task


def make_task(name: str, root: Path, base: str = "base") -> Task:
    return Task(name, name[0] * 64, root / name, OmegaConf.create({"pair": {"base": base}}), (), "all")


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    one = Ledger(tmp_path)
    one.plan_jobs({name: name[0] * 64 for name in ("a", "b")})
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    return one


def test_jobs_of_the_same_base_are_neighbours(tmp_path: Path) -> None:
    tasks = [make_task("a", tmp_path, "x"), make_task("b", tmp_path, "y"), make_task("c", tmp_path, "x")]
    assert [one.name for one in group_by_base(tasks)] == ["a", "c", "b"]


def test_a_job_whose_process_died_is_started_once_more(ledger: Ledger) -> None:
    tasks = [make_task("a", ledger.root), make_task("b", ledger.root)]
    started_names: list[list[str]] = []

    def start(left: Sequence[Task]) -> None:
        """In the first call the process of b dies: its status is RUNNING and its lock is free."""
        started_names.append([one.name for one in left])
        for one in left:
            status = as_started(one.after(ledger.read(one.key)))
            if one.name == "b" and len(started_names) == 1:
                ledger.write(replace(status, explained=5))
            else:
                ledger.write(
                    replace(status, state=DONE, explained=status.explained + 2, scores=scores_digest(one.folder))
                )
        if len(started_names) == 1:
            raise RuntimeError("a worker died")

    with ledger.hold_submission():
        launch_all(tasks, ledger, start, Console(quiet=True))
    assert started_names == [["a", "b"], ["b"]]
    assert [ledger.read(one.key).explained for one in tasks] == [2, 7], "units of the first attempt count"


def test_a_launcher_that_starts_no_job_is_an_input_error_without_secrets(ledger: Ledger) -> None:
    def start(left: Sequence[Task]) -> None:
        raise FileNotFoundError("sbatch is not at postgresql://me:secret@host")

    with (
        ledger.hold_submission(),
        pytest.raises(InputError, match="the launcher started no job: FileNotFoundError: sbatch") as e,
    ):
        launch_all([make_task("a", ledger.root)], ledger, start, Console(quiet=True))
    assert "secret" not in str(e.value)


@pytest.mark.long
def test_a_launcher_that_does_not_notice_a_dead_worker_is_not_waited_for(ledger: Ledger) -> None:
    task = make_task("a", ledger.root)
    ledger.write(as_started(task.after(ledger.read(task.key))))  # RUNNING, with a free lock
    began = time.monotonic()
    run_until_settled(lambda: time.sleep(60), [task], ledger)
    assert time.monotonic() - began < 30
    with pytest.raises(ZeroDivisionError):
        run_until_settled(lambda: 1 / 0, [task], ledger)  # type: ignore[arg-type, return-value]
