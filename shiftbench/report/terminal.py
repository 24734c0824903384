"""What the terminal shows of a run: the verdicts, and the table of all scores."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from shiftbench.contracts.result import Result, Score
from shiftbench.report.numbers import number, p_value
from shiftbench.report.page import RunSummary, model_name
from shiftbench.report.text import title, visible
from shiftbench.verdicts import Word
from shiftbench.verdicts.sentences import command, interval

MARKS = {  # of a verdict: the sign before it, and its style
    Word.SUPPORTED: ("+", "bold green"),
    Word.OPPOSITE: ("-", "bold magenta"),
    Word.NOT_CLEAR: ("?", "yellow"),
    Word.NOT_TRUSTWORTHY: ("!", "bold red"),
    Word.NOT_APPLICABLE: (" ", "dim"),
}
SHOWN_REASONS = 2  # of each verdict; scores.json and the report have all
SHOWN_COMMANDS = 2


def verdict_lines(summary: RunSummary) -> list[Text]:
    """The answer of a run as lines: what was compared, a verdict on each claim, what to do next.

    Each verdict is a line with a sign, its word, the claim and, unless the claim does not apply, the headline with its
    interval; below it stand its weightiest reasons, at most SHOWN_REASONS. After the verdicts come at most
    SHOWN_COMMANDS commands that may help to decide what is open.
    """
    pair = summary.pair
    lines = [
        Text(visible(str(pair["name"])), "bold").append(
            visible(f": {model_name(pair['base'])} -> {model_name(pair['tuned'])}"), "not bold"
        ),
        Text(visible(_conditions(summary)), "dim"),
        Text(""),
    ]
    width = max((len(verdict.claim.short) for verdict in summary.verdicts), default=0)
    for verdict in summary.verdicts:
        sign, style = MARKS[verdict.word]
        line = Text(f"{sign} {verdict.word.value:<15} ", style)
        line.append(f" {verdict.claim.short:<{width}}", "not bold default")
        if verdict.word is not Word.NOT_APPLICABLE:
            line.append(f"  {interval(verdict.headline)}", "not bold default")
        lines.append(line)
        lines += [Text(visible(f"    {reason}"), "dim") for reason in verdict.reasons[:SHOWN_REASONS]]
    commands = dict.fromkeys(
        found for verdict in summary.verdicts if (found := command(summary.given, verdict.remedy)) is not None
    )
    shown = list(commands)[:SHOWN_COMMANDS]
    return [*lines, *([Text("")] if shown else []), *(Text(visible(f"next: {text}")) for text in shown)]


def _conditions(summary: RunSummary) -> str:
    """How many prompts, which suite, and which control, on one line."""
    pair = summary.pair
    null = next((verdict.evidence.null for verdict in summary.verdicts if verdict.evidence.null is not None), None)
    control = "no control" if null is None else f"control: {null.draws} {null.kind} null model{'s' * (null.draws > 1)}"
    prompts = f"{pair.get('prompts_explained', pair.get('prompts', '?'))} prompts"
    return ", ".join([prompts, f"suite {pair.get('suite', '?')}", control])


def score_table(results: Sequence[Result]) -> Table:
    """A table with one row for each score, below a row with the title of its finding. Headline scores are bold."""
    table = Table(
        box=SIMPLE_HEAD,
        caption="A positive score: tuning moved the model in the direction that the finding describes.",
    )
    table.add_column("score", overflow="fold")
    for column in ("value", "interval", "p", "n"):
        table.add_column(column, justify="right", no_wrap=True)
    for result in results:
        table.add_row(Text(title(result.finding), style="cyan"))
        for i, score in enumerate(result.scores):
            style = "bold" if score.name == result.headline else ""
            # rich would read markup in a str, and names may look like markup, so cells are Text.
            table.add_row(
                *(Text(cell, style=style) for cell in _cells(score)),
                end_section=i == len(result.scores) - 1,
            )
    return table


def _cells(score: Score) -> tuple[str, ...]:
    interval = f"[{number(score.low, signed=True)}, {number(score.high, signed=True)}]"
    return (
        f"  {visible(score.name)}",
        number(score.value, signed=True),
        interval,
        p_value(score.p),
        f"{score.n:,}",
    )
