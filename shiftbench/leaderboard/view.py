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
FEWEST_PAIRS = 2  # a base model of at least so many pairs has a page of its own


@dataclass(frozen=True)
class Cell:
    """The headline score of one pair in one column.

    score: None where the pair does not have it. rank: None for a check, and for a score that is missing or has no
    observations (n = 0). position: the pair's place by rank and then by value, 0 for the best; None for a pair without
    a score or observations. leads: whether rank.first is 1 and some pair's interval lies entirely below. picture: the
    score on the column's scale; empty where there is no score. over_null: the score less the mean score of null models;
    None where the pair does not have it.
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

    stem: unique to the row, and safe in file names and addresses. base: the label of the base model. cells: one for
    each column of the board, in their order. profile: the radar chart of the pair. has_report: whether the leaderboard
    has a page with the report of the run.
    """

    entry: Entry
    stem: str
    base: str
    cells: Sequence[Cell]
    profile: Markup
    has_report: bool

    @property
    def size(self) -> float:
        """The number of parameters in the pair's field `size`, for sorting: 7e9 for '7B'.

        0 where the field has no number that is followed by K, M, B or T.
        """
        found = re.search(r"([\d.]*\d)\s*([KMBT])", self.entry.pair.get("size", ""), re.IGNORECASE)
        return float(found[1]) * SIZES[found[2].upper()] if found and found[1].count(".") < 2 else 0.0

    @property
    def recorded(self) -> str:
        """The day of the run in UTC, as '2025-01-31'."""
        at = datetime.datetime.fromtimestamp(self.entry.recorded_ms / 1000, datetime.timezone.utc)
        return at.date().isoformat()


@dataclass(frozen=True)
class Base:
    """A base model of the board.

    label: its short name, unique on the board. stem: the file name of its page, without the ending. identity: the
    digest of its weights. count: the number of the board's pairs that it is the base of.
    """

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
    """Names for these rows and their base models.

    Stems differ even on file systems that ignore upper and lower case. Base models of different weights that have the
    same short name get labels with the first characters of their digests.
    """
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
    """The rows as lines of a table, ranked among themselves, the best of the first column first.

    rows: all rows of a board, or some of them. columns: those of the board. names: `named` of all rows of the board.
    reports: its keys are the ids of the runs that have a report.
    """
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
    """The base models with at least FEWEST_PAIRS pairs on the board, the one with the most pairs first.

    names: `named` of the board's rows.
    """
    found = [base for base in names.bases.values() if base.count >= FEWEST_PAIRS]
    return sorted(found, key=lambda base: (-base.count, base.label))


def _cells(column: Column, rows: Sequence[Entry]) -> list[Cell]:
    """The cells of one column, in the order of the rows, ranked among these rows."""
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
    """What lines are sorted by: the position in the first column; lines without a position there come last."""
    position = line.cells[0].position
    return position is None, position or 0


def _unique_stems(wanted: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    """A unique stem for each key of `wanted`.

    wanted: by key, (the stem that the key should get, a text that differs between keys that want the same stem).
    A stem that no other key wants stays. Stems that are equal, or differ only in upper and lower case, all get '.' and
    a digest of their texts. A number in place of the digest would depend on the order of the keys.
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
