"""The progress of a sweep: lines in a pipe, bars on a terminal, and each job's end reported once."""

from __future__ import annotations

import io
import time
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from shiftbench.sweep import watch
from shiftbench.sweep.ledger import DONE, FAILED, RUNNING, WAITING, Ledger, Status, as_started, scores_digest

KEYS = {"one": "a" * 64, "two [b]": "b" * 64}


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    monkeypatch.setattr(watch, "POLL_SECONDS", 0.05)
    ledger = Ledger(tmp_path)
    ledger.plan_jobs(KEYS)
    (tmp_path / "scores.json").write_text("{}")
    return ledger


def swept(ledger: Ledger, console: Console) -> list[str]:
    """Let one job end and the other fail while both are watched; returns the names that were reported as done."""
    done_names: list[str] = []
    one, two = (Status(key, name, str(ledger.root), WAITING) for name, key in KEYS.items())
    with ledger.hold_submission():
        ledger.write(one)
        ledger.write(two)
        watched = [(key, name) for name, key in KEYS.items()]
        with watch.watching(ledger, watched, lambda status: done_names.append(status.name), console):
            with ledger.hold_job(one.key):
                one = replace(as_started(one), stage="attribution 3/12")
                ledger.write(one)
                time.sleep(0.4)
                ledger.write(replace(one, state=DONE, explained=7, scores=scores_digest(ledger.root), end=time.time()))
            ledger.write(replace(as_started(two), state=FAILED, reason="no [such] model", end=time.time()))
    return done_names


def test_a_pipe_gets_a_line_when_a_job_starts_and_when_it_ends(ledger: Ledger) -> None:
    out = io.StringIO()
    assert swept(ledger, Console(file=out, width=40)) == ["one"]
    lines = out.getvalue().splitlines()
    assert [line.split(" on ")[0].split(" in ")[0] for line in lines] == [
        "job 1/2 one: started", "job 1/2 one: done", "job 2/2 two [b]: started",
        "job 2/2 two [b]: failed: no [such] model",
    ]  # fmt: skip
    assert "7 units explained" in lines[1]


def test_a_terminal_shows_a_bar_and_the_running_jobs(ledger: Ledger) -> None:
    out = io.StringIO()
    swept(ledger, Console(file=out, width=100, force_terminal=True))
    assert "jobs: 1 done, 1 failed" in out.getvalue() and "attribution 3/12" in out.getvalue()


def test_the_table_has_each_job_with_its_reason(ledger: Ledger) -> None:
    out = io.StringIO()
    failed = replace(as_started(Status("c" * 64, "<b>", "", WAITING)), state=FAILED, reason="[red]no", end=time.time())
    running = replace(as_started(Status("d" * 64, "r", "", WAITING)), state=RUNNING, stage="word_pairs 1/2")
    Console(file=out, width=200).print(watch.table([failed, running]))
    assert "<b>" in out.getvalue() and "[red]no" in out.getvalue() and "word_pairs 1/2" in out.getvalue()
