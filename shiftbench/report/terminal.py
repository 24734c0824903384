"""What the terminal shows of a run: the verdicts, and the table of all scores."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Sequence
from typing import IO

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from shiftbench.contracts.result import UNFAITHFUL, Result, Score
from shiftbench.report.numbers import number, p_value
from shiftbench.report.opening import SIGNS
from shiftbench.report.page import RunSummary, model_name
from shiftbench.report.text import title, visible
from shiftbench.verdicts import Verdict, Word
from shiftbench.verdicts.sentences import command, interval, null_models, null_of_run

STYLES = {
    Word.SUPPORTED: "bold green",
    Word.OPPOSITE: "bold magenta",
    Word.NOT_CLEAR: "yellow",
    Word.NOT_TRUSTWORTHY: "bold red",
    Word.NOT_APPLICABLE: "dim",
}
MARKS = {word: (SIGNS[word], style) for word, style in STYLES.items()}  # of a verdict: the sign before it, its style
WIDTH = 80  # columns of the answer where the output is no terminal
WIDEST = 100  # columns of the answer on a terminal that is wider
MOST_LINES = 19  # of an answer; second reasons that would make it longer are left out. A command counts as one
INDENT = "    "
SHOWN_WORDS = tuple(MARKS)  # in the order in which a line lists them: words that decide a claim come first
SHOWN_REASONS = 2  # of each verdict; scores.json and the report have all
LONGEST_REASON = 3  # the most lines of a verdict's first reason; with the second one, one line more
SHOWN_COMMANDS = 2


def console(file: IO[str], pipe_width: int = WIDTH, quiet: bool = False) -> Console:
    """A console on a file. pipe_width: its columns where the file is no terminal. quiet: whether it writes nothing.

    Where the environment variable NO_COLOR is set and not empty, nothing is coloured, bold or dim.
    """
    plain = {"color_system": None} if os.environ.get("NO_COLOR") else {}
    found = Console(file=file, quiet=quiet, **plain)  # type: ignore[arg-type]
    return found if found.is_terminal else Console(file=file, quiet=quiet, width=pipe_width, **plain)  # type: ignore[arg-type]


def verdict_lines(summary: RunSummary, width: int = WIDTH) -> list[Text]:
    """The answer of a run: what was compared, a verdict on each claim, what the checks flag, what to do next.

    Each verdict is a line with a sign, its word, the claim and the headline with its interval; its weightiest reasons
    stand below it. Second reasons are shown as far as MOST_LINES allows. After the verdicts come flags of checks that
    no reason has named, and the first SHOWN_COMMANDS of `commands`. width: columns; only commands, and the line of
    a verdict with a long claim, may be longer.
    """
    pair, verdicts = summary.pair, summary.verdicts
    compared = visible(f"{pair['name']}: {model_name(pair['base'])} -> {model_name(pair['tuned'])}")
    head = [Text(line, "bold") for line in textwrap.wrap(compared, width)]
    head += [Text(line, "dim") for line in textwrap.wrap(visible(conditions(summary)), width)]
    tail = [Text(visible(line), "bold red") for line in _checks(summary, width)]
    tail += [Text(visible(f"next: {text}")) for text in commands(summary)[:SHOWN_COMMANDS]]
    tail = [Text(""), *tail] if tail else []
    shown = _shown_reasons(verdicts, width, MOST_LINES - len(head) - len(tail) - len(verdicts) - 1)
    longest = max((len(verdict.claim.short) for verdict in verdicts), default=0)
    lines = [*head, Text("")]
    for verdict, reasons in zip(verdicts, shown, strict=True):
        lines.append(_verdict_line(verdict, longest))
        lines += [Text(f"{INDENT}{line}", "dim") for line in reasons]
    return [*lines, *tail]


def conditions(summary: RunSummary) -> str:
    """How many prompts, which suite, and the control, as one line; '?' stands for a number or suite not recorded.

    The number is that of the explained prompts, or of all prompts where the former is not recorded. The control is that
    of the first verdict with null models, and 'no control' where no verdict has any.
    """
    pair = summary.pair
    null = null_of_run(summary.verdicts)
    control = "no control" if null is None else f"control: {null_models(null)}"
    prompts = f"{pair.get('prompts_explained', pair.get('prompts', '?'))} prompts"
    return ", ".join([prompts, f"suite {pair.get('suite', '?')}", control])


def commands(summary: RunSummary) -> list[str]:
    """The commands that may help to decide what is open, each once, in the order of the verdicts."""
    found = (command(summary.given, verdict.remedy) for verdict in summary.verdicts)
    return list(dict.fromkeys(text for text in found if text))


def detectable(verdict: Verdict) -> list[str]:
    """One clause with the smallest effect that the run could have found.

    Empty where the verdict's word is not `not clear`, and where that effect is unknown.
    """
    if verdict.word is not Word.NOT_CLEAR or verdict.detectable is None:
        return []
    return [f"smallest detectable effect (80% power): {number(verdict.detectable)}"]


def _verdict_line(verdict: Verdict, longest: int) -> Text:
    """The line of a verdict. longest: the length of the longest claim, to which the others are padded."""
    sign, style = MARKS[verdict.word]
    line = Text(f"{sign} {verdict.word.value:<15}", style)
    claim = visible(verdict.claim.short)
    if verdict.word is not Word.NOT_APPLICABLE:
        claim = f"{claim:<{longest}}  {interval(verdict.headline)}"
    return line.append(f"  {claim}", "not bold default")


def _shown_reasons(verdicts: Sequence[Verdict], width: int, room: int) -> list[list[str]]:
    """For each verdict the lines below it: its first reason, and its second one where `room` lines for all allow it.

    Reasons that are those of the verdict before are 'the same reason'. The text of `detectable` follows the reasons.
    Text of more lines than LONGEST_REASON says is cut and ends in ' ...'. Where first reasons alone take more than
    `room`, each is cut to one line less; they may still take more.
    """

    def lines(verdict: Verdict, before: Verdict | None, count: int, most: int) -> list[str]:
        reasons = list(verdict.reasons[:count])
        if before is not None and reasons and reasons == list(before.reasons[:count]):
            reasons = ["the same reason" if len(reasons) == 1 else "the same reasons"]
        text = visible("; ".join([*reasons, *detectable(verdict)]))
        return textwrap.wrap(text, width - len(INDENT), max_lines=most, placeholder=" ...", break_on_hyphens=False)

    followed = [*zip(verdicts, [None, *verdicts], strict=False)]
    shown = [lines(verdict, before, 1, LONGEST_REASON) for verdict, before in followed]
    if sum(map(len, shown)) > room:
        shown = [lines(verdict, before, 1, LONGEST_REASON - 1) for verdict, before in followed]
    for i, (verdict, before) in enumerate(followed):
        more = lines(verdict, before, SHOWN_REASONS, LONGEST_REASON + 1)
        if sum(map(len, shown)) - len(shown[i]) + len(more) <= room:
            shown[i] = more
    return shown


def _checks(summary: RunSummary, width: int) -> list[str]:
    """What the checks flag and no reason has said, as one sentence that is wrapped; empty where there is nothing."""
    said = {
        model
        for verdict in summary.verdicts
        if verdict.word is Word.NOT_TRUSTWORTHY and verdict.claim.attributions
        for model in verdict.evidence.unfaithful
    }
    flags = list(dict.fromkeys(flag for result in summary.results for flag in result.flags))
    models = [flag.removeprefix(UNFAITHFUL) for flag in flags if flag.startswith(UNFAITHFUL)]
    left = [model for model in models if model not in said]
    found = [flag for flag in flags if not flag.startswith(UNFAITHFUL)]
    if left:
        found.insert(0, f"attributions of {' and '.join(left)} are not faithful (no better than a random order)")
    return textwrap.wrap(f"check: {'; '.join(found)}", width, subsequent_indent=INDENT) if found else []


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
