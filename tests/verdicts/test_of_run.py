"""The verdicts of a run: what they take from the results of its findings, and what is recorded of the null models."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from shiftbench.contracts.result import NullScores, Result, Score
from shiftbench.findings.null import excess_score
from shiftbench.leaderboard.standing import _test
from shiftbench.results.document import parsed
from shiftbench.verdicts import Circumstances, Verdict, Word, verdicts_of

from .test_decision import BY_NULL
from .test_fields import recorded


def judged(value: float, nulls: list[float], confidence: float = 0.95) -> Verdict:
    """The verdict on one claim, whose null are the null models, with a narrow interval around the score."""
    score = Score("f", "s", value, value - 0.001, value + 0.001, 1e-6, 60)
    scores = [score, excess_score(score, nulls, confidence)]
    found: Any = SimpleNamespace(claims=(BY_NULL,), explain=None)
    result = Result("f", "s", "A sentence.", scores, {}, nulls=NullScores("permuted", len(nulls), {"s": tuple(nulls)}))
    (verdict,) = verdicts_of({"f": found}, [result], Circumstances(True, confidence))
    return verdict


NULLS = np.random.default_rng(0).normal(0, 0.01, 199).tolist()


def test_the_confidence_of_the_run_decides_how_many_null_models_are_needed() -> None:
    assert judged(0.5, NULLS[:39]).word is Word.SUPPORTED
    assert judged(0.5, NULLS[:39], 0.99).reasons[0].startswith("39 null models give a range")
    assert judged(0.5, NULLS, 0.99).word is Word.SUPPORTED


@pytest.mark.parametrize(("value", "word"), [(0.5, Word.SUPPORTED), (-0.5, Word.OPPOSITE)])
@pytest.mark.parametrize(("ties", "beyond"), [(0, 0), (3, 0), (3, 2)])
def test_null_models_that_score_as_much_count_against_the_word_on_both_sides(
    value: float, word: Word, ties: int, beyond: int
) -> None:
    verdict = judged(value, NULLS + [value] * ties + [value * 1.01] * beyond)
    assert verdict.word is word
    test = _test(parsed(recorded(verdict)).verdicts["f"])
    assert test is not None
    assert test.beyond == ties + beyond and test.rank_p == (1 + ties + beyond) / (200 + ties + beyond)
