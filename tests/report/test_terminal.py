"""The answer on the terminal: few lines, 80 columns, each verdict with its reasons, and nothing said twice."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import pytest

from shiftbench.pipeline.progress import Progress
from shiftbench.report import console, verdict_lines
from shiftbench.report.markdown import answer_markdown
from shiftbench.verdicts import Remedy
from shiftbench.verdicts.sentences import fields
from tests.report.verdicts import claim, four_verdicts, run_with_verdicts, verdict


def text(lines) -> list[str]:
    return [line.plain for line in lines]


def test_four_verdicts_fit_twenty_lines_of_eighty_columns() -> None:
    lines = text(verdict_lines(run_with_verdicts()))
    assert len(lines) <= 19, "one more line names the report"
    assert all(len(line) <= 80 for line in lines if not line.startswith("next: "))
    assert lines[0] == "demo: models/base -> models/tuned"
    assert lines[1] == "60 prompts, suite smoke, control: 199 permuted null models"
    assert [line[:17].rstrip() for line in lines if line[:1] in "+-?!" and line[1:2] == " "] == [
        "+ supported", "! not trustworthy", "? not clear", "? not clear",
    ]  # fmt: skip


def test_reasons_are_indented_under_their_verdict_and_wrapped() -> None:
    lines = text(verdict_lines(run_with_verdicts()))
    at = next(i for i, line in enumerate(lines) if line.startswith("!"))
    assert lines[at + 1] == "    the attributions of base and tuned are not shown to find the tokens that the"
    assert lines[at + 2] == "    responses rest on"
    at = next(i for i, line in enumerate(lines) if line.startswith("+"))
    assert not lines[at + 1].startswith("    "), "a supported claim has no reasons"


def test_every_unclear_verdict_says_what_could_have_been_found() -> None:
    lines = " ".join(line.strip() for line in text(verdict_lines(run_with_verdicts())))
    assert lines.count("smallest detectable effect (80% power): 0.143") == 2


def test_the_longest_reasons_still_fit() -> None:
    """Four claims that are not clear, each because of null models, which takes the longest sentence."""
    made = [claim(f"s{i}", "concepts moved toward user tasks") for i in range(4)]
    verdicts = [verdict("f", one, value=0.05 + i / 100, controlled=True) for i, one in enumerate(made)]
    lines = text(verdict_lines(run_with_verdicts(verdicts)))
    assert len(lines) <= 19 and sum(line.startswith("?") for line in lines) == 4
    assert all(len(line) <= 80 for line in lines if not line.startswith("next: "))


def test_a_reason_that_repeats_is_not_spelled_again() -> None:
    made = [claim("a", "does a"), claim("b", "does b")]
    lines = text(verdict_lines(run_with_verdicts([verdict("f", one) for one in made])))
    assert sum("not controlled" in line for line in lines) == 1
    assert sum("the same reason" in line for line in lines) == 1


@pytest.mark.parametrize(
    ("flags", "checks"),
    [
        (("unfaithful:base", "unfaithful:tuned"), []),
        ((), []),
        (("odd",), ["check: odd"]),
    ],
)
def test_flags_are_one_line_where_no_reason_has_said_them(flags: tuple[str, ...], checks: list[str]) -> None:
    lines = text(verdict_lines(run_with_verdicts(flags=flags)))
    assert [line for line in lines if line.startswith("check:")] == checks


def test_a_flag_that_no_verdict_rests_on_is_said() -> None:
    lines = text(verdict_lines(run_with_verdicts(four_verdicts()[2:], flags=("unfaithful:base",))))
    assert "check: attributions of base are not faithful (no better than a random order)" in lines


def test_a_remedy_without_a_command_is_no_line() -> None:
    open_one = dataclasses.replace(verdict("rotation", claim("fall", "concepts moved")), remedy=Remedy())
    run = dataclasses.replace(run_with_verdicts([open_one], ()), given=())
    assert not [line for line in text(verdict_lines(run)) if line.startswith("next:")]
    assert "What would decide" not in answer_markdown(run)
    assert fields([open_one], ())["rotation"]["next"] is None


@pytest.mark.parametrize("set_to", ["1", ""])
def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch, set_to: str) -> None:
    monkeypatch.setenv("NO_COLOR", set_to)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("FORCE_COLOR", "1")
    out = io.StringIO()
    shown = console(out)
    for line in verdict_lines(run_with_verdicts()):
        shown.print(line, highlight=False, soft_wrap=True)
    assert ("\x1b" in out.getvalue()) is (set_to == "")


def test_a_stage_gets_a_line_only_where_it_computed_something(tmp_path: Path) -> None:
    out = io.StringIO()
    progress = Progress(console(out, 200))
    for title, units in {"all": [True, True], "some": [True, False], "stored": [False, False], "none": []}.items():
        with progress.stage(title, len(units)) as advance:
            for computed in units:
                advance(computed)
    lines = out.getvalue().splitlines()
    assert [line.rpartition(",")[0] for line in lines] == ["all: 2 explained", "some: 1 explained, 1 from the store"]
