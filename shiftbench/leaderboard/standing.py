"""What a board says of each claim of each pair: the word of the run, and whether it holds over the whole board."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shiftbench.contracts.result import Score
from shiftbench.leaderboard.board import Column
from shiftbench.leaderboard.entry import Entry
from shiftbench.leaderboard.multiplicity import ClaimTest, corrected, draws_needed
from shiftbench.report.numbers import p_value
from shiftbench.results.document import RecordedVerdict
from shiftbench.verdicts import Word
from shiftbench.verdicts.decision import ALPHA

SUPPORTED, OPPOSITE = Word.SUPPORTED.value, Word.OPPOSITE.value
NO_VERDICT, NO_CLAIM, NOT_SCORED = "no verdict", "no claim", "not scored"
TESTED = (Word.SUPPORTED, Word.OPPOSITE, Word.NOT_CLEAR)  # the words of claims that could have been decided


@dataclass(frozen=True)
class Standing:
    """What a board says of one claim of one pair.

    word: 'supported' or 'opposite' where the run says so and the p that is corrected over the board is at most ALPHA;
    'supported alone' or 'opposite alone' where only the run says so; another word of `Word`, as the run says it.
    Without a verdict: NOT_SCORED where the run has no score of the finding; else '' for a check; else NO_VERDICT where
    the run is of a version that recorded no verdicts, or the column is of a claim; else NO_CLAIM. phrase: why the word
    holds for the run only, or that the run is of such a version; empty otherwise. reasons: those of the run's verdict.
    score: the verdict's headline; without a verdict, the score that the column is about; None where the run has none.
    p_alone: the p of this claim alone, not corrected. p_board: corrected over the board. Both are None where the claim
    was not tested.
    """

    word: str
    phrase: str
    reasons: Sequence[str]
    score: Score | None
    p_alone: float | None = None
    p_board: float | None = None

    @property
    def supported(self) -> bool:
        """Whether the claim is supported over the whole board. Only then does the pair get a rank and a colour."""
        return self.word == SUPPORTED

    @property
    def decided(self) -> bool:
        """Whether the word is 'supported' or 'opposite', without 'alone'."""
        return self.word in (SUPPORTED, OPPOSITE)


@dataclass(frozen=True)
class Correction:
    """How a board corrects for its number of tests.

    tests: the number of tested claims over all pairs. standing: how many of them have a corrected p of at most ALPHA.
    draws: the smallest and the largest number of null models among the tests; None where nothing was tested. needed:
    the fewest null models with which one more of the tests can have a corrected p of at most ALPHA, besides those that
    stand (`draws_needed` for the number of the others).
    """

    tests: int
    standing: int
    draws: tuple[int, int] | None
    needed: int


def standings(
    rows: Sequence[Entry], columns: Sequence[Column]
) -> tuple[Mapping[tuple[str, str], Standing], Correction]:
    """(what the board says, by (the row's run id, the column's key); how it was corrected).

    rows, columns: all those of the board, because the correction is over all of them.
    """
    keys = [(entry.run_id, column.key) for entry in rows for column in columns]
    verdicts = [None if column.check else entry.verdicts.get(column.key) for entry in rows for column in columns]
    tests = [None if verdict is None else _test(verdict) for verdict in verdicts]
    done = [test for test in tests if test is not None]
    draws = [test.draws for test in done]
    ps = corrected(tests)
    standing = sum(p is not None and p <= ALPHA for p in ps)
    needed = draws_needed(len(done) - standing)
    correction = Correction(len(done), standing, (min(draws), max(draws)) if draws else None, needed)
    cells = [(entry, column) for entry in rows for column in columns]
    found = [
        _without_verdict(*cell) if verdict is None else _with_verdict(cell[1], verdict, test, p, correction)
        for cell, verdict, test, p in zip(cells, verdicts, tests, ps, strict=True)
    ]
    return dict(zip(keys, found, strict=True)), correction


def _test(verdict: RecordedVerdict) -> ClaimTest | None:
    """The test of a claim; None where the run's word is not in TESTED, or where the verdict has no p or no null models.

    Whether a claim is applicable, trustworthy and controlled does not depend on its p, so leaving out the claims that
    are not biases nothing.
    """
    if Word(verdict.word) not in TESTED or verdict.p_uncorrected is None or verdict.null is None:
        return None
    # `Null.place` counts ties where the headline is not above 0 and only there, so they count as beyond on both sides.
    draws, place = verdict.null.draws, verdict.null.place
    return ClaimTest(verdict.p_uncorrected, draws, draws - place if verdict.value > 0 else place)


def _with_verdict(
    column: Column, verdict: RecordedVerdict, test: ClaimTest | None, p: float | None, correction: Correction
) -> Standing:
    score = verdict.score(column.finding)
    word, phrase = verdict.word, ""
    if Word(word).decided and (p is None or p > ALPHA):
        word, phrase = f"{word} alone", f"not over this board: {_lack(test, p, correction)}"
    return Standing(word, phrase, verdict.reasons, score, None if test is None else test.p, p)


def _lack(test: ClaimTest | None, p: float | None, correction: Correction) -> str:
    """What keeps a decided claim from holding over the board, in a few words.

    test: None where the board did not test the claim. p: the p that is corrected over the board.
    """
    if test is None:
        return "the run has no p to correct"
    left = correction.tests - correction.standing
    if left / (test.draws + 1) > ALPHA and left * test.p <= ALPHA:
        return f"{correction.needed:,} draws would be needed"
    return f"p = {p_value(p)} over {correction.tests:,} claims"


def _without_verdict(entry: Entry, column: Column) -> Standing:
    score = entry.score(column.finding, column.headline) or entry.score(column.finding, column.score)
    if score is None and not any(score.finding == column.finding for score in entry.scores):
        return Standing(NOT_SCORED, "", (), None)
    if column.check:
        return Standing("", "", (), score)
    if not entry.judged:
        return Standing(NO_VERDICT, "scored by an older version", (), score)
    return Standing(NO_VERDICT if column.claim else NO_CLAIM, "", (), score)
