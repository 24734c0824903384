"""A leaderboard's pictures as SVG: a score on its column's scale, and a pair's profile over all findings.

No inline style: the page's policy forbids it, so classes carry the colours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from shiftbench.contracts.result import Score

WIDTH, HEIGHT, MARGIN = 176, 18, 7
RADIUS = 90.0
ZERO = 1 / 3  # of the radius: the ring of no change
LABEL = 1.17  # of the radius: where an axis is named


@dataclass(frozen=True)
class Scale:
    """From the least to the largest bound of a column, zero included."""

    low: float
    high: float

    def x(self, value: float) -> float:
        """Place across the picture, in its units."""
        span = self.high - self.low or 1.0
        return MARGIN + (WIDTH - 2 * MARGIN) * (value - self.low) / span

    @property
    def reach(self) -> float:
        """The farthest bound from zero; 1 where all are zero."""
        return max(-self.low, self.high) or 1.0


def scale(scores: Sequence[Score | None]) -> Scale:
    """The scale that all scores of a column share."""
    present = [score for score in scores if score is not None]
    return Scale(min([0.0, *(s.low for s in present)]), max([0.0, *(s.high for s in present)]))


def interval(score: Score, along: Scale) -> Markup:
    """The score as a dot with a whisker beside zero; hollow where its interval holds zero. The text beside it tells."""
    y = HEIGHT / 2
    state = "none" if score.n == 0 else ("clear" if score.low > 0 or score.high < 0 else "open")
    return Markup(
        '<svg class="interval {state}" viewBox="0 0 {w} {h}" width="{w}" height="{h}" aria-hidden="true">'
        '<line class="axis" x1="0" x2="{w}" y1="{y:g}" y2="{y:g}"/>'
        '<line class="zero" x1="{zero:.1f}" x2="{zero:.1f}" y1="2" y2="{bottom}"/>'
        '<line class="whisker" x1="{low:.1f}" x2="{high:.1f}" y1="{y:g}" y2="{y:g}"/>'
        '<circle cx="{value:.1f}" cy="{y:g}" r="4.5"/></svg>'
    ).format(
        state=state, w=WIDTH, h=HEIGHT, y=y, bottom=HEIGHT - 2, zero=along.x(0), low=along.x(score.low),
        high=along.x(score.high), value=along.x(score.value),
    )  # fmt: skip


def profile(scores: Sequence[Score | None], scales: Sequence[Scale], names: Sequence[str]) -> Markup:
    """A spoke a finding: outside the dashed ring tuning moved the model the way the finding says, inside the other way.

    The rim is the farthest bound of the column. The band runs from low to high; a finding without a score has no dot.
    """
    count = len(scores)
    rings = Markup("").join(
        Markup('<path class="{}" d="{}"/>').format(name, _closed([share] * count))
        for name, share in (("rim", 1.0), ("ring", ZERO))
    )
    spokes = Markup("").join(_spoke(i, count, names[i]) for i in range(count))
    return Markup(
        '<svg class="profile" viewBox="-100 -100 200 200" aria-hidden="true"><g class="frame">{}{}</g>'
        '<g class="shape">{}</g></svg>'
    ).format(rings, spokes, _shape(scores, scales))


def _shape(scores: Sequence[Score | None], scales: Sequence[Scale]) -> Markup:
    low, value, high = (
        [ZERO if s is None else _share(getattr(s, end), along) for s, along in zip(scores, scales, strict=True)]
        for end in ("low", "value", "high")
    )
    parts = []
    if len(scores) >= 3:
        parts.append(Markup('<path class="band" d="{}"/>').format(f"{_closed(high)}{_closed(low)}"))
        parts.append(Markup('<path class="line" d="{}"/>').format(_closed(value)))
    for i, score in enumerate(scores):
        if score is not None:
            ends = (*_point(i, len(scores), low[i]), *_point(i, len(scores), high[i]))
            parts.append(
                Markup('<line class="whisker" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>').format(*ends)
            )
            x, y = _point(i, len(scores), value[i])
            parts.append(Markup('<circle cx="{:.1f}" cy="{:.1f}" r="5"/>').format(x, y))
    return Markup("").join(parts)


def _share(value: float, along: Scale) -> float:
    """Place on a spoke as a share of the radius; what is far below zero stays at the centre."""
    return max(0.0, ZERO + (1 - ZERO) * value / along.reach)


def _point(i: int, count: int, share: float) -> tuple[float, float]:
    angle = 2 * math.pi * i / count - math.pi / 2
    return RADIUS * share * math.cos(angle), RADIUS * share * math.sin(angle)


def _closed(shares: Sequence[float]) -> str:
    """A path through the spokes; circles stand in where there are too few spokes for an area."""
    if len(shares) < 3:
        r = RADIUS * shares[0]
        return f"M{-r:.1f},0A{r:.1f},{r:.1f},0,1,1,{r:.1f},0A{r:.1f},{r:.1f},0,1,1,{-r:.1f},0Z"
    points = (_point(i, len(shares), share) for i, share in enumerate(shares))
    return "M" + "L".join(f"{x:.1f},{y:.1f}" for x, y in points) + "Z"


def _spoke(i: int, count: int, name: str) -> Markup:
    x, y = _point(i, count, 1.0)
    at_x, at_y = _point(i, count, LABEL)
    level = abs(at_y) < 0.4 * RADIUS  # beside the picture; else above or below it
    anchor = ("start" if at_x > 0 else "end") if level else "middle"
    down = 4 if level else (14 if at_y > 0 else 0)
    return Markup(
        '<line x1="0" y1="0" x2="{:.1f}" y2="{:.1f}"/><text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>'
    ).format(x, y, at_x, at_y + down, anchor, name)
