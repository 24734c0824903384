"""The result of a gate for people (Markdown, for a pull request) and for CI (JUnit XML).

Names come from models, files and users. In Markdown each name is in a code span that the name itself cannot close. In
XML names are escaped. Hidden characters (report/text.py) are spelled out in both.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from shiftbench.contracts.result import Score
from shiftbench.gate.reference import Scores
from shiftbench.gate.rules import VERDICT, Outcome
from shiftbench.report.text import label, title, visible
from shiftbench.verdicts.sentences import interval


@dataclass(frozen=True)
class Judgement:
    """The result of a gate.

    gate: its name. current: the run that was judged. reference: the earlier run that it was compared with; None where
    the gate needs none and none was named. outcomes: one for each requirement, verdicts included. notes: a sentence on
    each difference between the two runs that is allowed.
    """

    gate: str
    current: Scores
    reference: Scores | None
    outcomes: Sequence[Outcome]
    notes: Sequence[str]

    @property
    def passed(self) -> bool:
        return all(outcome.passed for outcome in self.outcomes)


def markdown(judgement: Judgement) -> str:
    """The result as Markdown: passed or failed, a table with one row for each requirement, and what was compared."""
    current = judgement.current.pair
    failed = sum(not outcome.passed for outcome in judgement.outcomes)
    head = "passed" if judgement.passed else f"failed: {failed} of {len(judgement.outcomes)} requirements"
    lines = [
        f"## shiftbench gate {head}",
        "",
        f"Gate {code(judgement.gate)} on the pair {code(judgement.current.pair.get('name', ''))}",
        "",
        "| | rule | score | now | reference | why |",
        "|---|---|---|---|---|---|",
    ]
    lines += [_row(outcome) for outcome in judgement.outcomes]
    lines += [
        "",
        f"- now: base {code(current.get('base', ''))}, tuned {code(current.get('tuned', ''))}",
        _reference(judgement),
        *(f"- {note}" for note in judgement.notes),
    ]
    return "\n".join(lines) + "\n"


def _reference(judgement: Judgement) -> str:
    found = judgement.reference
    return (
        f"- reference: {code(found.origin)}, tuned {code(found.pair.get('tuned', ''))}" if found else "- no reference"
    )


def _row(outcome: Outcome) -> str:
    mark = "passed" if outcome.passed else "**FAILED**"
    what = f"{code(outcome.score.finding)} {code(outcome.score.name)}"
    before = _shown(outcome.before, outcome.reference)
    why = code(outcome.why) if outcome.requirement == VERDICT else outcome.why  # a verdict's reasons name models
    cells = [mark, code(outcome.rule.name), what, _shown(outcome.now, outcome.score), before, why]
    return f"| {' | '.join(cells)} |"


def _shown(word: str, score: Score | None) -> str:
    """The word of a verdict, if there is one, and the score with its interval; "" without a score."""
    if score is None:
        return ""
    return f"{word}{', ' if word else ''}{interval(score)}"


def code(text: Any) -> str:
    """A Markdown code span with the text, on one line; '(empty)' for a text of nothing but spaces.

    A pipe would end the cell of a table, so it is shown as a broken bar (¦).
    """
    shown = visible(str(text)).replace("|", "\u00a6")
    if not shown.strip():
        return "(empty)"
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    pad = " " if shown.startswith(("`", " ")) or shown.endswith(("`", " ")) else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


def junit(judgement: Judgement, seconds: float) -> str:
    """The result as JUnit XML: a test suite named after the gate, and in it a test case for each requirement.

    seconds: how long the gate took. A requirement that failed is a failure of its test case.
    """
    failures = sum(not outcome.passed for outcome in judgement.outcomes)
    counts = {"tests": str(len(judgement.outcomes)), "failures": str(failures), "errors": "0", "time": f"{seconds:.3f}"}
    name = f"shiftbench gate {visible(judgement.gate)}"
    root = ElementTree.Element("testsuites", counts)
    suite = ElementTree.SubElement(root, "testsuite", {"name": name, **counts})
    properties = ElementTree.SubElement(suite, "properties")
    for key, value in (
        ("pair", judgement.current.pair.get("name", "")),
        ("against", judgement.reference.origin if judgement.reference else ""),
    ):
        ElementTree.SubElement(properties, "property", {"name": key, "value": visible(str(value))})
    pair = label(judgement.current.pair.get("name", ""))
    for outcome in judgement.outcomes:
        rule, finding, score = outcome.rule, outcome.score.finding, outcome.score.name
        attributes = {
            "classname": f"{pair}.{visible(finding)}",
            "name": f"{visible(rule.name)}: {outcome.requirement}",
        }
        case = ElementTree.SubElement(suite, "testcase", attributes)
        if not outcome.passed:
            message = f"{title(finding)}, {visible(score)}: {visible(outcome.why)}"
            failure = ElementTree.SubElement(case, "failure", {"message": message, "type": outcome.requirement})
            before = _shown(outcome.before, outcome.reference) or "none"
            failure.text = f"{message}\nnow {_shown(outcome.now, outcome.score)}, reference {before}"
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'
