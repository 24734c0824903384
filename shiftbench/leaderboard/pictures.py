"""The leaderboard's picture of a score as SVG, on the scale of the score's column.

The page's policy forbids style attributes, so classes set the colours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from shiftbench.contracts.result import Score

WIDTH, HEIGHT, MARGIN = 176, 18, 7  # of the picture of a score, in pixels


@dataclass(frozen=True)
class Scale:
    """The range of a column's scores: from the lowest to the highest bound of their intervals, 0 included."""

    low: float
    high: float

    def x(self, value: float) -> float:
        """The horizontal position of a value in the picture of a score, from the picture's left edge, in pixels."""
        span = self.high - self.low or 1.0
        return MARGIN + (WIDTH - 2 * MARGIN) * (value - self.low) / span


def scale(scores: Sequence[Score | None]) -> Scale:
    """The scale of a column with these scores; None stands for a pair without the score. Without any score: 0 to 0."""
    present = [score for score in scores if score is not None]
    return Scale(min([0.0, *(s.low for s in present)]), max([0.0, *(s.high for s in present)]))


def interval(score: Score, scale: Scale, state: str) -> Markup:
    """The picture of a score: its value as a dot, its interval as a whisker through the dot, and a line at zero.

    state: a class that chooses fill and colour: 'supported' (the only one with a colour), 'opposite' or 'open' (an
    empty dot). A score without observations (n = 0) gets the class 'none' instead: an empty dot without a whisker.
    Screen readers skip the picture: the text beside it has the same numbers.
    """
    y = HEIGHT / 2
    state = "none" if score.n == 0 else state
    return Markup(
        '<svg class="interval {state}" viewBox="0 0 {w} {h}" width="{w}" height="{h}" aria-hidden="true">'
        '<line class="axis" x1="0" x2="{w}" y1="{y:g}" y2="{y:g}"/>'
        '<line class="zero" x1="{zero:.1f}" x2="{zero:.1f}" y1="2" y2="{bottom}"/>'
        '<line class="whisker" x1="{low:.1f}" x2="{high:.1f}" y1="{y:g}" y2="{y:g}"/>'
        '<circle cx="{value:.1f}" cy="{y:g}" r="4.5"/></svg>'
    ).format(
        state=state, w=WIDTH, h=HEIGHT, y=y, bottom=HEIGHT - 2, zero=scale.x(0), low=scale.x(score.low),
        high=scale.x(score.high), value=scale.x(score.value),
    )  # fmt: skip
