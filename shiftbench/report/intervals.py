"""A score with its confidence interval, as text and as a small picture: a dot with a whisker, zero in the middle."""

from __future__ import annotations

import math

from markupsafe import Markup

from shiftbench.contracts.result import Score
from shiftbench.report.numbers import number
from shiftbench.report.text import visible

WIDTH, HEIGHT = 240, 24
_REACH = 0.42 * WIDTH  # distance in the picture from zero to the number `reach` of interval_svg


def interval_text(score: Score) -> str:
    """The score's value and interval, as '+0.230 [+0.110, +0.350]'."""
    return f"{number(score.value, signed=True)} [{number(score.low, signed=True)}, {number(score.high, signed=True)}]"


def interval_svg(score: Score, decorative: bool = False, reach: float | None = None) -> Markup:
    """Inline SVG of the score's interval around zero.

    reach: the number that is drawn _REACH from zero, so that pictures with equal reach share a scale; None or 0: the
    largest magnitude of value, low and high.

    The dot is filled where the interval excludes zero, empty where the interval includes zero, and grey, without a
    whisker, where nothing could be compared (n = 0) or one of its numbers is not finite. decorative: whether screen
    readers skip the picture, because the text beside it has the same numbers.
    """
    ends = (score.value, score.low, score.high)
    finite = all(math.isfinite(x) for x in ends)
    scale = _REACH / (reach or max(map(abs, ends)) or 1.0) if finite else 0.0
    value, low, high = (WIDTH / 2 + x * scale if finite else WIDTH / 2 for x in ends)
    state = "hollow" if score.n == 0 or not finite else ("clear" if score.low > 0 or score.high < 0 else "open")
    return Markup(
        '<svg class="interval {state}" viewBox="0 0 {w} {h}" width="{w}" height="{h}" {role}>'
        '<line class="axis" x1="0" x2="{w}" y1="{y}" y2="{y}"/><line class="zero" x1="{x0}" x2="{x0}" y1="2" y2="{b}"/>'
        '{whisker}<circle cx="{value:.1f}" cy="{y}" r="5"/></svg>'
    ).format(
        state=state, w=WIDTH, h=HEIGHT, y=HEIGHT // 2, x0=WIDTH // 2, b=HEIGHT - 2, value=value,
        role=Markup('aria-hidden="true"') if decorative else _role(score, finite),
        whisker=_whisker(low, high) if finite and score.n else "",
    )  # fmt: skip


def _role(score: Score, finite: bool) -> Markup:
    """The HTML attributes `role` and `aria-label`, from which a screen reader reads the picture as text.

    finite: whether the score's value, low and high are all finite.
    """
    content = f"{interval_text(score)}, zero in the middle" if finite else "not computed"
    return Markup('role="img" aria-label="{}"').format(f"{visible(score.name)}: {content}")


def _whisker(low: float, high: float) -> Markup:
    return Markup('<line class="whisker" x1="{:.1f}" x2="{:.1f}" y1="{y}" y2="{y}"/>').format(low, high, y=HEIGHT // 2)
