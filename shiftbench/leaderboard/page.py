"""The leaderboard as one HTML page. It loads nothing, escapes all text, and has one script and one style block.

The page's Content-Security-Policy admits that script and that style by their digests. A second script element holds
data as JSON, which the browser does not run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from shiftbench.contracts.result import Score
from shiftbench.leaderboard.board import DIGEST_CHARACTERS, Board, count_reasons, setting_text
from shiftbench.leaderboard.view import Base, Line
from shiftbench.report import text
from shiftbench.report.colours import colour_variables
from shiftbench.report.content_security import with_policy
from shiftbench.report.intervals import interval_text
from shiftbench.report.numbers import number
from shiftbench.report.page import model_name
from shiftbench.report.templates import template_environment

LONG_NAME = 48  # characters; a longer name may be broken inside a word, so that its column stays narrow
MOST_LEFT_OUT = 200  # rows in the page's list of runs that are left out; leaderboard.json has all


@dataclass(frozen=True)
class Location:
    """Which page of the leaderboard's folder is written.

    root: the relative path from the page to the leaderboard's folder, as '../'; '' for a page in the folder itself.
    home: file name of the leaderboard's first page. base: the base model that the page is about; None for the first
    page. bases: all base models that have a page of their own.
    """

    root: str
    home: str
    base: Base | None
    bases: Sequence[Base]


def page(board: Board, lines: Sequence[Line], location: Location, written_at: str) -> str:
    """The HTML of one page of the leaderboard.

    lines: the rows of the board that the page shows, in the order of its table. written_at: when the leaderboard was
    written, as the page shows it.
    """
    style, script = colour_variables() + package_text("leaderboard.css"), package_text("leaderboard.js")
    rendered = _environment().get_template("leaderboard.html.jinja").render(
        board=board, lines=lines, location=location, written_at=written_at,
        style=Markup(style), script=Markup(script),
        data=_comparison_data(lines), reasons=count_reasons(board.left_out), most_left_out=MOST_LEFT_OUT,
    )  # fmt: skip
    return with_policy(rendered, style, [script])


def _comparison_data(lines: Sequence[Line]) -> dict[str, Any]:
    """What the page's script shows of each pair when pairs are compared, by Line.stem, the unique id of the pair's row.

    "facts" has [name, value] of each of `_facts`, and "scores" has the list of `_score` for each score. Hidden
    characters in the texts are already spelled out.
    """
    return {
        line.stem: {
            "facts": [[text.visible(name), text.visible(value)] for name, value in _facts(line)],
            "scores": [_score(score) for score in line.entry.scores],
        }
        for line in lines
    }


def _score(score: Score) -> list[Any]:
    """One score as a list for the page's script: [finding, name, value and interval as text, low, high, n].

    The text is 'no observations' where n is 0.
    """
    shown = interval_text(score) if score.n else "no observations"
    return [text.title(score.finding), text.visible(score.name), shown, score.low, score.high, score.n]


def _facts(line: Line) -> list[tuple[str, str]]:
    """(name, value) of each fact about a line's models and run that the page shows where pairs are compared.

    A value that scores.json does not have is ''.
    """
    pair, versions = line.entry.pair, line.entry.versions
    software = {name: version for name, version in versions.items() if not name.startswith(("finding.", "explain."))}
    return [
        ("base", pair["base"]), ("tuned", pair["tuned"]), ("family", pair.get("family", "")),
        ("size", pair.get("size", "")), ("base weights", pair["base_weights"][:DIGEST_CHARACTERS]),
        ("tuned weights", pair["tuned_weights"][:DIGEST_CHARACTERS]),
        ("prompts explained", pair.get("prompts_explained", "")),
        ("flags", ", ".join(line.entry.flags)), ("recorded", line.recorded), ("run", line.entry.run_id),
        *software.items(),
    ]  # fmt: skip


def package_text(name: str) -> str:
    """The text of a file beside this module, as 'leaderboard.css'."""
    return (resources.files("shiftbench.leaderboard") / name).read_text(encoding="utf-8")


def _environment() -> Environment:
    environment = template_environment("leaderboard")
    environment.filters.update(number=number, heading=text.title, model_name=model_name, setting_text=setting_text)
    environment.globals.update(filter_values=filter_values, digits=DIGEST_CHARACTERS, long_name=LONG_NAME)
    return environment


def filter_values(lines: Sequence[Line], key: str) -> list[str]:
    """The distinct values of the lines that a filter of the page offers, sorted; empty values are left out.

    key: 'base' (the labels of base models), 'family' or 'size'. Sizes sort by their number of parameters.
    """
    if key == "base":
        return sorted({line.base for line in lines})
    order: Mapping[str, float] = {line.entry.pair.get(key, ""): line.size if key == "size" else 0.0 for line in lines}
    return sorted((value for value in order if value), key=lambda value: (order[value], value))
