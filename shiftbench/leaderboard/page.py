"""The board as one self-contained page: nothing from outside, every string in it escaped, one script and one style.

The page's policy admits that script and that style by their digests, so that no other could run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from shiftbench.contracts.result import Score
from shiftbench.leaderboard.board import DIGEST, Board, group_counts, told
from shiftbench.leaderboard.view import Base, Line
from shiftbench.report import text
from shiftbench.report.colours import COLOURS
from shiftbench.report.escaping import escaping
from shiftbench.report.intervals import interval_text
from shiftbench.report.page import model_name
from shiftbench.report.policy import sealed

LONG_NAME = 48  # characters; a longer name is broken anywhere, so that its column stays narrow
LEFT_OUT_SHOWN = 200  # rows of the list of runs that are left out; leaderboard.json has all


@dataclass(frozen=True)
class Place:
    """Where a page stands. root: the way from it to the top folder. base: whose page it is. bases: that have pages."""

    root: str
    home: str
    base: Base | None
    bases: Sequence[Base]


def page(board: Board, lines: Sequence[Line], place: Place, made: str) -> str:
    """The HTML of these lines of the board."""
    rendered = _environment().get_template("leaderboard.html.jinja").render(
        board=board, lines=lines, place=place, made=made, style=Markup(palette() + part("leaderboard.css")),
        script=Markup(part("leaderboard.js")),
        data=_data(lines), reasons=group_counts(board.left_out), shown=LEFT_OUT_SHOWN,
    )  # fmt: skip
    return sealed(rendered)


def _data(lines: Sequence[Line]) -> dict[str, Any]:
    """What laying two pairs side by side needs; texts are as they are shown."""
    return {
        line.stem: {
            "facts": [[text.visible(name), text.visible(value)] for name, value in _facts(line)],
            "scores": [_score(score) for score in line.entry.scores],
        }
        for line in lines
    }


def _score(score: Score) -> list[Any]:
    """Finding, name, value and interval as text, the interval, n."""
    shown = interval_text(score) if score.n else "nothing to compare"
    return [text.title(score.finding), text.visible(score.name), shown, score.low, score.high, score.n]


def _facts(line: Line) -> list[tuple[str, str]]:
    pair, versions = line.entry.pair, line.entry.versions
    used = {name: version for name, version in versions.items() if not name.startswith(("finding.", "explain."))}
    return [
        ("base", pair["base"]), ("tuned", pair["tuned"]), ("family", pair.get("family", "")),
        ("size", pair.get("size", "")), ("base weights", pair["base_weights"][:DIGEST]),
        ("tuned weights", pair["tuned_weights"][:DIGEST]), ("prompts explained", pair.get("prompts_explained", "")),
        ("flags", ", ".join(line.entry.flags)), ("recorded", line.recorded), ("run", line.entry.run_id), *used.items(),
    ]  # fmt: skip


def palette() -> str:
    """CSS that gives every colour of the report its variable, on light and on dark paper."""
    light, dark = ("".join(f"--{name}:{shades[i]};" for name, shades in COLOURS.items()) for i in (0, 1))
    return f":root{{{light}}}\n@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}\n"


def part(name: str) -> str:
    """The text of a file of this folder."""
    return (resources.files("shiftbench.leaderboard") / name).read_text(encoding="utf-8")


def _environment() -> Environment:
    environment = escaping("leaderboard")
    environment.filters.update(number=text.number, heading=text.title, model_name=model_name, told=told)
    environment.globals.update(options=options, digits=DIGEST, long=LONG_NAME)
    return environment


def options(lines: Sequence[Line], of: str) -> list[str]:
    """The values that a filter offers."""
    if of == "base":
        return sorted({line.base for line in lines})
    by_size: Mapping[str, float] = {line.entry.pair.get(of, ""): line.size if of == "size" else 0.0 for line in lines}
    return sorted((value for value in by_size if value), key=lambda value: (by_size[value], value))
