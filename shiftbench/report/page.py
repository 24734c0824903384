"""One run as one HTML page, report.html. The page loads nothing, runs no script, and escapes all text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment
from markupsafe import Markup

from shiftbench.contracts.result import Result, Saliency, Score
from shiftbench.report import text
from shiftbench.report.colours import COLOURS, token_background, with_css_variables
from shiftbench.report.content_security import with_policy
from shiftbench.report.figures import description, figure_svg, is_wide
from shiftbench.report.intervals import interval_svg, interval_text
from shiftbench.report.numbers import number, p_value
from shiftbench.report.svg import with_title
from shiftbench.report.tables import file_stem, with_index
from shiftbench.report.templates import template_environment
from shiftbench.report.token_html import attribution_html
from shiftbench.verdicts import Verdict

OPEN_ROWS = 12  # a table with more rows is folded
MOST_ROWS = 200  # of a table with more rows the page shows the first ones; its CSV file has all


@dataclass(frozen=True)
class RunSummary:
    """What the report says about the run of one pair.

    pair: name, base, tuned, family, size, digests of the weights, and more. versions: of shiftbench, of the findings
    and explainers, and of the libraries. notes: one sentence each, for example which prompts were skipped and why.
    config: the resolved configuration as YAML. verdicts: on the claims of the findings. given: the overrides of the
    command line that made the run. finished: when the scores were computed; None where that is not recorded.
    explanations: for each explanation, by its title, the digest of its units' keys.
    """

    pair: Mapping[str, Any]
    versions: Mapping[str, str]
    results: Sequence[Result]
    notes: Sequence[str]
    config: str
    verdicts: Sequence[Verdict] = ()
    given: Sequence[str] = ()
    finished: datetime | None = None
    explanations: Mapping[str, str] = field(default_factory=dict)


def write_report(summary: RunSummary, folder: Path) -> Path:
    """Write folder/report.html and folder/figures/<finding>.<figure>.svg, and return the path of report.html.

    The same summary gives the same bytes. A figure of which nothing can be drawn gets no file. Raises InputError where
    a figure's kind is unknown or its table lacks a column that the figure names.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pictures = [[figure_svg(figure) for figure in result.figures] for result in summary.results]
    _write_figures(summary.results, pictures, folder / "figures")
    inline = [[Markup(with_css_variables(svg)) for svg in row] for row in pictures]
    page = _environment().get_template("report.html.jinja").render(run=summary, pictures=inline, colours=COLOURS)
    page = with_policy(page)
    path = folder / "report.html"
    path.write_text(page, encoding="utf-8", newline="\n")
    return path


def _write_figures(results: Sequence[Result], pictures: Sequence[Sequence[str]], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for result, row in zip(results, pictures, strict=True):
        for figure, svg in zip(result.figures, row, strict=True):
            if svg:
                path = folder / f"{file_stem(result.finding, figure.name)}.svg"
                path.write_text(with_title(svg, figure.title), encoding="utf-8", newline="\n")


def _environment() -> Environment:
    environment = template_environment("report")
    environment.filters.update(
        lines=lambda value: Markup.escape(text.visible_lines(value)),
        number=number,
        p_value=p_value,
        heading=text.title,
        model_name=model_name,
        interval=interval_svg,
        interval_text=interval_text,
        tokens=lambda item, model: Markup(_tokens(item, model)),
        description=description,
        headline=headline,
        cells=table_cells,
        flat=flatten,
    )
    environment.tests["wide"] = is_wide
    environment.globals.update(
        file_stem=file_stem,
        token_background=token_background,
        open_rows=OPEN_ROWS,
        most_rows=MOST_ROWS,
    )
    return environment


def _tokens(item: Saliency, model: str) -> str:
    density = item.base_density if model == "base" else item.tuned_density
    return attribution_html(item.tokens, item.instruction, density, model)


def model_name(source: object) -> str:
    """A short name of a model for headings: its hub id, or the last two parts of its path.

    The page shows the whole path in its section 'How it was made'.
    """
    parts = str(source).replace("\\", "/").rstrip("/").split("/")
    return "/".join(parts[-2:])


def headline(result: Result) -> Score | None:
    """The score that the result's sentence is about; None where the result has no score of that name."""
    return next((score for score in result.scores if score.name == result.headline), None)


def table_cells(table: pd.DataFrame) -> tuple[list[tuple[str, bool]], list[list[str]]]:
    """(columns, rows) of a table: each column as (name, whether it holds numbers), and the first MOST_ROWS rows.

    Every cell of a row is text, as `number` gives it. An index that has a name becomes the first columns.
    """
    table = with_index(table)
    columns = [(str(name), pd.api.types.is_numeric_dtype(table[name])) for name in table.columns]
    rows = table.head(MOST_ROWS).itertuples(index=False, name=None)
    return columns, [[number(value) for value in row] for row in rows]


def flatten(mapping: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    """(name, value) of each value in a nested mapping that is no mapping itself, in the mapping's order.

    The name is the path of keys to the value, joined by dots, as 'digests.base'; `prefix` is put in front of it.
    """
    for name, value in mapping.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
