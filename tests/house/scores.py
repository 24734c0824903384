"""The page of what each score means, from the facts beside the findings: `python -m tests.house.scores` writes it."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator

from shiftbench import findings
from shiftbench.contracts.finding import Finding, Group
from tests.house.rooms import ROOT

PAGE = ROOT / "docs" / "scores.md"
HEAD = """\
# What each score means

Each finding lists its scores with their meaning (`facts` in `shiftbench/findings/`); this page is written from them.
*Shift* is what tuning changed, and 0 for a model compared with itself. *Level* says what one model is like.
*Diagnostic* helps to read the other scores and answers no question of its own.

Two endings can follow a name. `_over_null` is the score less the mean of the null models' scores
([controls](controls.md)). `_own_response`, `_shared_response` and `_reference_response` are the same score on other
responses ([tutorial](tutorial.md)). A `*` in a name stands for a number. The formulas are in
[the mathematics](mathematics.md).
"""


def all_findings() -> Iterator[type[Finding]]:
    """The classes of the package's findings, by module name."""
    for module in pkgutil.iter_modules(findings.__path__):
        file = importlib.import_module(f"{findings.__name__}.{module.name}")
        for _, one in inspect.getmembers(file, inspect.isclass):
            if issubclass(one, Finding) and one.__module__ == file.__name__:
                yield one


def page() -> str:
    """The page as Markdown: a section for each group, a table for each finding."""
    parts = [HEAD]
    by_group: dict[Group, list[type[Finding]]] = {group: [] for group in Group}
    for one in all_findings():
        by_group[one.group].append(one)
    for group, members in by_group.items():
        parts.append(f"## Group: {group.value}\n")
        for one in members:
            parts.append(f"### {one.name}\n")
            parts.append("| score | kind | unit | a positive value says | zero says |\n|---|---|---|---|---|")
            for name, fact in one.facts.items():
                cells = (f"`{name}`", fact.kind.value, fact.unit, fact.positive, fact.zero)
                parts.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
            parts.append("")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}")
