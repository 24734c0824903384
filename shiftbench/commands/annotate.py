"""`shiftbench annotate check`: compares an annotator's labels with the labels of a reader."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from shiftbench.config import composition, help_texts, names
from shiftbench.config.overrides import read
from shiftbench.errors import InputError

if TYPE_CHECKING:  # these take long to load, and the help does not need them
    from shiftbench.contracts.annotator import Annotator, RandomLists
    from shiftbench.models import ModelSource
    from shiftbench.words import StaticVectors, Vocabulary


def main(arguments: list[str]) -> int:
    """`annotate check`: print how far the labels of the configured annotator agree with a reader's labels.

    Returns the exit code: 0, or 2 where no argument was given, in which case only the help is printed. Raises
    InputError for any other verb than check, for bad options, and where the annotator cannot be used.
    """
    if not arguments or {"-h", "--help"} & set(arguments):
        print(help_texts.options_help("shiftbench annotate check [option=value ...]", "annotate_check"))
        return 0 if arguments else 2
    verb, overrides = arguments[0], arguments[1:]
    if verb != "check":
        raise InputError(f"no command 'annotate {verb}'; {names.nearest(verb, ['check'])}")
    config = composition.compose("annotate_check", read(overrides, "annotate_check"))
    from shiftbench.annotate.agreement import agreement, lines
    from shiftbench.config.instantiation import instantiate

    annotator, vectors = instantiate(config.annotate), instantiate(config.vectors)
    annotator.check(vectors)
    if vectors is None and annotator.seed_words:
        raise InputError(
            "annotate check: this annotator needs word vectors, and vectors=auto found none; pip install "
            "'shiftbench[glove]' or give vectors=text vectors.path=FILE"
        )
    vocabulary = instantiate(config.vocabulary)
    # A chat model does not compare concepts with random lists, so no model is loaded for it.
    chance = random_lists(instantiate(config.model)(), annotator, vectors, vocabulary) if annotator.seed_words else None
    print(lines(agreement(partial(annotator.annotate, chance=chance), vectors, vocabulary)))
    return 0


def random_lists(
    source: ModelSource, annotator: Annotator, vectors: StaticVectors | None, vocabulary: Vocabulary
) -> RandomLists:
    """A function that gives, for random directions, the words that they are read as in a model's word embeddings.

    For each direction it gives as many words as a labelled list has. source: of the model, which is loaded here.
    annotator, vectors, vocabulary: those of the labels that are compared.
    """
    from shiftbench import models
    from shiftbench.annotate.agreement import labelled
    from shiftbench.contracts.explainer import Inputs
    from shiftbench.explain.reading import RandomConcepts, Reading

    reading = Reading(models.load(source), Inputs((), vocabulary, vectors), annotator.seed_words)
    return RandomConcepts(reading, len(labelled()[0].words))
