"""A page of the leaderboard as HTML. It loads nothing, escapes all text, and has one script that runs and one style
block.

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
from shiftbench.leaderboard.board import MOST_BOARDS, Board, count_reasons, setting_text
from shiftbench.leaderboard.entry import DIGEST_CHARACTERS
from shiftbench.leaderboard.standing import Correction
from shiftbench.leaderboard.view import Base, Cell, Line, correction
from shiftbench.report import text
from shiftbench.report.colours import colour_variables
from shiftbench.report.content_security import with_policy
from shiftbench.report.intervals import interval_text
from shiftbench.report.numbers import number, p_value
from shiftbench.report.page import model_name
from shiftbench.report.templates import template_environment

LONG_NAME = 48  # characters; a longer name may be broken inside a word, so that its column stays narrow
GROUP_DIGITS = 17  # characters of a group's key in the name of its folder: 'g' and 64 bits of the digest
LONGEST_REASON = 300  # characters of a reason on the page; leaderboard.json has it whole
MOST_LEFT_OUT = 200  # rows in the page's list of runs that are left out; leaderboard.json has all


@dataclass(frozen=True)
class Location:
    """Which page of the leaderboard's folder is written.

    root: the relative path from the page to the folder of its board, as '../'; '' for a page in the folder itself.
    site: the relative path from the page to the leaderboard's folder, likewise. The board of the first group is in the
    leaderboard's folder, and that of each other group in a folder below it. home: file name of the first page of each
    board. base: the base model that the page is about; None for the first page. bases: all base models of the board
    that have a page of their own.
    """

    root: str
    site: str
    home: str
    base: Base | None
    bases: Sequence[Base]


def page(board: Board, lines: Sequence[Line], location: Location, written_at: str) -> str:
    """The HTML of one page of the leaderboard.

    lines: the rows of the board that the page shows, in the order of its table. location: which page it is, and the
    paths of its links. written_at: when the leaderboard was written, as the page shows it.
    """
    style, script = colour_variables() + package_text("leaderboard.css"), package_text("leaderboard.js")
    rendered = _environment().get_template("leaderboard.html.jinja").render(
        board=board, lines=lines, location=location, written_at=written_at,
        style=Markup(style), script=Markup(script),
        data=_comparison_data(lines), reasons=count_reasons(board.left_out), most_left_out=MOST_LEFT_OUT,
        correction_text=correction_text(correction(board)), group_folders=group_folders(board),
    )  # fmt: skip
    return with_policy(rendered, style, [script])


def group_folders(board: Board) -> dict[str, str]:
    """The folder of each group's board inside the leaderboard's, as 'groups/g0123456789abcdef/', by the group's key.

    The first group's is ''. A group after the first MOST_BOARDS has no board and is missing.
    """
    others = board.groups[1:MOST_BOARDS]
    return {board.groups[0].key: "", **{group.key: f"groups/{group.key[:GROUP_DIGITS]}/" for group in others}}


def correction_text(found: Correction) -> str:
    """How a board's words are corrected, in sentences. '' where no claim was tested."""
    if found.draws is None:
        return ""
    least, most = found.draws
    have = f"{least:,}" if least == most else f"{least:,} to {most:,}"
    claims = "1 tested claim" if found.tests == 1 else f"{found.tests:,} tested claims"
    enough = "enough for a word that holds over the board"
    if least < found.needed:
        word = "further word" if found.standing else "word"
        enough = (
            f"and a {word} that holds over the board needs at least {found.needed:,} (control.draws={found.needed})"
        )
    return (
        f"The words “supported” and “opposite” are corrected by Holm's method over the board's {claims}: they "
        f"stand where the corrected p is at most 0.05, and “alone” marks those that hold for their run only. The p of "
        f"a claim is the larger of its own and of its rank among m null models, which is at least 1 / (m + 1). These "
        f"runs have {have} null {'model' if most == 1 else 'models'}, {enough}."
    )


def _comparison_data(lines: Sequence[Line]) -> dict[str, Any]:
    """What the page's script shows of each pair when pairs are compared, by Line.stem, the unique id of the pair's row.

    "facts" has [name, value] of each of `_facts`, "scores" has the list of `_score` for each score, and "verdicts" has
    [label, word with its phrase, reasons as one text] of each column but checks. Hidden characters in the texts are
    already spelled out.
    """
    return {
        line.stem: {
            "facts": [[text.visible(name), text.visible(value)] for name, value in _facts(line)],
            "scores": [_score(score) for score in line.entry.scores],
            "verdicts": [
                [text.visible(cell.column.label), _verdict_text(cell), text.visible("; ".join(cell.standing.reasons))]
                for cell in line.cells
                if not cell.column.check
            ],
        }
        for line in lines
    }


def _verdict_text(cell: Cell) -> str:
    """The word of a cell with what bounds it, for example 'supported alone (not over this board: p = 0.2 ...)'."""
    phrase = f" ({cell.standing.phrase})" if cell.standing.phrase else ""
    return text.visible(cell.standing.word + phrase)


def _score(score: Score) -> list[Any]:
    """One score as a list for the page's script: [finding, name, value and interval as text, low, high, n].

    The finding is as a heading, such as 'Concept rotation'. The text is 'no observations' where n is 0.
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
        ("flags", ", ".join(line.entry.warnings)), ("recorded", line.entry.recorded), ("run", line.entry.run_id),
        *software.items(),
    ]  # fmt: skip


def package_text(name: str) -> str:
    """The text of a file beside this module, as 'leaderboard.css'."""
    return (resources.files("shiftbench.leaderboard") / name).read_text(encoding="utf-8")


def _environment() -> Environment:
    environment = template_environment("leaderboard")
    environment.filters.update(
        number=number, p_value=p_value, shorten=shortened, heading=text.title, model_name=model_name,
        setting_text=setting_text,
    )  # fmt: skip
    environment.globals.update(filter_values=filter_values, digits=DIGEST_CHARACTERS, long_name=LONG_NAME)
    return environment


def shortened(reason: str) -> str:
    """The reason, cut to LONGEST_REASON characters where it is longer; the last one is then '…'."""
    return reason if len(reason) <= LONGEST_REASON else f"{reason[: LONGEST_REASON - 1]}…"


def filter_values(lines: Sequence[Line], key: str) -> list[str]:
    """The distinct values of the lines that a filter of the page offers, sorted; empty values are left out.

    key: 'base' (the labels of base models), 'family' or 'size'. Sizes are sorted by `Line.size`, other values as text.
    """
    if key == "base":
        return sorted({line.base for line in lines})
    order: Mapping[str, float] = {line.entry.pair.get(key, ""): line.size if key == "size" else 0.0 for line in lines}
    return sorted((value for value in order if value), key=lambda value: (order[value], value))
