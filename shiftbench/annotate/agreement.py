"""How far an annotator agrees with a reader's labels of 100 lists of words. The reader was a language model.

The lists are in shiftbench/data/annotate/labelled.jsonl. Each list is the 50 words of a real component, of
SmolLM2-135M-Instruct or of the demo pair, with a vocabulary of 12,000 words. 46 lists were drawn at random, spread over
models and layers. 40 were drawn by label: five for each task and level, among the lists to which the lexical annotator
gives it. 14 were chosen because they have words of a task, which is rare. A list has a label where several of its words
show it clearly, so many lists have none. The reader, who was no linguist, labelled each list once. The
reader saw the lexical annotator's labels of these 14 lists only. How well two readers would agree is not known. Figures
over all 100 lists hold for this selection, not for all components of a model.
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
Annotate = Callable[[Sequence[Sequence[str]], StaticVectors, Vocabulary], Unit]  # Annotator.annotate without `chance`


@dataclass(frozen=True)
class Labelled:
    """A list of words and the reader's labels: one or more tasks, or "none", and any number of linguistic levels."""

    words: tuple[str, ...]
    labels: frozenset[str]


@dataclass(frozen=True)
class Agreement:
    """How far an annotator's labels agree with those of the reader, a language model that labelled 100 lists once.

    table: one row for each label, with the columns of `by_label`. exact: the share of lists on which all labels agree;
    0 where no list was compared. n: the number of lists that were compared. An annotator with several seeds labels each
    list once for each seed, and each of these readings counts as a list. unread: the number of readings that are left
    out because the chat model's answer could not be read. cannot_tell: the number that are left out because the answer
    says that the words share nothing, which happens with prompt='paper' alone.
    """

    table: pd.DataFrame
    exact: float
    n: int
    unread: int
    cannot_tell: int


def labelled() -> list[Labelled]:
    """The 100 packaged lists, each with its words and the labels that the reader gave it, in the order of the file."""
    rows = [json.loads(line) for line in packaged_lines("annotate/labelled.jsonl")]
    return [Labelled(tuple(row["words"]), frozenset((*row["tasks"], *row["levels"]))) for row in rows]


def agreement(annotate: Annotate, vectors: StaticVectors, vocabulary: Vocabulary) -> Agreement:
    """How far an annotator's labels of the packaged lists agree with the reader's labels.

    annotate: the method `annotate` of the annotator, called once with all lists, `vectors` and `vocabulary`. Its unit
    must have all of LABELS among its labels. The errors of the method are raised unchanged.
    """
    lists = labelled()
    unit = annotate([one.words for one in lists], vectors, vocabulary)
    place = [unit.words["label"].index(label) for label in LABELS]
    wanted_CL = np.array([[label in one.labels for label in LABELS] for one in lists])
    if "label_CL" in unit.arrays:
        given_NL, wanted_NL, unread, cannot_tell = unit.arrays["label_CL"].numpy()[:, place], wanted_CL, 0, 0
    else:
        read_SC = unit.arrays["answered_SC"].numpy()
        given_NL = unit.arrays["label_SCL"].numpy()[read_SC][:, place]
        wanted_NL = np.broadcast_to(wanted_CL, (*read_SC.shape, len(LABELS)))[read_SC]
        cannot_tell = int(unit.arrays["cannot_tell_SC"].sum()) if "cannot_tell_SC" in unit.arrays else 0
        unread = int((~read_SC).sum()) - cannot_tell
    exact = float((given_NL == wanted_NL).all(1).mean()) if len(given_NL) else 0.0
    return Agreement(by_label(given_NL, wanted_NL), exact, len(given_NL), unread, cannot_tell)


def by_label(given_NL: NDArray[np.bool_], wanted_NL: NDArray[np.bool_], names: Sequence[str] = LABELS) -> pd.DataFrame:
    """A table with one row for each label: how far an annotator and the reader's labels agree on it.

    given_NL: bool, whether the annotator gave list N the label L. wanted_NL: bool, whether the reader did. names: the L
    labels. Columns: label; by reader, given, both: the number of lists that the reader, the annotator, and both gave
    the label; precision: both / given; recall: both / by reader; kappa: cohens_kappa. Where one of these three is not
    defined, the table has pandas' missing value, NaN or None.
    """
    rows = []
    for label, given, wanted in zip(names, given_NL.T, wanted_NL.T, strict=True):
        by_reader, by_annotator, both = int(wanted.sum()), int(given.sum()), int((given & wanted).sum())
        rows.append(
            {
                "label": label,
                "by reader": by_reader,
                "given": by_annotator,
                "both": both,
                "precision": both / by_annotator if by_annotator else None,
                "recall": both / by_reader if by_reader else None,
                "kappa": cohens_kappa(given, wanted),
            }
        )
    return pd.DataFrame(rows)


def cohens_kappa(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float | None:
    """Cohen's kappa of two readings of the same N items, bool [N]: 1 for full agreement, 0 for agreement as by chance.

    None where it is not defined: there is no item, or both readings give all items the same one value.
    """
    if not len(first):
        return None
    observed = float((first == second).mean())
    chance = float(first.mean() * second.mean() + (1 - first.mean()) * (1 - second.mean()))
    return None if chance == 1 else (observed - chance) / (1 - chance)


def lines(found: Agreement) -> str:
    """The agreement as text: the table, and below it the share of lists with all labels equal.

    `unread` and `cannot_tell` follow, each where it is not 0.
    """
    table = found.table.to_string(index=False, float_format="{:.2f}".format, na_rep="-")
    whole = f"lists with all labels equal: {found.exact:.0%} of {found.n}"
    counts = ((found.unread, "answers could not be read"), (found.cannot_tell, "answers named no common concept"))
    left_out = "".join(f"; {count} {what}" for count, what in counts if count)
    return f"{table}\n{whole}{left_out}"
