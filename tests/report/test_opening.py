"""What stands on the first screen and where the rest stands: verdicts, commands, notes, groups of scores, scales."""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path

import pandas as pd
import pytest

from shiftbench.contracts.result import Figure, Kind, Result, Saliency, Score, ScoreFact
from shiftbench.report import RunSummary
from shiftbench.report.figures import figure_svg, shared_limits
from shiftbench.report.intervals import WIDTH, interval_svg
from shiftbench.report.opening import SIGNS, cards, conditions, day_and_time, example
from shiftbench.report.page import finding_notes, run_notes
from shiftbench.report.score_groups import score_groups
from shiftbench.report.terminal import MARKS
from shiftbench.verdicts import Word
from shiftbench.verdicts.sentences import command_line

from .sample import every_word, summary
from .test_figures import texts
from .test_report import Page, written


def test_the_sample_has_every_word_and_the_terminal_has_the_same_signs() -> None:
    assert {verdict.word for verdict in every_word().verdicts} == set(Word)
    assert {word: mark[0] for word, mark in MARKS.items()} == SIGNS


def test_a_card_has_the_reasons_what_could_be_found_and_the_command_that_would_decide() -> None:
    run = every_word()
    supported, opposite, not_clear, uncontrolled, distrusted, not_applicable = cards(run.verdicts, run.given)
    assert (supported.sign, supported.word, supported.next, supported.detectable) == ("+", "supported", "", "")
    assert supported.headline == "+0.307 [+0.197, +0.417]"
    assert supported.basis == "recognition, 60 prompts, corrected p = 0.002"
    assert opposite.reasons == ["the concepts of the tuned model's feed-forward networks moved away from user tasks"]
    assert not_clear.detectable == "This run would have found an effect of 0.500 with a probability of 80%."
    assert uncontrolled.next == "shiftbench score pair=demo suite=demo control=random"
    assert "explain.method=auto" in distrusted.next
    assert not_applicable.headline == not_applicable.basis == ""


def test_the_page_says_what_was_compared_when_and_by_which_command(tmp_path: Path) -> None:
    run = every_word()
    assert conditions(run.pair, run.verdicts) == [
        ("pair", "demo"), ("prompts", "60 of self_instruct"), ("suite", "demo"),
        ("control", "199 permuted null models"),
    ]  # fmt: skip
    text = " ".join(Page(written(run, tmp_path)).texts)
    assert day_and_time(run.finished) == "2026-03-01 14:05 UTC"
    assert command_line(run.given) == "shiftbench score pair=demo suite=demo control=permuted control.draws=199"
    for part in (day_and_time(run.finished), command_line(run.given), "Of the 2 prompts that are shown token by token"):
        assert part in text
    for verdict in run.verdicts:
        assert verdict.word.value in text
        assert verdict.claim.short in text
        assert all(reason in text for reason in verdict.reasons)
    # A sentence that claims more than the verdict does is not shown.
    assert run.results[0].sentence not in text
    assert day_and_time(None) == command_line([]) == ""
    assert conditions({}, []) == []
    assert conditions({"prompts": {"a": 3}, "control": "none"}, []) == [("control", "none")]


@pytest.mark.parametrize(("head", "chosen"), [(0.2, "b"), (-0.2, "c"), (0.0, "b")])
def test_the_shown_prompt_changed_most_in_the_direction_of_the_mean(head: float, chosen: str) -> None:
    shown = [Saliency(name, ["x"], [True], [0.1], [0.2], "", 0.5, 0.5 + change)
             for name, change in (("a", 0.1), ("nan", math.nan), ("b", 0.4), ("c", -0.3))]  # fmt: skip
    result = Result("f", "s", "", [Score("f", "s", head, head, head, None, 9)], {}, saliency=shown)
    found = example([summary().results[1], result])
    assert found is not None
    assert found.saliency.prompt_id == chosen
    assert ("as the mean over all prompts" in found.rule) == bool(head)
    assert example([dataclasses.replace(result, saliency=[])]) is None
    [only] = [example([dataclasses.replace(result, saliency=shown[:1])])]
    assert only is not None and only.rule.startswith("The prompt that is shown")


def test_a_note_stands_at_the_finding_that_it_is_about(tmp_path: Path) -> None:
    first, second, third = summary().results
    second = dataclasses.replace(second, notes=["Quarter 4 has no verb."])
    notes = ["Quarter 4 has no verb.", "concept_rotation: 3 labels are left out.", "1 prompt was skipped."]
    run = dataclasses.replace(summary(), results=[first, second, third], notes=notes)
    assert finding_notes(run, first) == []
    assert finding_notes(run, second) == ["Quarter 4 has no verb."]
    assert finding_notes(run, third) == ["3 labels are left out."]
    assert run_notes(run) == ["1 prompt was skipped."]
    text = written(run, tmp_path)
    sections = re.split(r'<section class="finding"', text)
    assert "1 prompt was skipped." in sections[0]
    assert [("Quarter 4" in section, "3 labels" in section) for section in sections] == [
        (False, False), (False, False), (True, False), (False, True), (False, False),
    ]  # fmt: skip


def test_scores_are_grouped_by_kind_and_sizes_without_a_sign_stand_apart(tmp_path: Path) -> None:
    def fact(unit: str, kind: Kind = Kind.SHIFT, signed: bool = True) -> ScoreFact:
        return ScoreFact(f"label of {unit}", unit, "more", "none", kind, signed)

    facts = {
        "a": fact("nats"), "b": fact("share"), "c": fact("nats"), "level": fact("share", Kind.LEVEL),
        "part": fact("nats", Kind.DIAGNOSTIC), "angle": fact("radians", Kind.DIAGNOSTIC, signed=False),
    }  # fmt: skip
    reach = {"a": 0.1, "b": 3.0, "c": 0.4, "level": 1.0, "part": 1.0, "angle": 0.5, "unknown": 1.0}
    scores = [Score("f", name, end / 2, 0.0, end, None, 9) for name, end in reach.items()]
    result = Result("f", "a", "One.", scores, {})
    groups = score_groups(result, facts)
    assert [
        (group.title, [(unit.unit, [row.score.name for row in unit.rows], unit.reach) for unit in group.units])
        for group in groups
    ] == [
        ("shifts", [("nats", ["a", "c"], 0.4), ("share", ["b"], 3.0), (None, ["unknown"], 1.0)]),
        ("levels", [("share", ["level"], 1.0)]),
        ("diagnostics", [("nats", ["part"], 1.0)]),
        ("sizes without a sign", [("radians", ["angle"], 0.5)]),
    ]
    text = written(RunSummary({}, {}, [result], [], "", facts={"f": facts}), tmp_path)
    shifts, sizes = text.split("<h3>Sizes without a sign</h3>")
    assert shifts.count('<svg class="interval') == 6  # a picture for each score but the angle
    assert '<svg class="interval' not in sizes
    assert "label of radians" in sizes
    assert "+0.250" not in sizes  # a size has no plus sign
    assert all(words in shifts for words in ("label of nats", "Above 0: more.", "0: none."))


def test_pictures_of_one_unit_share_a_scale() -> None:
    def place(score: Score) -> float:
        found = re.search(r'cx="([\d.]+)"', interval_svg(score, reach=0.8))
        assert found
        return float(found[1]) - WIDTH / 2

    small, large = (Score("f", "s", value, 0.0, value, None, 9) for value in (0.2, 0.8))
    assert place(large) == pytest.approx(4 * place(small), abs=0.2)


def chart(name: str, kind: str, unit: str, values: list[float], signed: bool = True) -> Figure:
    table = pd.DataFrame({"x": range(len(values)), "y": values, "s": "a"})
    return Figure(name, name, kind, table, "x", "y", "s", y_label=unit, signed=signed)


def test_figures_of_one_unit_share_a_scale() -> None:
    both = [chart("a", "line", "nats", [0.1, 0.5]), chart("b", "line", "nats", [0.2, 1.1])]
    lone, size = chart("c", "line", "share", [5.0, 6.0]), chart("d", "line", "degrees", [11.0, 20.0], signed=False)
    bars = [chart("e", "bar", "count", [4.0, 5.0]), chart("f", "line", "count", [4.5, 6.0])]
    limits = shared_limits([*both, lone, size, *bars])
    assert limits[0] == limits[1] == pytest.approx((0.06, 1.14))
    assert limits[2] is None
    assert limits[3] is not None and limits[3][0] == 0.0  # an angle's axis begins at 0
    assert limits[4] == limits[5] and limits[4] is not None and limits[4][0] == 0.0
    labels = [texts(figure_svg(figure, ends)) for figure, ends in zip(both, limits[:2], strict=True)]
    assert labels[0] == labels[1]  # the same ticks
    assert shared_limits([chart("g", "line", "nats", [math.nan]), chart("h", "line", "nats", [math.nan])]) == [
        None,
        None,
    ]


def test_a_size_without_a_sign_has_its_chart_under_the_heading_of_its_own(tmp_path: Path) -> None:
    result = Result("f", "s", "One.", [], {}, [chart("shift", "line", "nats", [0.1, 0.2]),
                    chart("angle", "line", "degrees", [11.0, 20.0], signed=False)])  # fmt: skip
    before, after = written(RunSummary({}, {}, [result], [], ""), tmp_path).split("<h3>Sizes without a sign</h3>")
    assert "<figcaption>shift</figcaption>" in before and "<figcaption>angle</figcaption>" not in before
    assert "<figcaption>angle</figcaption>" in after


def test_every_table_is_folded_and_has_a_caption(tmp_path: Path) -> None:
    first = dataclasses.replace(summary().results[0], captions={"table2": "One row is one quantity. More of it."})
    text = written(dataclasses.replace(summary(), results=[first]), tmp_path)
    assert "One row is one quantity. More of it." in text
    assert "The finding gives no description of this table." in text  # of `prompts`
    assert "<details open" not in text
    outside = re.sub(r"<details.*?</details>", "", text, flags=re.DOTALL)
    assert "<table" not in outside
