"""One run as one HTML page, report.html. The page loads nothing, runs no script, and escapes all text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment
from markupsafe import Markup

from shiftbench.contracts.result import Figure, Result, Saliency, ScoreFact
from shiftbench.report import text
from shiftbench.report.colours import MODELS, colour_variables, token_background, with_css_variables
from shiftbench.report.content_security import StyleClasses, with_policy
from shiftbench.report.figures import description, figure_svg, is_wide, shared_limits
from shiftbench.report.intervals import interval_svg, interval_text
from shiftbench.report.numbers import number, p_value
from shiftbench.report.opening import SIGNS, cards, conditions, day_and_time, example
from shiftbench.report.score_groups import score_groups
from shiftbench.report.svg import with_title
from shiftbench.report.tables import file_stem, with_index
from shiftbench.report.templates import template_environment
from shiftbench.report.token_html import attribution_html
from shiftbench.verdicts import Verdict
from shiftbench.verdicts.sentences import command_line, sentence

MOST_ROWS = 200  # of a table with more rows the page shows the first ones; its CSV file has all
MOST_PRINTED = 60  # rows; a longer table is not unfolded on paper
_STYLE = "<style></style>"  # where the page's style block belongs, in the template


@dataclass(frozen=True)
class RunSummary:
    """What the report says about the run of one pair.

    pair: name, base, tuned, family, size, digests of the weights, and more. versions: of shiftbench, of the findings
    and explainers, and of the libraries. notes: one sentence each, for example which prompts were skipped and why.
    config: the resolved configuration as YAML. verdicts: on the claims of the findings. given: the overrides of the
    command line that made the run. finished: when the scores were computed; None where that is not recorded. facts:
    what the scores mean, by the finding's and then by the score's name; not every score need be there. explanations:
    for each explanation, by its title, the digest of its units' keys.
    """

    pair: Mapping[str, Any]
    versions: Mapping[str, str]
    results: Sequence[Result]
    notes: Sequence[str]
    config: str
    verdicts: Sequence[Verdict] = ()
    given: Sequence[str] = ()
    finished: datetime | None = None
    facts: Mapping[str, Mapping[str, ScoreFact]] = field(default_factory=dict)
    explanations: Mapping[str, str] = field(default_factory=dict)


def write_report(summary: RunSummary, folder: Path) -> Path:
    """Write folder/report.html and folder/figures/STEM.svg, and return the path of report.html.

    STEM is `file_stem` of the finding and the figure. With the same version of matplotlib, the same summary gives
    the same bytes. A figure of which nothing can be drawn gets no file. Raises InputError where a figure's kind is
    unknown or its table lacks a column that the figure names.
    """
    folder.mkdir(parents=True, exist_ok=True)
    charts = _charts(summary.results)
    _write_figures(charts, folder / "figures")
    path = folder / "report.html"
    path.write_text(_page(summary, charts), encoding="utf-8", newline="\n")
    return path


@dataclass(frozen=True)
class Chart:
    """A figure of a finding and its picture. svg: '' where nothing of it can be drawn."""

    finding: str
    figure: Figure
    svg: str


def _charts(results: Sequence[Result]) -> list[list[Chart]]:
    """The charts of each result. The scales are those that `shared_limits` gives for all figures of the page."""
    figures = [(result.finding, figure) for result in results for figure in result.figures]
    limits = shared_limits([figure for _, figure in figures])
    drawn = iter([Chart(*each, figure_svg(each[1], ends)) for each, ends in zip(figures, limits, strict=True)])
    return [[next(drawn) for _ in result.figures] for result in results]


def _write_figures(charts: Sequence[Sequence[Chart]], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for chart in (chart for row in charts for chart in row if chart.svg):
        path = folder / f"{file_stem(chart.finding, chart.figure.name)}.svg"
        path.write_text(with_title(chart.svg, chart.figure.title), encoding="utf-8", newline="\n")


def _page(summary: RunSummary, charts: Sequence[Sequence[Chart]]) -> str:
    """The HTML of the page.

    The policy admits no style attribute. The fragments that we make with style attributes (charts, tokens) therefore
    get classes first, and the rules of the classes go into the page's one style block.
    """
    environment, classes = _environment(), StyleClasses()
    environment.filters["tokens"] = lambda item, model: Markup(classes(_tokens(item, model)))
    environment.filters["picture"] = lambda chart: Markup(classes(with_css_variables(chart.svg)))
    # classes.rules is complete only when the template is rendered, so the template gets a mark in place of the style.
    body = environment.get_template("report.html.jinja").render(
        run=summary, charts=charts, cards=cards(summary.verdicts, summary.given), example=example(summary.results)
    )
    style = colour_variables() + _ramps() + _css() + classes.rules
    return with_policy(body.replace(_STYLE, f"<style>{style}</style>", 1), style)


def _css() -> str:
    return (resources.files("shiftbench.report") / "report.css").read_text(encoding="utf-8")


def _ramps() -> str:
    """The CSS of the legend of token backgrounds: for each model, from density 0 to density 1."""
    ends = {model: f"{token_background(model, 0.0)},{token_background(model, 1.0)}" for model in MODELS}
    return "".join(f".ramp.{model}{{background:linear-gradient(90deg,{both})}}\n" for model, both in ends.items())


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
        description=description,
        cells=table_cells,
        flat=flatten,
        groups=score_groups,
        sentence=sentence,
        anchor=anchor,
        first_sentence=lambda words: words.partition(". ")[0].removesuffix(".") + ".",
        by_sign=by_sign,
        verdicts_of=verdicts_of,
        without_verdict=lambda result, run: not verdicts_of(result, run),
    )
    environment.tests["wide"] = is_wide
    environment.globals.update(
        command_line=command_line,
        conditions=conditions,
        day_and_time=day_and_time,
        file_stem=file_stem,
        finding_notes=finding_notes,
        most_printed=MOST_PRINTED,
        most_rows=MOST_ROWS,
        run_notes=run_notes,
        signs=SIGNS,
        style_mark=Markup(_STYLE),
    )
    return environment


def _tokens(item: Saliency, model: str) -> str:
    density = item.base_density if model == "base" else item.tuned_density
    return attribution_html(item.tokens, item.instruction, density, model)


def verdicts_of(result: Result, summary: RunSummary) -> list[Verdict]:
    """The verdicts of the run that are on claims of the result's finding."""
    return [verdict for verdict in summary.verdicts if verdict.headline.finding == result.finding]


def anchor(finding: str, summary: RunSummary) -> int:
    """The number in the id of the finding's section, from 1; 1 where the run has no result of that finding."""
    return next((i for i, result in enumerate(summary.results, 1) if result.finding == finding), 1)


def by_sign(charts: Sequence[Chart]) -> tuple[list[Chart], list[Chart]]:
    """(charts of shifts and of the two models beside each other, charts of sizes without a sign)."""
    return [chart for chart in charts if chart.figure.signed], [chart for chart in charts if not chart.figure.signed]


def finding_notes(summary: RunSummary, result: Result) -> list[str]:
    """The finding's own notes, and those of the run that begin with the finding's name and ': ', without that start."""
    head = f"{result.finding}: "
    return [*result.notes, *(note.removeprefix(head) for note in summary.notes if note.startswith(head))]


def run_notes(summary: RunSummary) -> list[str]:
    """The notes of the run that stand at no finding: those that `finding_notes` gives for none of its results."""
    own = {note for result in summary.results for note in result.notes}
    heads = tuple(f"{result.finding}: " for result in summary.results)
    return [note for note in summary.notes if note not in own and not note.startswith(heads)]


def model_name(source: object) -> str:
    """A short name of a model for headings: its hub id, or the last two parts of its path.

    The page shows the whole path in its section 'How it was made'.
    """
    parts = str(source).replace("\\", "/").rstrip("/").split("/")
    return "/".join(parts[-2:])


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
