"""Rows of the benchmark: each is one measured number with its target. All rows make one table and one JSON file."""

from __future__ import annotations

import hashlib
import json
import os
import re
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from shiftbench.perf.agreement import Agreement
from shiftbench.perf.machine import cpu_model, model
from shiftbench.perf.timing import Comparison
from tests.perf.targets import TARGETS, Target

RESULTS = Path(__file__).parent / "results"
ROOT = Path(__file__).parents[2]
# The folders of the package that are timed. A change elsewhere does not make rows outdated.
ROOMS = (
    "annotate", "contracts", "engine", "explain", "models", "ops", "perf", "pipeline", "prompts", "store", "words",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One measured number.

    against: the peer; where there is none, what is measured. value: the median over rounds, in `unit`. low, high: the
    lowest and the highest round. ours_s, theirs_s: median seconds. agreement, agrees: how far the results are apart,
    and whether that is within the tolerance. note: for the reader. test: which test measured the row. sources: digest
    of the sources that were measured (`sources_digest`).
    """

    spot: str
    case: str
    against: str
    value: float
    unit: str
    low: float | None = None
    high: float | None = None
    rounds: int = 1
    ours_s: float | None = None
    theirs_s: float | None = None
    agreement: str = ""
    agrees: bool = True
    note: str = ""
    test: str = ""
    sources: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        return self.spot, self.case, self.against

    @property
    def target(self) -> Target | None:
        return TARGETS.get(self.key)

    @property
    def reaches_target(self) -> bool | None:
        """Whether the result agrees and its value reaches the target; None where the row has no target."""
        return None if self.target is None else self.agrees and self.target.is_reached(self.value)


def ratio_rows(
    spot: str, case: str, compared: Comparison, agreements: Mapping[str, Agreement], notes: Mapping[str, str]
) -> list[Row]:
    """A row for each peer of a comparison. Its value is the peer's time divided by ours."""
    rows = []
    for peer, timed in compared.peers.items():
        value, low, high = compared.ratio(peer)
        agreement = agreements.get(peer, Agreement("", True))
        row = Row(
            spot, case, peer, value, "x", low, high, len(timed.seconds),
            statistics.median(compared.ours.seconds), statistics.median(timed.seconds),
            agreement.text, agreement.ok, "; ".join(filter(None, (timed.part, notes.get(peer, "")))),
        )  # fmt: skip
        rows.append(row)
    return rows


class Machine(NamedTuple):
    """The machine on which rows were measured.

    facts: what the numbers depend on besides the code. head: the first line of the table.
    """

    name: str
    facts: Mapping[str, Any]
    head: str


def processor() -> Machine:
    """This machine: its CPU's name with the model's numbers, which a name may lack, its threads, and torch."""
    facts = {"cpu": cpu_model() + model(), "threads": torch.get_num_threads(), "torch": torch.__version__}
    head = f"{facts['cpu']}, {facts['threads']} threads, torch {facts['torch']}, float32."
    return Machine(f"{facts['cpu']} {facts['threads']} threads", facts, head)


def sources_digest() -> str:
    """Eight hexadecimal digits of a digest of the timed sources. Rows with another digest measured other code."""
    digest = hashlib.sha256()
    package = [file for file in ROOT.glob("shiftbench/**/*.py") if file.relative_to(ROOT).parts[1] in ROOMS]
    for file in sorted([*package, *ROOT.glob("csrc/**/*.[hc]*")]):
        digest.update(f"{file.relative_to(ROOT)}\n".encode() + file.read_bytes())
    return digest.hexdigest()[:8]


class Results:
    """The rows of one machine, kept on disk. A row that is measured again replaces the old one; the others stay."""

    def __init__(self, folder: Path = RESULTS, of: Machine | None = None) -> None:
        self.of = of or processor()
        self.machine = dict(self.of.facts)
        self.path = folder / (re.sub(r"[^a-z0-9]+", "-", self.of.name.lower()).strip("-") + ".json")
        self.rows: dict[tuple[str, str, str], Row] = {}
        if self.path.exists():
            document = json.loads(self.path.read_text())
            if document["machine"] == self.machine:
                fields = Row.__dataclass_fields__
                kept = [Row(**{k: v for k, v in row.items() if k in fields}) for row in document["rows"]]
                self.rows = {row.key: row for row in kept}

    def add(self, rows: Iterable[Row], all_of: str | None = None) -> None:
        """Add rows and write both files immediately, so an interrupted run keeps what it measured.

        all_of: name of a test whose rows are complete with these; its other rows, from earlier runs, are removed.
        """
        self.rows = {key: row for key, row in self.rows.items() if all_of is None or row.test != all_of}
        self.rows.update({row.key: row for row in rows})
        self.path.parent.mkdir(parents=True, exist_ok=True)
        document = {"machine": self.machine, "rows": [_document(row) for row in self.ordered()]}
        _replace(self.path, json.dumps(document, indent=1) + "\n")
        _replace(self.path.with_suffix(".md"), self.markdown())

    def ordered(self) -> list[Row]:
        """The rows sorted by hot spot and case. The rows of one case keep the order in which they were measured."""
        spots = list(dict.fromkeys(spot for spot, _, _ in TARGETS))
        rank = {spot: i for i, spot in enumerate(spots)}
        return sorted(self.rows.values(), key=lambda row: (rank.get(row.spot, len(rank)), row.spot, row.case))

    def markdown(self) -> str:
        """The table of all rows, aligned so that it can be read in a terminal."""
        sources = sources_digest()
        head = f"{self.of.head} A ratio is the peer's time divided by ours. "
        head += "An agreement is the difference relative to a column's largest value.\n\n"
        old = sum(row.sources != sources for row in self.rows.values())
        tail = (
            f"\n{old} of {len(self.rows)} rows, marked *, were measured with other sources than the present ones.\n"
            if old
            else ""
        )
        return head + table(self.ordered(), sources) + tail


def table(rows: Iterable[Row], sources: str) -> str:
    """Rows as an aligned Markdown table. sources: the present digest; rows of another one are marked with *."""
    lines = [("hot spot", "case", "against", "result", "spread", "seconds", "at least", "aim", "", "agreement", "note")]
    for row in rows:
        target, mark = row.target, {None: "", True: "met", False: "NOT MET"}[row.reaches_target]
        spread = "" if row.low is None or row.high is None or row.rounds < 2 else f"{row.low:.3g} to {row.high:.3g}"
        seconds = "" if row.ours_s is None else f"{row.ours_s:.3g}"
        seconds += "" if row.theirs_s is None else f" / {row.theirs_s:.3g}"
        lines.append(
            (
                row.spot + ("" if row.sources == sources else " *"),
                row.case,
                row.against,
                shown(row.value, row.unit),
                spread,
                seconds,
                "" if target is None else shown(target.at_least, row.unit),
                "" if target is None else shown(target.aim, row.unit),
                mark if row.agrees else f"{mark} WRONG RESULT".strip(),
                row.agreement,
                row.note,
            )
        )
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    text = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    text.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(text) + "\n"


def shown(value: float, unit: str) -> str:
    """A number with its unit, as the table shows it."""
    if unit == "x":
        return f"{value:.3g}x"
    if unit == "%":
        return f"{value:.1f}%"
    if unit == "MiB":
        return f"{value:.0f} MiB"
    return f"{value:.3g} {unit}" if unit else f"{value:.0e}"


def _document(row: Row) -> dict[str, Any]:
    target = row.target
    of_target = {} if target is None else {"at_least": target.at_least, "aim": target.aim, "met": row.reaches_target}
    return {**asdict(row), **of_target}


def _replace(path: Path, text: str) -> None:
    written = path.with_suffix(path.suffix + ".part")
    written.write_text(text)
    os.replace(written, path)
