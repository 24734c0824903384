"""A board as people read it: lines with ranks, pictures and names of files, for the pages and the plain files alike."""

from __future__ import annotations

import datetime
import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from shiftbench.contracts.result import Score
from shiftbench.leaderboard import pictures
from shiftbench.leaderboard.board import DIGEST, Board, Column, Entry
from shiftbench.leaderboard.ranks import Rank, is_ranked, ranks
from shiftbench.report.page import model_name
from shiftbench.report.text import file_name, title

SIZES = {"K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}
MANY = 2  # pairs on one base, from which on the base has a page


@dataclass(frozen=True)
class Cell:
    """A pair's headline score in one column.

    place: 0 for the best of those with a score. leads: its rank is 1 and some pair is clearly below. picture: on the
    column's scale.
    """

    column: Column
    score: Score | None
    rank: Rank | None
    place: int | None
    leads: bool
    picture: Markup
    over_null: Score | None


@dataclass(frozen=True)
class Line:
    """A row as it is shown. stem: a name that is this row's alone and safe in a file name and an address."""

    entry: Entry
    stem: str
    base: str
    cells: Sequence[Cell]
    profile: Markup
    has_report: bool

    @property
    def size(self) -> float:
        """Parameters, to sort by; 0 where the size says no number."""
        found = re.search(r"([\d.]*\d)\s*([KMBT])", self.entry.pair.get("size", ""), re.IGNORECASE)
        return float(found[1]) * SIZES[found[2].upper()] if found and found[1].count(".") < 2 else 0.0

    @property
    def recorded(self) -> str:
        """The day of the run, UTC."""
        at = datetime.datetime.fromtimestamp(self.entry.recorded_ms / 1000, datetime.timezone.utc)
        return at.date().isoformat()


@dataclass(frozen=True)
class Base:
    """A base with several tuned models. stem: of its page's file."""

    label: str
    stem: str
    identity: str
    count: int


@dataclass(frozen=True)
class Names:
    """What rows and bases are called, decided once over all rows: the same on every page."""

    stems: Mapping[str, str]  # by run id
    bases: Mapping[str, Base]  # by digest of the base's weights


def named(rows: Sequence[Entry]) -> Names:
    """Names that differ wherever rows or bases do, on file systems that do not tell case too."""
    stems = _distinct({entry.run_id: (file_name(entry.pair["name"]), "\n".join(entry.identity)) for entry in rows})
    digests = {entry.pair["base_weights"]: entry.pair["base"] for entry in reversed(rows)}
    labels = Counter(model_name(base) for base in digests.values())
    files = _distinct({digest: (file_name(model_name(base)), digest) for digest, base in digests.items()})
    counts = Counter(entry.pair["base_weights"] for entry in rows)
    bases = {}
    for digest, base in digests.items():
        label = model_name(base)
        label = label if labels[label] == 1 else f"{label} ({digest[:DIGEST]})"
        bases[digest] = Base(label, files[digest], digest, counts[digest])
    return Names(stems, bases)


def lines(rows: Sequence[Entry], columns: Sequence[Column], names: Names, reports: Mapping[str, object]) -> list[Line]:
    """Lines ranked among these rows, the first column's best first."""
    by_column = [_cells(column, rows) for column in columns]
    scales = [pictures.scale([cell.score for cell in cells]) for cells in by_column]
    shifts = [i for i, column in enumerate(columns) if not column.level]
    titles = [title(columns[i].finding) for i in shifts]
    made = []
    for i, entry in enumerate(rows):
        cells = [cells[i] for cells in by_column]
        picture = pictures.profile([cells[i].score for i in shifts], [scales[i] for i in shifts], titles)
        base = names.bases[entry.pair["base_weights"]].label
        made.append(Line(entry, names.stems[entry.run_id], base, cells, picture, entry.run_id in reports))
    return sorted(made, key=lambda line: (_order(line), line.entry.pair["name"], line.stem))


def many(board: Board, names: Names) -> list[Base]:
    """The bases that have a page of their own, those with most tuned models first."""
    found = [base for base in names.bases.values() if base.count >= MANY]
    return sorted(found, key=lambda base: (-base.count, base.label))


def _cells(column: Column, rows: Sequence[Entry]) -> list[Cell]:
    scores = [entry.score(column.finding, column.headline) for entry in rows]
    ranked = [None] * len(rows) if column.level else ranks(scores)
    along = pictures.scale(scores)
    order = sorted(
        (i for i, score in enumerate(scores) if is_ranked(score)),
        key=lambda i: (ranked[i].first if ranked[i] else 0, -scores[i].value),  # type: ignore[union-attr]
    )
    places = {row: place for place, row in enumerate(order)}
    return [
        Cell(
            column, score, ranked[i], places.get(i), _leads(ranked[i], len(order)),
            pictures.interval(score, along) if score else Markup(""), entry.score(column.finding, column.null_name),
        )
        for i, (entry, score) in enumerate(zip(rows, scores, strict=True))
    ]  # fmt: skip


def _leads(rank: Rank | None, count: int) -> bool:
    return rank is not None and rank.first == 1 and rank.last < count


def _order(line: Line) -> tuple[bool, int]:
    place = line.cells[0].place
    return place is None, place or 0


def _distinct(wanted: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    """Each key's stem; those that would be one file get a digest of what tells them apart, whatever the order."""
    taken: dict[str, list[str]] = defaultdict(list)
    for key, (stem, _) in wanted.items():
        taken[stem.casefold()].append(key)
    found = {}
    for key, (stem, identity) in wanted.items():
        digest = hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()[:DIGEST]
        found[key] = stem if len(taken[stem.casefold()]) == 1 else f"{stem}.{digest}"  # no stem has a dot
    return found
