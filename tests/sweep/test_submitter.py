"""Starting jobs: a job whose process died is started once more, and a launcher that starts nothing is told."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from rich.console import Console

from shiftbench.errors import InputError
from shiftbench.sweep.ledger import DONE, Ledger, digest, started
from shiftbench.sweep.submitter import in_order, launched, until_settled
from shiftbench.sweep.task import Task


def made(name: str, root: Path, base: str = "base") -> Task:
    return Task(name, name[0] * 64, root / name, OmegaConf.create({"pair": {"base": base}}), (), "all")


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    one = Ledger(tmp_path)
    one.begin({name: name[0] * 64 for name in ("a", "b")})
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    return one


def test_jobs_of_one_base_stand_beside_each_other(tmp_path: Path) -> None:
    tasks = [made("a", tmp_path, "x"), made("b", tmp_path, "y"), made("c", tmp_path, "x")]
    assert [one.name for one in in_order(tasks)] == ["a", "c", "b"]


def test_a_job_whose_process_died_is_started_once_more(ledger: Ledger) -> None:
    tasks = [made("a", ledger.root), made("b", ledger.root)]
    asked: list[list[str]] = []

    def start(left: Sequence[Task]) -> None:
        """In the first round b's process dies half way: running, and nobody holds its lock."""
        asked.append([one.name for one in left])
        for one in left:
            status = started(one.after(ledger.read(one.key)))
            if one.name == "b" and len(asked) == 1:
                ledger.write(replace(status, explained=5))
            else:
                ledger.write(replace(status, state=DONE, explained=status.explained + 2, scores=digest(one.folder)))
        if len(asked) == 1:
            raise RuntimeError("a worker died")

    with ledger.submitting():
        launched(tasks, ledger, start, Console(quiet=True))
    assert asked == [["a", "b"], ["b"]]
    assert [ledger.read(one.key).explained for one in tasks] == [2, 7], "what the first attempt made counts"


def test_a_launcher_that_starts_nothing_is_bad_input_without_secrets(ledger: Ledger) -> None:
    def start(left: Sequence[Task]) -> None:
        raise FileNotFoundError("sbatch is not at postgresql://me:secret@host")

    with (
        ledger.submitting(),
        pytest.raises(InputError, match="the launcher started no job: FileNotFoundError: sbatch") as e,
    ):
        launched([made("a", ledger.root)], ledger, start, Console(quiet=True))
    assert "secret" not in str(e.value)


@pytest.mark.long
def test_a_launcher_that_never_hears_of_a_death_is_not_waited_for(ledger: Ledger) -> None:
    task = made("a", ledger.root)
    ledger.write(started(task.after(ledger.read(task.key))))  # running, and nobody holds its lock
    began = time.monotonic()
    until_settled(lambda: time.sleep(60), [task], ledger)
    assert time.monotonic() - began < 30
    with pytest.raises(ZeroDivisionError):
        until_settled(lambda: 1 / 0, [task], ledger)  # type: ignore[arg-type, return-value]
