"""The rows of a board as people read them: with ranks, pictures and file names. Pages and data files use these rows."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from shiftbench.leaderboard import pictures
from shiftbench.leaderboard.board import Board, Column
from shiftbench.leaderboard.entry import DIGEST_CHARACTERS, Entry
from shiftbench.leaderboard.ranks import Rank, is_ranked, ranks
from shiftbench.leaderboard.standing import NO_VERDICT, NOT_SCORED, Correction, Standing, standings
from shiftbench.report.page import model_name
from shiftbench.report.text import file_name
from shiftbench.verdicts import Word

SIZES = {"K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}
FEWEST_PAIRS = 2  # a base model of at least so many pairs has a page of its own
# The words of cells in the order in which rows are sorted; the word of a check is empty. Other words come last.
ORDER = (
    Word.SUPPORTED.value, f"{Word.SUPPORTED.value} alone", Word.NOT_CLEAR.value, f"{Word.OPPOSITE.value} alone",
    Word.OPPOSITE.value, Word.NOT_TRUSTWORTHY.value, Word.NOT_APPLICABLE.value, NO_VERDICT, "", NOT_SCORED,
)  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """What the board says of one pair in one column.

    Rank, position and scale are among the rows that one page shows: all rows of the board, or those of a base model.
    standing: word, score and p. rank: among the supported pairs of the column; None for every other pair. position: the
    pair's place in the order of the column, 0 for the first; pairs may share a place. None where the pair has no score
    in the column, or one without observations. leads: whether rank.first is 1 and some supported pair's interval lies
    entirely below this pair's. picture: the score on the column's scale; empty where there is no score.
    """

    column: Column
    standing: Standing
    rank: Rank | None
    position: int | None
    leads: bool
    picture: Markup


@dataclass(frozen=True)
class Line:
    """A row of the table as it is shown.

    stem: unique to the row, and safe in file names and addresses. base: the label of the base model. cells: one for
    each column of the board, in their order. has_report: whether the leaderboard has a page with the report of the run.
    """

    entry: Entry
    stem: str
    base: str
    cells: Sequence[Cell]
    has_report: bool

    @property
    def size(self) -> float:
        """The number of parameters in the pair's field `size`, for sorting: 7e9 for '7B'.

        0 where the field has no number that is followed by K, M, B or T, in upper or lower case.
        """
        found = re.search(r"([\d.]*\d)\s*([KMBT])", self.entry.pair.get("size", ""), re.IGNORECASE)
        return float(found[1]) * SIZES[found[2].upper()] if found and found[1].count(".") < 2 else 0.0


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


def lines(board: Board, rows: Sequence[Entry], names: Names, reports: Mapping[str, object]) -> list[Line]:
    """The rows as lines of a table, ranked among themselves, sorted by their places in the columns and then by name.

    The place in the first column counts first, and checks do not count (`_sort_key`).
    rows: all rows of the board, or those of one base model. The words are those of the whole board in both cases.
    names: `named` of all rows of the board. reports: its keys are the ids of the runs that have a report.
    """
    found, _ = standings(board.rows, board.columns)
    by_column = [_cells(column, [found[entry.run_id, column.key] for entry in rows]) for column in board.columns]
    shown = [
        Line(
            entry, names.stems[entry.run_id], names.bases[entry.pair["base_weights"]].label,
            [cells[i] for cells in by_column], entry.run_id in reports,
        )
        for i, entry in enumerate(rows)
    ]  # fmt: skip
    return sorted(shown, key=lambda line: (_sort_key(line), line.entry.pair["name"], line.stem))


def correction(board: Board) -> Correction:
    """How the words of the board are corrected for the number of its tests."""
    return standings(board.rows, board.columns)[1]


def bases_with_pages(board: Board, names: Names) -> list[Base]:
    """The base models with at least FEWEST_PAIRS pairs on the board, by the number of pairs (the most first) and label.

    names: `named` of the board's rows.
    """
    found = [base for base in names.bases.values() if base.count >= FEWEST_PAIRS]
    return sorted(found, key=lambda base: (-base.count, base.label))


def _cells(column: Column, found: Sequence[Standing]) -> list[Cell]:
    """The cells of one column, in the order of the rows, ranked among these rows. found: a standing for each row."""
    ranked = ranks([standing.score if standing.supported else None for standing in found])
    scale = pictures.scale([standing.score for standing in found])
    places = [_place(column, standing, rank) for standing, rank in zip(found, ranked, strict=True)]
    order = {place: i for i, place in enumerate(sorted({place for place in places if place is not None}))}
    count = sum(rank is not None for rank in ranked)
    return [
        Cell(
            column,
            standing,
            rank,
            None if place is None else order[place],
            rank is not None and rank.first == 1 and rank.last < count,
            pictures.interval(standing.score, scale, _state(standing)) if standing.score else Markup(""),
        )
        for standing, rank, place in zip(found, ranked, places, strict=True)
    ]


def _place(column: Column, standing: Standing, rank: Rank | None) -> tuple[int, int, float] | None:
    """What the pairs of a column are sorted by; None for a pair without a score, or with n = 0.

    Supported pairs come first: the first rank first, and within a rank the highest value first. The others follow by
    their words alone (ORDER), because the order of values that are not supported would be a ranking too. Checks are
    sorted by value, the highest first.
    """
    if not is_ranked(standing.score):
        return None
    word = ORDER.index(standing.word) if standing.word in ORDER else len(ORDER)
    if rank is not None:
        return word, rank.first, -standing.score.value
    return word, 0, -standing.score.value if column.check else 0.0


def _state(standing: Standing) -> str:
    return standing.word if standing.decided else "open"


def _sort_key(line: Line) -> list[tuple[bool, int]]:
    """What lines are sorted by: the position in each column but checks; a line without a position in it comes last."""
    cells = [cell for cell in line.cells if not cell.column.check]
    return [(cell.position is None, cell.position or 0) for cell in cells]


def _unique_stems(wanted: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    """A unique stem for each key of `wanted`.

    wanted: by key, (the stem that the key should get, a text that differs between keys that want the same stem).
    A stem that no other key wants stays. Stems that are equal, or differ only in upper and lower case, all get '.' and
    the start of the digest of their text. A number in place of the digest would depend on the order of the keys.
    """
    keys: dict[str, list[str]] = defaultdict(list)
    for key, (stem, _) in wanted.items():
        keys[stem.casefold()].append(key)
    found = {}
    for key, (stem, identity) in wanted.items():
        digest = hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()[:DIGEST_CHARACTERS]
        # `file_name` gives no dot, so a stem without a digest never equals one with a digest.
        found[key] = stem if len(keys[stem.casefold()]) == 1 else f"{stem}.{digest}"
    return found
