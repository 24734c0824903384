"""How far an annotator agrees with labels given by hand: 100 lists of words, shiftbench/data/annotate/labelled.jsonl.

The lists are the 50 words of real components, of SmolLM2-135M-Instruct and of the demo pair, 12,000 words in the
vocabulary: 46 drawn at random, spread over models and layers; 40 drawn among those that the lexical annotator gave each
of the tasks and levels; 14 taken because words of a task stand in them, which few lists have. A label is given where
several words make it plain, so that many lists have none. One reader, a language model and no linguist, labelled each
list once; the lexical annotator's labels were in sight for the last 14 only. How well two readers would agree is not
known. Figures over all 100 are of this choice of lists, not of all of a model's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from shiftbench.annotate.lexicon import LEVELS, TASKS
from shiftbench.readers.text_files import packaged_lines
from shiftbench.store.explanation import Unit
from shiftbench.words import StaticVectors, Vocabulary

LABELS = (*TASKS, "none", *LEVELS)
Annotate = Callable[[Sequence[Sequence[str]], StaticVectors, Vocabulary], Unit]  # as an annotator's `annotate`


@dataclass(frozen=True)
class Labelled:
    """A list of words and the labels that a reader gave it: one task or more, or "none", and any linguistic levels."""

    words: tuple[str, ...]
    labels: frozenset[str]


@dataclass(frozen=True)
class Agreement:
    """table: a row a label, see `by_label`. exact: share of lists whose labels are all the same. n: lists compared.

    unread: readings that gave no labels and are left out, of seeds x lists.
    """

    table: pd.DataFrame
    exact: float
    n: int
    unread: int


def labelled() -> list[Labelled]:
    """The packaged lists."""
    rows = [json.loads(line) for line in packaged_lines("annotate/labelled.jsonl")]
    return [Labelled(tuple(row["words"]), frozenset((*row["tasks"], *row["levels"]))) for row in rows]


def agreement(annotate: Annotate, vectors: StaticVectors, vocabulary: Vocabulary) -> Agreement:
    """An annotator's labels of the packaged lists against the reader's; of several seeds every reading counts."""
    lists = labelled()
    unit = annotate([one.words for one in lists], vectors, vocabulary)
    place = [unit.words["label"].index(label) for label in LABELS]
    wanted_CL = np.array([[label in one.labels for label in LABELS] for one in lists])
    if "label_CL" in unit.arrays:
        given_NL, wanted_NL, unread = unit.arrays["label_CL"].numpy()[:, place], wanted_CL, 0
    else:
        read_SC = unit.arrays["answered_SC"].numpy()
        given_NL = unit.arrays["label_SCL"].numpy()[read_SC][:, place]
        wanted_NL = np.broadcast_to(wanted_CL, (*read_SC.shape, len(LABELS)))[read_SC]
        unread = int((~read_SC).sum())
    exact = float((given_NL == wanted_NL).all(1).mean()) if len(given_NL) else 0.0
    return Agreement(by_label(given_NL, wanted_NL), exact, len(given_NL), unread)


def by_label(given_NL: NDArray[np.bool_], wanted_NL: NDArray[np.bool_], names: Sequence[str] = LABELS) -> pd.DataFrame:
    """Columns label, by hand, given, both (counts), precision, recall, kappa (Cohen's); None where not defined."""
    rows = []
    for label, given, wanted in zip(names, given_NL.T, wanted_NL.T, strict=True):
        hand, told, both = int(wanted.sum()), int(given.sum()), int((given & wanted).sum())
        rows.append(
            {
                "label": label,
                "by hand": hand,
                "given": told,
                "both": both,
                "precision": both / told if told else None,
                "recall": both / hand if hand else None,
                "kappa": cohens_kappa(given, wanted),
            }
        )
    return pd.DataFrame(rows)


def cohens_kappa(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float | None:
    """Agreement beyond that of chance, 1 where complete, 0 where as by chance; None where chance alone is complete."""
    if not len(first):
        return None
    observed = float((first == second).mean())
    chance = float(first.mean() * second.mean() + (1 - first.mean()) * (1 - second.mean()))
    return None if chance == 1 else (observed - chance) / (1 - chance)


def lines(found: Agreement) -> str:
    """The agreement as a table for people, exact matches and unread answers below it."""
    table = found.table.to_string(index=False, float_format="{:.2f}".format, na_rep="-")
    whole = f"all labels of a list alike: {found.exact:.0%} of {found.n}"
    return f"{table}\n{whole}" + (f"; {found.unread} answers could not be read" if found.unread else "")
