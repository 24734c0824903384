"""One run as one self-contained page: no network, no script, everything in it escaped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment
from markupsafe import Markup

from shiftbench.contracts.result import Result, Saliency, Score
from shiftbench.report import text
from shiftbench.report.colours import COLOURS, themed, token_background
from shiftbench.report.escaping import escaping
from shiftbench.report.figures import described, draw, is_wide, with_title
from shiftbench.report.intervals import interval_svg, interval_text
from shiftbench.report.policy import sealed
from shiftbench.report.tables import table_name, with_index
from shiftbench.report.tokens import attribution_html

OPEN_ROWS = 12  # a longer table is folded
MOST_ROWS = 200  # and a still longer one is cut: the whole of it is in its CSV file


@dataclass(frozen=True)
class RunSummary:
    """One pair's run, as the report tells it.

    pair: name, base, tuned, family, size, weight digests, ...; versions: of what computed it.
    notes: one-line remarks (prompts skipped and why, fallback vectors, ...). config: the resolved YAML.
    """

    pair: Mapping[str, Any]
    versions: Mapping[str, str]
    results: Sequence[Result]
    notes: Sequence[str]
    config: str


def write_report(summary: RunSummary, folder: Path) -> Path:
    """Path of folder/report.html, written with its pictures as folder/figures/<finding>.<figure>.svg.

    The same summary gives the same bytes. Raises InputError where a figure names a column it has not.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pictures = [[draw(figure) for figure in result.figures] for result in summary.results]
    _write_figures(summary.results, pictures, folder / "figures")
    inline = [[Markup(themed(svg)) for svg in row] for row in pictures]
    page = _environment().get_template("report.html.jinja").render(run=summary, pictures=inline, colours=COLOURS)
    page = sealed(page)
    path = folder / "report.html"
    path.write_text(page, encoding="utf-8", newline="\n")
    return path


def _write_figures(results: Sequence[Result], pictures: Sequence[Sequence[str]], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for result, row in zip(results, pictures, strict=True):
        for figure, svg in zip(result.figures, row, strict=True):
            if svg:
                path = folder / f"{table_name(result.finding, figure.name)}.svg"
                path.write_text(with_title(svg, figure.title), encoding="utf-8", newline="\n")


def _environment() -> Environment:
    environment = escaping("report")
    environment.filters.update(
        lines=lambda value: Markup.escape(text.visible_lines(value)),
        number=text.number,
        p_value=text.p_value,
        heading=text.title,
        model_name=model_name,
        interval=interval_svg,
        interval_text=interval_text,
        tokens=lambda item, model: Markup(_tokens(item, model)),
        described=described,
        headline=headline,
        cells=cells,
        flat=flat,
    )
    environment.tests["wide"] = is_wide
    environment.globals.update(
        table_name=table_name,
        token_background=token_background,
        open_rows=OPEN_ROWS,
        most_rows=MOST_ROWS,
    )
    return environment


def _tokens(item: Saliency, model: str) -> str:
    density = item.base_density if model == "base" else item.tuned_density
    return attribution_html(item.tokens, item.instruction, density, model)


def model_name(source: object) -> str:
    """What a heading calls a model: its hub id, or the end of its path, which the page states in full further down."""
    parts = str(source).replace("\\", "/").rstrip("/").split("/")
    return "/".join(parts[-2:])


def headline(result: Result) -> Score | None:
    """The score that the result's sentence is about; None where it has none of that name."""
    return next((score for score in result.scores if score.name == result.headline), None)


def cells(table: pd.DataFrame) -> tuple[list[tuple[str, bool]], list[list[str]]]:
    """Columns as (name, is a number) and the first rows as text."""
    table = with_index(table)
    columns = [(str(name), pd.api.types.is_numeric_dtype(table[name])) for name in table.columns]
    rows = table.head(MOST_ROWS).itertuples(index=False, name=None)
    return columns, [[text.number(value) for value in row] for row in rows]


def flat(mapping: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    """(dotted name, value) of a nested mapping, in its order."""
    for name, value in mapping.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
