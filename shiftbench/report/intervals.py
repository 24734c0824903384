"""A score as a small picture: a dot with a whisker, zero in the middle."""

from __future__ import annotations

import math

from markupsafe import Markup

from shiftbench.contracts.result import Score
from shiftbench.report.text import number, visible

WIDTH, HEIGHT = 240, 24
_REACH = 0.42 * WIDTH  # the farther end of the interval stands this far from zero


def interval_text(score: Score) -> str:
    """Value and interval for people, as '+0.230 [+0.110, +0.350]'."""
    return f"{number(score.value, signed=True)} [{number(score.low, signed=True)}, {number(score.high, signed=True)}]"


def interval_svg(score: Score, decorative: bool = False) -> Markup:
    """Inline SVG of a score's interval around zero, each on its own scale; hollow where nothing could be compared.

    decorative: the same numbers stand beside it, so a screen reader skips it.
    """
    ends = (score.value, score.low, score.high)
    finite = all(math.isfinite(x) for x in ends)
    scale = _REACH / (max(map(abs, ends)) or 1.0) if finite else 0.0
    value, low, high = (WIDTH / 2 + x * scale if finite else WIDTH / 2 for x in ends)
    mark = "hollow" if score.n == 0 or not finite else ("clear" if score.low > 0 or score.high < 0 else "open")
    return Markup(
        '<svg class="interval {mark}" viewBox="0 0 {w} {h}" width="{w}" height="{h}" {role}>'
        '<line class="axis" x1="0" x2="{w}" y1="{y}" y2="{y}"/><line class="zero" x1="{x0}" x2="{x0}" y1="2" y2="{b}"/>'
        '{whisker}<circle cx="{value:.1f}" cy="{y}" r="5"/></svg>'
    ).format(
        mark=mark, w=WIDTH, h=HEIGHT, y=HEIGHT // 2, x0=WIDTH // 2, b=HEIGHT - 2, value=value,
        role=Markup('aria-hidden="true"') if decorative else _role(score, finite),
        whisker=_whisker(low, high) if finite and score.n else "",
    )  # fmt: skip


def _role(score: Score, finite: bool) -> Markup:
    told = f"{interval_text(score)}, zero in the middle" if finite else "not computed"
    return Markup('role="img" aria-label="{}"').format(f"{visible(score.name)}: {told}")


def _whisker(low: float, high: float) -> Markup:
    return Markup('<line class="whisker" x1="{:.1f}" x2="{:.1f}" y1="{y}" y2="{y}"/>').format(low, high, y=HEIGHT // 2)
