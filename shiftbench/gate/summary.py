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
from shiftbench.gate.rules import Verdict
from shiftbench.report.text import label, title, visible


@dataclass(frozen=True)
class Judgement:
    """The result of a gate.

    gate: its name. current: the scores that were judged. reference: the scores of the earlier run that they were
    compared with. notes: a sentence on each difference between the two runs that is allowed.
    """

    gate: str
    current: Scores
    reference: Scores
    verdicts: Sequence[Verdict]
    notes: Sequence[str]

    @property
    def passed(self) -> bool:
        return all(verdict.passed for verdict in self.verdicts)


def markdown(judgement: Judgement) -> str:
    """The result as Markdown: passed or failed, a table with one row for each requirement, and what was compared."""
    current = judgement.current.pair
    failed = sum(not verdict.passed for verdict in judgement.verdicts)
    head = "passed" if judgement.passed else f"failed: {failed} of {len(judgement.verdicts)} requirements"
    lines = [
        f"## shiftbench gate {head}",
        "",
        f"Gate {code(judgement.gate)} on the pair {code(judgement.current.pair.get('name', ''))}",
        "",
        "| | rule | score | now | reference | why |",
        "|---|---|---|---|---|---|",
    ]
    lines += [_row(verdict) for verdict in judgement.verdicts]
    lines += [
        "",
        f"- now: base {code(current.get('base', ''))}, tuned {code(current.get('tuned', ''))}",
        f"- reference: {code(judgement.reference.origin)}, tuned {code(judgement.reference.pair.get('tuned', ''))}",
        *(f"- {note}" for note in judgement.notes),
    ]
    return "\n".join(lines) + "\n"


def _row(verdict: Verdict) -> str:
    rule, mark = verdict.rule, "passed" if verdict.passed else "**FAILED**"
    what = f"{code(rule.finding)} {code(rule.score)}"
    cells = [mark, code(rule.name), what, _interval(verdict.score), _interval(verdict.reference), verdict.why]
    return f"| {' | '.join(cells)} |"


def _interval(score: Score) -> str:
    return f"{score.value:+.3f} [{score.low:+.3f}, {score.high:+.3f}]"


def code(text: Any) -> str:
    """A Markdown code span with the text, on one line; '(empty)' for a text that is empty or has nothing but
    spaces.

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
    failures = sum(not verdict.passed for verdict in judgement.verdicts)
    counts = {"tests": str(len(judgement.verdicts)), "failures": str(failures), "errors": "0", "time": f"{seconds:.3f}"}
    name = f"shiftbench gate {visible(judgement.gate)}"
    root = ElementTree.Element("testsuites", counts)
    suite = ElementTree.SubElement(root, "testsuite", {"name": name, **counts})
    properties = ElementTree.SubElement(suite, "properties")
    for key, value in (("pair", judgement.current.pair.get("name", "")), ("against", judgement.reference.origin)):
        ElementTree.SubElement(properties, "property", {"name": key, "value": visible(str(value))})
    pair = label(judgement.current.pair.get("name", ""))
    for verdict in judgement.verdicts:
        rule = verdict.rule
        attributes = {
            "classname": f"{pair}.{visible(rule.finding)}",
            "name": f"{visible(rule.name)}: {verdict.requirement}",
        }
        case = ElementTree.SubElement(suite, "testcase", attributes)
        if not verdict.passed:
            message = f"{title(rule.finding)}, {visible(rule.score)}: {verdict.why}"
            failure = ElementTree.SubElement(case, "failure", {"message": message, "type": verdict.requirement})
            failure.text = f"{message}\nnow {_interval(verdict.score)}, reference {_interval(verdict.reference)}"
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'
