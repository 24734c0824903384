"""A finding's scores in the groups of its tables: shifts, levels, diagnostics, and sizes without a sign."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shiftbench.contracts.result import Kind, Result, Score, ScoreFact

UNSIGNED = "sizes without a sign"
ABOUT = {
    "shifts": "How much tuning changed something. 0 is a model compared with itself.",
    "levels": "Properties of one model, not changes.",
    "diagnostics": "Numbers that help to read the scores above. They make no claim.",
    UNSIGNED: (
        "Angles and distances cannot be below 0, and any change of the weights makes them larger than 0. That their "
        "interval leaves out 0 therefore says nothing; what counts is how far they lie above the null models."
    ),
}


@dataclass(frozen=True)
class ScoreRow:
    """One score of a table. fact: the ScoreFact of the score; None where its finding declares none."""

    score: Score
    fact: ScoreFact | None


@dataclass(frozen=True)
class UnitRows:
    """Scores of one unit, which share a scale.

    unit: None where the scores have no facts. reach: the largest finite magnitude of their values and bounds; 0 where
    none is finite.
    """

    unit: str | None
    rows: Sequence[ScoreRow]

    @property
    def reach(self) -> float:
        ends = [abs(end) for row in self.rows for end in (row.score.value, row.score.low, row.score.high)]
        return max((end for end in ends if math.isfinite(end)), default=0.0)


@dataclass(frozen=True)
class ScoreGroup:
    """Scores of one kind. title: a key of ABOUT. units: in the order of their first scores in the result."""

    title: str
    units: Sequence[UnitRows]

    @property
    def about(self) -> str:
        return ABOUT[self.title]

    @property
    def signed(self) -> bool:
        return self.title != UNSIGNED

    @property
    def count(self) -> int:
        return sum(len(unit.rows) for unit in self.units)


def score_groups(result: Result, facts: Mapping[str, ScoreFact]) -> list[ScoreGroup]:
    """The groups that have a score, in the order of ABOUT. facts: by the score's name.

    A score without a fact counts as a level where `Result.level` is True, and as a shift otherwise.
    """
    rows = [ScoreRow(score, facts.get(score.name)) for score in result.scores]
    titles = {title: [row for row in rows if _title(row, result.level) == title] for title in ABOUT}
    return [ScoreGroup(title, _by_unit(found)) for title, found in titles.items() if found]


def _title(row: ScoreRow, level: bool) -> str:
    if row.fact is None:
        return "levels" if level else "shifts"
    if not row.fact.signed:
        return UNSIGNED
    return {Kind.SHIFT: "shifts", Kind.LEVEL: "levels", Kind.DIAGNOSTIC: "diagnostics"}[row.fact.kind]


def _by_unit(rows: Sequence[ScoreRow]) -> list[UnitRows]:
    unit_of = [row.fact.unit if row.fact else None for row in rows]
    return [
        UnitRows(unit, [row for row, its in zip(rows, unit_of, strict=True) if its == unit])
        for unit in dict.fromkeys(unit_of)
    ]
