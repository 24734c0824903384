"""Which runs share a table, which runs are left out, and the reasons that are given."""

from __future__ import annotations

import dataclasses
import json

import pytest

from shiftbench.errors import InputError
from shiftbench.leaderboard import Board, LeftOut, build
from shiftbench.leaderboard.tracked_runs import entry
from shiftbench.leaderboard.view import bases_with_pages, lines, named
from shiftbench.tracking import FoundRun

from .runs import Planted, digest, entries, row

OTHER = {"pair": {"prompt_set": digest("mt_bench"), "dataset": "mt_bench"}}


def names(board: Board) -> list[str]:
    return sorted(entry.pair["name"] for entry in board.rows)


def reasons(board: Board) -> list[tuple[str, str]]:
    return [(item.pair, item.reason) for item in board.left_out]


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("prompt_set", digest("x"), f"prompt_set {digest('x')[:8]} (self_instruct), not {digest('self_instruct')[:8]}"),
        ("settings", digest("x"), f"settings {digest('x')[:8]}, not {digest('settings')[:8]}"),
        ("response", "own", "response own, not shared"),
        ("max_new_tokens", 100, "max_new_tokens 100, not 200"),
        ("template", "tuned", "template tuned, not none"),
        ("dtype", "bfloat16", "dtype bfloat16, not float32"),
        ("vocabulary_digest", digest("x"), "vocabulary_digest"),
        ("vectors", "input embeddings", "vectors input embeddings, not glove"),
        ("settings", None, "settings none, not"),
    ],
)
def test_a_run_with_another_setting_is_left_out_and_the_reason_names_the_difference(
    field: str, value: object, text: str
) -> None:
    board = build(entries(Planted("a"), Planted("b"), Planted("c", pair={field: value})), [])
    assert names(board) == ["a", "b"]
    [(pair, reason)] = reasons(board)
    assert pair == "c" and text in reason and reason.startswith("another setting, group=g")


@pytest.mark.parametrize("name", ["finding.instruction_verbs", "explain.attribution", "explain.new"])
def test_versions_of_findings_and_methods_are_not_mixed(name: str) -> None:
    board = build(entries(Planted("a"), Planted("b"), Planted("c", versions={name: "2"})), [])
    assert names(board) == ["a", "b"]
    assert f"{name} 2, not" in board.left_out[0].reason


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
    with pytest.raises(InputError, match=f"group={group} is {text} here; choose from g.* \\(1 pairs\\)"):
        build(entries(Planted("a", **OTHER), Planted("b")), [], group=group)


def test_a_board_without_runs_is_refused() -> None:
    with pytest.raises(InputError, match=r"empty.*shiftbench score pair=demo"):
        build([], [])
    with pytest.raises(InputError, match=r"empty: none of 2 runs .*'a': gone"):
        build([], [LeftOut("1", "a", "gone"), LeftOut("2", "b", "gone")])


def test_columns_appear_where_a_run_has_them() -> None:
    null = row("instruction_recognition", "recognition_over_null", 0.1, 0.05, 0.15)
    other = row("new_finding", "first", 0.1, 0.05, 0.15)
    board = build(
        entries(Planted("a"), Planted("b", extra=[null, other], tags={"flags": "short, short,,one more "})), []
    )
    found = [(column.finding, column.headline, column.over_null) for column in board.columns]
    assert found == [
        ("instruction_recognition", "recognition", True), ("instruction_verbs", "verbs", False),
        ("concept_rotation", "none_share_fall", False), ("new_finding", "first", False),
    ]  # fmt: skip
    by_name = {line.entry.pair["name"]: line for line in lines(board.rows, board.columns, named(board.rows), {})}
    assert by_name["b"].entry.flags == ("short", "one more")
    assert by_name["a"].cells[3].score is None and by_name["a"].cells[3].rank is None
    assert by_name["b"].cells[0].over_null is not None and by_name["a"].cells[0].over_null is None


def test_a_first_rank_leads_only_where_some_pair_is_clearly_below() -> None:
    low, high, wide = (0.1, 0.05, 0.15), (0.3, 0.2, 0.4), (0.2, 0.0, 0.5)
    same = {"verbs": wide, "none_share_fall": wide}
    found = entries(
        Planted("a", scores={"recognition": high, **same}),
        Planted("b", scores={"recognition": low, **same}),
        Planted("c", scores={"recognition": wide, **same}),
    )
    board = build(found, [])
    shown = {line.entry.pair["name"]: line for line in lines(board.rows, board.columns, named(board.rows), {})}
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


def test_a_check_has_no_ranks_is_the_last_column_and_not_in_the_profile() -> None:
    found = [
        dataclasses.replace(one, levels=("concept_rotation",))
        for one in entries(Planted("a"), Planted("b"), Planted("c"))
    ]
    board = build(found, [])
    assert [column.level for column in board.columns] == [False] * (len(board.columns) - 1) + [True]
    shown = lines(board.rows, board.columns, named(board.rows), {})
    checks = [line.cells[-1] for line in shown]
    assert all(cell.rank is None and not cell.leads and cell.score is not None for cell in checks)
    assert sorted(cell.position for cell in checks) == [0, 1, 2]  # the column can still be sorted
    assert all("concept" not in str(line.profile).lower() for line in shown)
    plain = build(entries(Planted("a"), Planted("b"), Planted("c")), [])
    assert any("concept" in str(line.profile).lower() for line in
               lines(plain.rows, plain.columns, named(plain.rows), {}))  # fmt: skip


def test_base_models_are_identified_by_their_weights_and_not_by_their_names() -> None:
    same = {"base_weights": digest("one")}
    board = build(entries(
        Planted("a", "/models/x/base", pair=same), Planted("b", "hub/base", pair=same), Planted("c", "hub/base"),
    ), [])  # fmt: skip
    found = named(board.rows)
    [base] = bases_with_pages(board, found)
    assert (base.identity, base.count) == (digest("one"), 2)
    assert len({each.label for each in found.bases.values()}) == len({each.stem for each in found.bases.values()}) == 2
