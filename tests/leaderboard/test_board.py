"""Which runs share a table, which runs are left out, and the reasons that are given."""

from __future__ import annotations

import dataclasses
import json
import time

import pytest

from shiftbench.errors import InputError
from shiftbench.leaderboard import Board, LeftOut
from shiftbench.leaderboard import build as all_boards
from shiftbench.leaderboard.board import MOST_BOARDS
from shiftbench.leaderboard.tracked_runs import entry
from shiftbench.leaderboard.view import bases_with_pages, lines, named
from shiftbench.tracking import FoundRun

from .runs import Planted, digest, entries, row


def build(entries, unread, group=None) -> Board:
    """The board that is shown first."""
    return all_boards(entries, unread, group)[0]


OTHER = {"pair": {"prompt_set": digest("mt_bench"), "dataset": "mt_bench"}}


def names(board: Board) -> list[str]:
    return sorted(entry.pair["name"] for entry in board.rows)


def reasons(board: Board) -> list[tuple[str, str]]:
    return [(item.pair, item.reason) for item in board.left_out]


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("prompt_set", digest("x"), f"prompts self_instruct ({digest('x')[:8]}), here self_instruct ("),
        ("settings", digest("x"), f"options of findings and methods {digest('x')[:8]}, here {digest('settings')[:8]}"),
        ("response", "own", "responses own, here shared"),
        ("max_new_tokens", 100, "most new tokens 100, here 200"),
        ("template", "tuned", "chat template tuned, here none"),
        ("dtype", "bfloat16", "number format bfloat16, here float32"),
        ("vocabulary_digest", digest("x"), "vocabulary "),
        ("vectors", "input embeddings", "word vectors input embeddings, here glove"),
        ("settings", None, "options of findings and methods none, here"),
        ("control", "none", "control none, here permuted"),
        ("control", None, "control none, here permuted"),
    ],
)
def test_a_run_with_another_setting_is_left_out_and_the_reason_names_the_difference(
    field: str, value: object, text: str
) -> None:
    board = build(entries(Planted("a"), Planted("b"), Planted("c", pair={field: value})), [])
    assert names(board) == ["a", "b"]
    [(pair, reason)] = reasons(board)
    assert pair == "c" and text in reason and reason.startswith("another group, group=g")


@pytest.mark.parametrize("name", ["finding.instruction_verbs", "explain.attribution", "explain.new"])
def test_versions_of_findings_and_methods_are_not_mixed(name: str) -> None:
    board = build(entries(Planted("a"), Planted("b"), Planted("c", versions={name: "2"})), [])
    assert names(board) == ["a", "b"]
    reason = board.left_out[0].reason
    assert f"{name.partition('.')[2].replace('_', ' ')} version 2, here " in reason
    assert reason.endswith("numbers of different versions are not compared")


def test_runs_with_other_versions_of_torch_are_comparable() -> None:
    assert names(build(entries(Planted("a"), Planted("b", versions={"torch": "2.14.0"})), [])) == ["a", "b"]


def test_the_newest_run_of_a_pair_is_shown() -> None:
    board = build(entries(Planted("a", seed=1), Planted("a", seed=2), Planted("b")), [])
    assert sorted(entry.run_id for entry in board.rows) == ["run1", "run2"]
    assert reasons(board) == [("a", "a newer run of the same pair is shown")]


def test_a_pair_of_the_same_name_with_other_weights_is_another_row() -> None:
    board = build(entries(Planted("a", tuned="t1"), Planted("a", tuned="t2"), Planted("a", "base2", tuned="t1")), [])
    assert names(board) == ["a", "a", "a"] and not board.left_out
    assert len(set(named(board.rows).stems.values())) == 3


def test_the_group_with_most_pairs_is_shown_not_the_one_with_most_runs() -> None:
    found = entries(Planted("a"), Planted("b"), *(Planted("c", seed=i, **OTHER) for i in range(5)))
    assert names(build(found, [])) == ["a", "b"]


def test_of_equal_groups_the_newest_is_shown_and_another_can_be_chosen() -> None:
    found = entries(Planted("a", **OTHER), Planted("b"))
    board = build(found, [])
    assert names(board) == ["b"]
    other = board.left_out[0].reason.split("group=")[1].split(":")[0]
    chosen = build(found, [], group=other)
    assert names(chosen) == ["a"] and [item.pair for item in chosen.left_out] == ["b"]
    assert chosen.setting["prompt_set"] == digest("mt_bench")


@pytest.mark.parametrize(("group", "text"), [("gx", "no group"), ("g", "more than one group")])
def test_a_group_that_does_not_exist_is_refused(group: str, text: str) -> None:
    with pytest.raises(InputError, match=f"group={group} is {text} here; choose from g.* \\(1 pairs: 252 prompts"):
        build(entries(Planted("a", **OTHER), Planted("b")), [], group=group)


def test_a_board_without_runs_is_refused() -> None:
    with pytest.raises(InputError, match=r"empty.*shiftbench score pair=demo"):
        build([], [])
    with pytest.raises(InputError, match=r"empty: none of 2 runs .*'a': gone"):
        build([], [LeftOut("1", "a", "gone"), LeftOut("2", "b", "gone")])


def test_columns_are_claims_then_findings_without_claims_then_checks() -> None:
    other = row("new_finding", "first", 0.1, 0.05, 0.15)
    second = {"instruction_recognition.prompt_density_rise": {"short": "leans more"}}
    found = entries(
        Planted("a"), Planted("b", extra=[other], verdicts=second, tags={"flags": "unfaithful:base,,short, one more "})
    )
    board = build([dataclasses.replace(one, levels=("check",)) for one in found], [])
    assert [(column.key, column.headline, column.claim) for column in board.columns] == [
        ("instruction_recognition", "recognition", True), ("instruction_verbs", "verbs_over_null", True),
        ("concept_rotation", "none_share_fall_over_null", True),
        ("instruction_recognition.prompt_density_rise", "prompt_density_rise", True), ("new_finding", "first", False),
    ]  # fmt: skip
    assert [column.label for column in board.columns][::4] == ["Recognises the instruction", "New finding"]
    by_name = {line.entry.pair["name"]: line for line in lines(board, board.rows, named(board.rows), {})}
    assert by_name["b"].entry.warnings == ["attributions of base not better than random", "short", "one more"]
    words = {name: [cell.standing.word for cell in line.cells] for name, line in by_name.items()}
    assert words["a"][3:] == ["no verdict", "not scored"] and words["b"][4] == "no claim"
    assert by_name["b"].cells[4].standing.score is not None and by_name["b"].cells[4].rank is None


def test_a_first_rank_leads_only_where_some_pair_is_clearly_below() -> None:
    low, high = (0.1, 0.05, 0.15), (0.3, 0.2, 0.4)
    wide = (0.2, 0.01, 0.5)
    same = {"verbs": wide, "none_share_fall": wide}
    found = entries(
        Planted("a", scores={"recognition": high, **same}),
        Planted("b", scores={"recognition": low, **same}),
        Planted("c", scores={"recognition": wide, **same}),
    )
    board = build(found, [])
    shown = {line.entry.pair["name"]: line for line in lines(board, board.rows, named(board.rows), {})}
    leads = {name: [cell.leads for cell in line.cells] for name, line in shown.items()}
    # c has rank 1 as well, because no interval lies above its own, but no interval lies below it either.
    assert leads == {"a": [True, False, False], "b": [False] * 3, "c": [False] * 3}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"schema": "shiftbench/scores/9"}, "not of the format"),
        ({"scores": []}, "lacks pair, versions or scores"),
        ({"pair": {"name": "a"}}, "pair lacks base, tuned, base_weights, tuned_weights"),
        ({"scores": [{"finding": "f"}]}, "a score cannot be read"),
        ({"scores": [row("f", "s", float("nan"), 0, 1)]}, "f.s has no usable interval"),
        ({"scores": [row("f", "s", 0, 2, 1)]}, "f.s has no usable interval"),
        ({"scores": ["<script>"]}, "a score cannot be read"),
    ],
)
def test_an_invalid_document_is_refused(change: dict[str, object], text: str) -> None:
    content = json.dumps({**Planted("a").document(), **change}).encode()
    with pytest.raises(ValueError, match=text):
        entry(FoundRun("1", "a", 0, "FINISHED", {}), content)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"null"])
def test_bytes_that_are_not_a_document_are_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"scores\.json is not"):
        entry(FoundRun("1", "a", 0, "FINISHED", {}), content)


def test_a_check_has_no_verdict_and_no_ranks_and_is_the_last_column() -> None:
    check = [row("check", "above_random", 0.1, 0.05, 0.15)]
    found = [dataclasses.replace(one, levels=("check",)) for one in entries(*(Planted(n, extra=check) for n in "abc"))]
    board = build(found, [])
    assert [column.check for column in board.columns] == [False] * (len(board.columns) - 1) + [True]
    checks = [line.cells[-1] for line in lines(board, board.rows, named(board.rows), {})]
    assert all(cell.rank is None and cell.standing.word == "" and cell.standing.score for cell in checks)
    assert all(cell.position == 0 for cell in checks)  # the column can still be sorted


def test_base_models_are_identified_by_their_weights_and_not_by_their_names() -> None:
    same = {"base_weights": digest("one")}
    board = build(entries(
        Planted("a", "/models/x/base", pair=same), Planted("b", "hub/base", pair=same), Planted("c", "hub/base"),
    ), [])  # fmt: skip
    found = named(board.rows)
    [base] = bases_with_pages(board, found)
    assert (base.identity, base.count) == (digest("one"), 2)
    assert len({each.label for each in found.bases.values()}) == len({each.stem for each in found.bases.values()}) == 2


def test_a_smaller_newer_run_hides_nothing() -> None:
    many = {None: {"draws": 199}}
    few = {None: {"draws": 19}}
    found = entries(
        Planted("a", seed=1, verdicts=many), Planted("b", verdicts=many), Planted("a", seed=2, verdicts=few),
        Planted("a", seed=3, verdicts=few, pair={"prompt_set": digest("x"), "prompts": 11}),
    )  # fmt: skip
    first, second = all_boards(found, [])
    assert sorted(entry.run_id for entry in first.rows) == ["run0", "run1"]
    assert ("a", "an older run with more null models (199, not 19) of the same pair is shown") in reasons(first)
    assert [(group.title, group.pairs, group.recorded) for group in first.groups] == [
        ("252 prompts, 200 tokens, suite all, 199 permuted draws", 2, "1970-01-01"),
        ("11 prompts, 200 tokens, suite all, 19 permuted draws", 1, "1970-01-01"),
    ]
    assert second.groups == first.groups and second.group == first.groups[1]


def test_groups_of_the_same_size_are_told_apart_by_what_differs() -> None:
    found = entries(
        Planted("a"),
        Planted("a", pair={"dtype": "bfloat16"}),
        Planted("a", versions={"finding.instruction_verbs": "2"}),
    )
    titles = [group.title.removeprefix("252 prompts, 200 tokens, suite all, 1,999 permuted draws, ")
              for group in all_boards(found, [])[0].groups]  # fmt: skip
    assert titles == [
        "number format float32, instruction verbs version 2", "number format bfloat16, instruction verbs version 1",
        "number format float32, instruction verbs version 1",
    ]  # fmt: skip


def test_a_board_of_old_runs_is_not_chosen_but_can_be_shown() -> None:
    found = entries(*(Planted(name, old=True, versions={"finding.x": "0"}) for name in "abc"), Planted("a"))
    first, second = all_boards(found, [])
    assert first.group.judged and not second.group.judged and len(second.rows) == 3
    shown = lines(second, second.rows, named(second.rows), {})
    cells = [cell for line in shown for cell in line.cells]
    assert {(cell.standing.word, cell.standing.phrase) for cell in cells} == {
        ("no verdict", "scored by an older version")
    }
    assert all(cell.rank is None and cell.standing.score is not None for cell in cells)
    assert [line.entry.pair["name"] for line in shown] == ["a", "b", "c"]  # the order says nothing of the values


def test_an_experiment_of_many_groups_is_built_in_seconds() -> None:
    found = entries(*(Planted(str(i), pair={"settings": digest(str(i))}) for i in range(400)))
    began = time.monotonic()
    boards = all_boards(found, [])
    assert time.monotonic() - began < 30
    assert len(boards) == MOST_BOARDS and len(boards[0].groups) == 400
    assert len({group.title for group in boards[0].groups}) == 400
    assert all(len(item.reason) < 1000 for item in boards[0].left_out)
