"""`shiftbench annotate check`: compares an annotator's labels with labels that were given by hand."""

from __future__ import annotations

from shiftbench.config import composition, help_texts, names
from shiftbench.config.overrides import read
from shiftbench.errors import InputError


def main(arguments: list[str]) -> int:
    """`annotate check`: print how far the labels of the configured annotator agree with labels given by hand.

    Returns the exit code: 0, or 2 where no argument was given, in which case only the help is printed. Raises
    InputError for any other verb than check, and where the annotator cannot be used.
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
    print(lines(agreement(annotator.annotate, vectors, instantiate(config.vocabulary))))
    return 0
