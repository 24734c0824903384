"""A verdict in scores.json: it holds the p before the correction, and is read back as it was written."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shiftbench.results.document import parsed
from shiftbench.verdicts import Verdict, decide
from shiftbench.verdicts.sentences import fields

from .test_decision import CLAIM, GOOD, changed, score


def recorded(verdict: Verdict, **other: Any) -> bytes:
    row = {"finding": "f", "name": "s", "value": 0.5, "low": 0.4, "high": 0.6, "p": None, "n": 60}
    verdicts = {name: {**found, **other} for name, found in fields([verdict], []).items()}
    document = {"schema": "shiftbench/scores/2", "pair": {}, "versions": {}, "scores": [row], "verdicts": verdicts}
    return json.dumps(document).encode()


def test_the_p_before_the_correction_is_recorded() -> None:
    evidence = changed(excess=score(0.4, p=0.002, name="s_over_null"))
    found = parsed(recorded(decide(CLAIM, evidence))).verdicts["f"]
    assert (found.p, found.p_uncorrected, found.short) == (1e-3, 0.002, "does it")
    assert found.null == GOOD.null


@pytest.mark.parametrize("other", [{"p_uncorrected": 2.0}, {"p": -0.1}, {"n": -1}, {"low": 0.9}])
def test_a_verdict_with_impossible_numbers_is_refused(other: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no usable interval, n or p"):
        parsed(recorded(decide(CLAIM, GOOD), **other))
