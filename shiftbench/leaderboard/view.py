"""The rows of a board as people read them: with ranks, pictures and file names. Pages and data files use the same."""

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
from shiftbench.leaderboard.board import DIGEST_CHARACTERS, Board, Column, Entry
from shiftbench.leaderboard.ranks import Rank, is_ranked, ranks
from shiftbench.report.page import model_name
from shiftbench.report.text import file_name, title

SIZES = {"K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}
FEWEST_PAIRS = 2  # of a base model that has a page of its own


@dataclass(frozen=True)
class Cell:
    """The headline score of one pair in one column.

    position: 0 for the best of the pairs with a score, None for a pair without one. leads: whether the first rank is 1
    and some pair is clearly below. picture: the score on the column's scale. over_null: the score over a null control.
    """

    column: Column
    score: Score | None
    rank: Rank | None
    position: int | None
    leads: bool
    picture: Markup
    over_null: Score | None


@dataclass(frozen=True)
class Line:
    """A row of the table as it is shown.

    stem: unique to the row, and safe in file names and addresses. base: the label of the base model.
    """

    entry: Entry
    stem: str
    base: str
    cells: Sequence[Cell]
    profile: Markup
    has_report: bool

    @property
    def size(self) -> float:
        """The number of parameters, for sorting; 0 where the pair's size has no number."""
        found = re.search(r"([\d.]*\d)\s*([KMBT])", self.entry.pair.get("size", ""), re.IGNORECASE)
        return float(found[1]) * SIZES[found[2].upper()] if found and found[1].count(".") < 2 else 0.0

    @property
    def recorded(self) -> str:
        """The day of the run in UTC, as '2025-01-31'."""
        at = datetime.datetime.fromtimestamp(self.entry.recorded_ms / 1000, datetime.timezone.utc)
        return at.date().isoformat()


@dataclass(frozen=True)
class Base:
    """A base model of the board. stem: of the file of its page. identity: digest of its weights. count: its pairs."""

    label: str
    stem: str
    identity: str
    count: int


@dataclass(frozen=True)
class Names:
    """Unique names of the rows and the base models of a board, the same on all its pages."""

    stems: Mapping[str, str]  # by run id
    bases: Mapping[str, Base]  # by digest of the base's weights


def named(rows: Sequence[Entry]) -> Names:
    """Names for all rows and base models. They differ even on file systems that ignore upper and lower case."""
    stems = _unique_stems({entry.run_id: (file_name(entry.pair["name"]), "\n".join(entry.identity)) for entry in rows})
    digests = {entry.pair["base_weights"]: entry.pair["base"] for entry in reversed(rows)}
    labels = Counter(model_name(base) for base in digests.values())
    files = _unique_stems({digest: (file_name(model_name(base)), digest) for digest, base in digests.items()})
    counts = Counter(entry.pair["base_weights"] for entry in rows)
    bases = {}
    for digest, base in digests.items():
        label = model_name(base)
        label = label if labels[label] == 1 else f"{label} ({digest[:DIGEST_CHARACTERS]})"
        bases[digest] = Base(label, files[digest], digest, counts[digest])
    return Names(stems, bases)


def lines(rows: Sequence[Entry], columns: Sequence[Column], names: Names, reports: Mapping[str, object]) -> list[Line]:
    """The rows as lines, ranked among themselves, the best of the first column first. reports: by run id."""
    by_column = [_cells(column, rows) for column in columns]
    scales = [pictures.scale([cell.score for cell in cells]) for cells in by_column]
    shifts = [i for i, column in enumerate(columns) if not column.level]
    titles = [title(columns[i].finding) for i in shifts]
    found = []
    for i, entry in enumerate(rows):
        cells = [cells[i] for cells in by_column]
        picture = pictures.profile([cells[i].score for i in shifts], [scales[i] for i in shifts], titles)
        base = names.bases[entry.pair["base_weights"]].label
        found.append(Line(entry, names.stems[entry.run_id], base, cells, picture, entry.run_id in reports))
    return sorted(found, key=lambda line: (_sort_key(line), line.entry.pair["name"], line.stem))


def bases_with_pages(board: Board, names: Names) -> list[Base]:
    """The base models of at least FEWEST_PAIRS pairs, those of most pairs first."""
    found = [base for base in names.bases.values() if base.count >= FEWEST_PAIRS]
    return sorted(found, key=lambda base: (-base.count, base.label))


def _cells(column: Column, rows: Sequence[Entry]) -> list[Cell]:
    scores = [entry.score(column.finding, column.headline) for entry in rows]
    ranked = [None] * len(rows) if column.level else ranks(scores)
    scale = pictures.scale(scores)
    order = sorted(
        (i for i, score in enumerate(scores) if is_ranked(score)),
        key=lambda i: (ranked[i].first if ranked[i] else 0, -scores[i].value),  # type: ignore[union-attr]
    )
    positions = {row: position for position, row in enumerate(order)}
    return [
        Cell(
            column, score, ranked[i], positions.get(i), _leads(ranked[i], len(order)),
            pictures.interval(score, scale) if score else Markup(""), entry.score(column.finding, column.null_name),
        )
        for i, (entry, score) in enumerate(zip(rows, scores, strict=True))
    ]  # fmt: skip


def _leads(rank: Rank | None, count: int) -> bool:
    return rank is not None and rank.first == 1 and rank.last < count


def _sort_key(line: Line) -> tuple[bool, int]:
    """Lines without a score in the first column come last."""
    position = line.cells[0].position
    return position is None, position or 0


def _unique_stems(wanted: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    """A unique stem for each key. wanted: by key, (the stem, what tells it apart from others of the same stem).

    Stems that differ in case at most get a digest of what tells them apart, so the result does not depend on the order.
    """
    keys: dict[str, list[str]] = defaultdict(list)
    for key, (stem, _) in wanted.items():
        keys[stem.casefold()].append(key)
    found = {}
    for key, (stem, identity) in wanted.items():
        digest = hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()[:DIGEST_CHARACTERS]
        # `file_name` gives no dot, so no other stem equals one with a digest.
        found[key] = stem if len(keys[stem.casefold()]) == 1 else f"{stem}.{digest}"
    return found
