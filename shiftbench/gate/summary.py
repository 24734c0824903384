"""A gate's verdict for people (Markdown, as a pull request shows it) and for CI (JUnit XML).

Names come from models, files and users: in Markdown they stand in code spans that they cannot close, in XML they are
escaped, and what is invisible in them is spelled out.
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
    """All that there is to tell. notes: remarks on what differs without harm."""

    gate: str
    current: Scores
    reference: Scores
    verdicts: Sequence[Verdict]
    notes: Sequence[str]

    @property
    def passed(self) -> bool:
        return all(verdict.passed for verdict in self.verdicts)


def markdown(judged: Judgement) -> str:
    """The verdict, a line a requirement, and what was compared."""
    failed = sum(not verdict.passed for verdict in judged.verdicts)
    head = "passed" if judged.passed else f"failed: {failed} of {len(judged.verdicts)} requirements"
    lines = [
        f"## shiftbench gate {head}",
        "",
        f"Gate {code(judged.gate)} on the pair {code(judged.current.pair.get('name', ''))}",
        "",
        "| | rule | score | now | reference | why |",
        "|---|---|---|---|---|---|",
    ]
    lines += [_row(verdict) for verdict in judged.verdicts]
    lines += [
        "",
        f"- now: base {code(judged.current.pair.get('base', ''))}, tuned {code(judged.current.pair.get('tuned', ''))}",
        f"- reference: {code(judged.reference.origin)}, tuned {code(judged.reference.pair.get('tuned', ''))}",
        *(f"- {note}" for note in judged.notes),
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
    """A code span that shows the text as it is, but for pipes, which would end a table's cell, shown as broken bars."""
    shown = visible(str(text)).replace("|", "\u00a6")
    if not shown.strip():
        return "(empty)"
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    pad = " " if shown.startswith(("`", " ")) or shown.endswith(("`", " ")) else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


def junit(judged: Judgement, seconds: float) -> str:
    """A test suite of the gate's name, a test case a requirement."""
    failures = sum(not verdict.passed for verdict in judged.verdicts)
    counts = {"tests": str(len(judged.verdicts)), "failures": str(failures), "errors": "0", "time": f"{seconds:.3f}"}
    name = f"shiftbench gate {visible(judged.gate)}"
    root = ElementTree.Element("testsuites", counts)
    suite = ElementTree.SubElement(root, "testsuite", {"name": name, **counts})
    properties = ElementTree.SubElement(suite, "properties")
    for key, value in (("pair", judged.current.pair.get("name", "")), ("against", judged.reference.origin)):
        ElementTree.SubElement(properties, "property", {"name": key, "value": visible(str(value))})
    pair = label(judged.current.pair.get("name", ""))
    for verdict in judged.verdicts:
        rule = verdict.rule
        about = {"classname": f"{pair}.{visible(rule.finding)}", "name": f"{visible(rule.name)}: {verdict.requirement}"}
        case = ElementTree.SubElement(suite, "testcase", about)
        if not verdict.passed:
            message = f"{title(rule.finding)}, {visible(rule.score)}: {verdict.why}"
            failure = ElementTree.SubElement(case, "failure", {"message": message, "type": verdict.requirement})
            failure.text = f"{message}\nnow {_interval(verdict.score)}, reference {_interval(verdict.reference)}"
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'
