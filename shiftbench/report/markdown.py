"""The answer of a run in Markdown, for the description of its MLflow run."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timezone

from shiftbench.report.page import RunSummary, model_name
from shiftbench.report.terminal import SHOWN_WORDS, commands, conditions, detectable
from shiftbench.report.text import in_markdown, visible
from shiftbench.verdicts import Remedy, Verdict, Word
from shiftbench.verdicts.sentences import command, interval

REPORT = "report.html"  # the file's name; sending the run makes the link lead to the file on MLflow's page


def answer_markdown(summary: RunSummary) -> str:
    """The verdicts' words, what was compared, the verdicts with reasons, and commands.

    The commands are those that may help to decide what is open, and the one that made the run where it is recorded.
    The words stand first, because MLflow's page folds what follows the first few lines. A run without verdicts begins
    with what was compared, and the sentences of its findings follow. Text that users choose, such as names of models,
    is escaped. The text links to the report by the name of its file.
    """
    pair = summary.pair
    compared = f"{pair['name']}: {model_name(pair['base'])} → {model_name(pair['tuned'])}; {conditions(summary)}"
    parts = [*_words(summary.verdicts), f"{in_markdown(compared)}. [Report]({REPORT})"]
    if summary.verdicts:
        parts += [_table(summary.verdicts), *_reasons(summary.verdicts)]
    else:
        parts += [in_markdown(result.sentence) for result in summary.results if result.sentence]
    following = commands(summary)
    parts += [f"What would decide:\n\n{_code(following)}"] if following else []
    if summary.given:
        when = (
            "" if summary.finished is None else f" on {summary.finished.astimezone(timezone.utc):%Y-%m-%d at %H:%M} UTC"
        )
        parts.append(f"Made{when} by:\n\n{_code([str(command(summary.given, Remedy()))])}")
    return "\n\n".join(parts)


def _words(verdicts: Sequence[Verdict]) -> list[str]:
    """A list of one line, the claims by the word of their verdict in the order of SHOWN_WORDS; [] without verdicts."""
    by_word = {word: [in_markdown(one.claim.short) for one in verdicts if one.word is word] for word in SHOWN_WORDS}
    said = [f"**{word.value}**: {', '.join(claims)}" for word, claims in by_word.items() if claims]
    return ["; ".join(said)] if said else []


def _table(verdicts: Sequence[Verdict]) -> str:
    rows = ["| verdict | claim | headline [interval] |", "|---|---|---|"]
    for verdict in verdicts:
        shown = "" if verdict.word is Word.NOT_APPLICABLE else interval(verdict.headline)
        rows.append(f"| **{verdict.word.value}** | {in_markdown(verdict.claim.short)} | {shown} |")
    return "\n".join(rows)


def _reasons(verdicts: Sequence[Verdict]) -> list[str]:
    """A list of one text, Markdown with an item for each verdict with reasons or a `detectable`; [] where none has."""
    rows = []
    for verdict in verdicts:
        reasons = [*verdict.reasons, *detectable(verdict)]
        if reasons:
            rows.append(f"- *{in_markdown(verdict.claim.short)}*: {in_markdown('; '.join(reasons))}")
    return ["\n".join(rows)] if rows else []


def _code(lines: Sequence[str]) -> str:
    """The lines as a block of code. It is indented, because a fence could be ended by backticks in a line."""
    return "\n".join(f"    {visible(line)}" for line in lines)
