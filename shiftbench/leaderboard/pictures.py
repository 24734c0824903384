"""The leaderboard's pictures as SVG: a score on its column's scale, and a pair's profile over all findings.

The page's policy forbids style attributes, so classes set the colours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from shiftbench.contracts.result import Score

WIDTH, HEIGHT, MARGIN = 176, 18, 7  # of the picture of a score, in pixels
RADIUS = 90.0  # of a profile, in the units of its view box, which is 200 wide
ZERO_SHARE = 1 / 3  # share of the radius at which a profile's dashed ring marks zero
LABEL_SHARE = 1.17  # share of the radius at which a profile names its spokes


@dataclass(frozen=True)
class Scale:
    """The range of a column's scores: from the lowest to the highest bound of all intervals, zero included."""

    low: float
    high: float

    def x(self, value: float) -> float:
        """The horizontal position of a value in the picture of a score, from the picture's left edge, in pixels."""
        span = self.high - self.low or 1.0
        return MARGIN + (WIDTH - 2 * MARGIN) * (value - self.low) / span

    @property
    def reach(self) -> float:
        """The larger of the distances of low and high from zero; 1 where both are zero."""
        return max(-self.low, self.high) or 1.0


def scale(scores: Sequence[Score | None]) -> Scale:
    """The scale of a column with these scores; None stands for a pair without the score. Without any score: 0 to 0."""
    present = [score for score in scores if score is not None]
    return Scale(min([0.0, *(s.low for s in present)]), max([0.0, *(s.high for s in present)]))


def interval(score: Score, scale: Scale) -> Markup:
    """The picture of a score: its value as a dot, its interval as a whisker through the dot, and a line at zero.

    The dot is filled where the interval excludes zero, and empty where it includes zero. The class 'none' marks a score
    without observations (n = 0). Screen readers skip the picture: the text beside it has the same numbers.
    """
    y = HEIGHT / 2
    state = "none" if score.n == 0 else ("clear" if score.low > 0 or score.high < 0 else "open")
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


def profile(scores: Sequence[Score | None], scales: Sequence[Scale], names: Sequence[str]) -> Markup:
    """A radar chart of one pair's scores, with one spoke for each finding.

    scores, scales, names: for each finding the pair's headline score (None where it has none), the scale of the
    finding's column and the label of the spoke.
    The dashed ring is zero. A dot outside it means that tuning moved the model in the direction that the finding
    describes; a dot inside it means the opposite direction. The rim is the farthest bound of any pair. The band goes
    from the low to the high ends of the intervals. A finding without a score has no dot, and line and band cross its
    spoke at zero. With fewer than three findings there is no line and no band. Without any finding, the profile is
    empty.
    """
    if not scores:
        return Markup("")
    count = len(scores)
    rings = Markup("").join(
        Markup('<path class="{}" d="{}"/>').format(name, _closed_path([share] * count))
        for name, share in (("rim", 1.0), ("ring", ZERO_SHARE))
    )
    spokes = Markup("").join(_spoke(i, count, names[i]) for i in range(count))
    return Markup(
        '<svg class="profile" viewBox="-100 -100 200 200" aria-hidden="true"><g class="frame">{}{}</g>'
        '<g class="shape">{}</g></svg>'
    ).format(rings, spokes, _shape(scores, scales))


def _shape(scores: Sequence[Score | None], scales: Sequence[Scale]) -> Markup:
    """The band, the line, the whiskers and the dots of a profile, as SVG elements. Parameters as of `profile`."""
    low, value, high = (
        [ZERO_SHARE if s is None else _share(getattr(s, end), scale) for s, scale in zip(scores, scales, strict=True)]
        for end in ("low", "value", "high")
    )
    parts = []
    if len(scores) >= 3:
        parts.append(Markup('<path class="band" d="{}"/>').format(f"{_closed_path(high)}{_closed_path(low)}"))
        parts.append(Markup('<path class="line" d="{}"/>').format(_closed_path(value)))
    for i, score in enumerate(scores):
        if score is not None:
            ends = (*_point(i, len(scores), low[i]), *_point(i, len(scores), high[i]))
            parts.append(
                Markup('<line class="whisker" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>').format(*ends)
            )
            x, y = _point(i, len(scores), value[i])
            parts.append(Markup('<circle cx="{:.1f}" cy="{:.1f}" r="5"/>').format(x, y))
    return Markup("").join(parts)


def _share(value: float, scale: Scale) -> float:
    """The distance of a value from a profile's centre, as a share of the radius.

    Zero is at ZERO_SHARE, and scale.reach at 1. All values up to -scale.reach / 2 are at 0, the centre.
    """
    return max(0.0, ZERO_SHARE + (1 - ZERO_SHARE) * value / scale.reach)


def _point(i: int, count: int, share: float) -> tuple[float, float]:
    """(x, y) of a point on spoke i of `count` spokes, with the centre at (0, 0) and y downwards.

    share: the point's distance from the centre, as a share of RADIUS. The first spoke points up, and the others follow
    clockwise.
    """
    angle = 2 * math.pi * i / count - math.pi / 2
    return RADIUS * share * math.cos(angle), RADIUS * share * math.sin(angle)


def _closed_path(shares: Sequence[float]) -> str:
    """A closed SVG path through one point on each spoke. shares: the points' distances from the centre, over RADIUS.

    Where there are fewer than three spokes, it is a circle at the first of these distances.
    """
    if len(shares) < 3:
        r = RADIUS * shares[0]
        return f"M{-r:.1f},0A{r:.1f},{r:.1f},0,1,1,{r:.1f},0A{r:.1f},{r:.1f},0,1,1,{-r:.1f},0Z"
    points = (_point(i, len(shares), share) for i, share in enumerate(shares))
    return "M" + "L".join(f"{x:.1f},{y:.1f}" for x, y in points) + "Z"


def _spoke(i: int, count: int, name: str) -> Markup:
    """Spoke i of `count` spokes of a profile, from the centre to the rim, and its name outside the rim."""
    x, y = _point(i, count, 1.0)
    label_x, label_y = _point(i, count, LABEL_SHARE)
    beside = abs(label_y) < 0.4 * RADIUS  # the label is left or right of the profile, and not above or below
    anchor = ("start" if label_x > 0 else "end") if beside else "middle"
    down = 4 if beside else (14 if label_y > 0 else 0)
    return Markup(
        '<line x1="0" y1="0" x2="{:.1f}" y2="{:.1f}"/><text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>'
    ).format(x, y, label_x, label_y + down, anchor, name)
