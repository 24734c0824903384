"""What a board says of each claim: the run's word where it holds over the board, and what bounds it elsewhere."""

from __future__ import annotations

from typing import Any

import pytest

from shiftbench.leaderboard import build
from shiftbench.leaderboard.standing import Correction, Standing, standings
from shiftbench.leaderboard.view import lines, named

from .runs import Planted, entries

UP = (0.2, 0.1, 0.3)
ABOVE = {"kind": "permuted", "draws": 1999, "mean": 0.0, "low": -0.03, "high": 0.03, "place": 1999}


def of_recognition(**fields: Any) -> tuple[Standing, Correction]:
    """What a board of ten pairs says of the first one's recognition, where every other claim is not clear.

    fields: of that verdict. The board has 30 tests, 10 pairs with 3 claims each.
    """
    unclear = {name: (0.01, -0.1, 0.1) for name in ("recognition", "verbs", "none_share_fall")}
    first = Planted("0", scores={**unclear, "recognition": UP}, verdicts={"instruction_recognition": fields})
    board = build(entries(first, *(Planted(str(i), scores=unclear) for i in range(1, 10))), [])[0]
    found, correction = standings(board.rows, board.columns)
    return found["run0", "instruction_recognition"], correction


@pytest.mark.parametrize(
    ("fields", "word", "phrase"),
    [
        ({"draws": 599}, "supported", ""),
        ({"draws": 199}, "supported alone", "not over this board: 599 draws would be needed"),
        ({"p_uncorrected": 0.004}, "supported alone", "not over this board: p = 0.12 over 30 claims"),
        ({"draws": 199, "p_uncorrected": 0.01}, "supported alone", "not over this board: p = 0.3 over 30 claims"),
        ({"p_uncorrected": None}, "supported alone", "not over this board: the run has no p to correct"),
        ({"draws": 0}, "supported alone", "not over this board: the run has no p to correct"),
        ({"verdict": "opposite", "value": -0.2, "low": -0.3, "high": -0.1, "null": ABOVE}, "opposite alone",
         "not over this board: p = 1 over 30 claims"),  # it lies above all null models, and not below them
        ({"verdict": "not trustworthy"}, "not trustworthy", ""),
        ({"verdict": "not applicable", "n": 0}, "not applicable", ""),
    ],
)  # fmt: skip
def test_a_word_stands_only_where_it_holds_over_the_board(fields: dict[str, Any], word: str, phrase: str) -> None:
    standing, _ = of_recognition(**fields)
    assert (standing.word, standing.phrase) == (word, phrase)
    assert standing.supported == (word == "supported")


def test_claims_that_are_not_judged_by_a_test_are_not_counted() -> None:
    assert of_recognition()[1] == Correction(30, 1, (1999, 1999), 579)
    for fields in ({"verdict": "not trustworthy"}, {"verdict": "not applicable"}, {"draws": 0}):
        assert of_recognition(**fields)[1] == Correction(29, 0, (1999, 1999), 579)


def test_only_supported_pairs_have_a_rank_and_the_order_of_the_others_says_nothing() -> None:
    unclear = {"verbs": (0.01, -0.1, 0.1), "none_share_fall": (0.01, -0.1, 0.1)}
    found = entries(
        Planted("a", scores={**unclear, "recognition": (0.05, -0.1, 0.2)}),
        Planted("b", scores={**unclear, "recognition": (0.9, 0.8, 1.0)},
                verdicts={"instruction_recognition": {"verdict": "not trustworthy"}}),
        Planted("c", scores={**unclear, "recognition": (0.15, -0.1, 0.4)}),
        Planted("d", scores={**unclear, "recognition": (0.1, 0.05, 0.15)}),
        Planted("e", scores={**unclear, "recognition": (0.3, 0.2, 0.4)}),
    )  # fmt: skip
    board = build(found, [])[0]
    shown = lines(board, board.rows, named(board.rows), {})
    assert [line.entry.pair["name"] for line in shown] == ["e", "d", "a", "c", "b"]
    ranked = [line.cells[0].rank for line in shown]
    assert [rank and (rank.first, rank.last) for rank in ranked] == [(1, 1), (2, 2), None, None, None]
    pictures = [str(line.cells[0].picture) for line in shown]
    assert ['class="interval supported"' in picture for picture in pictures] == [True, True, False, False, False]
