"""`shiftbench published path=DIR`: computes the paper's tables from its published explanations."""

from __future__ import annotations

from shiftbench.config import composition, help_texts
from shiftbench.config.overrides import read
from shiftbench.readers import path_of


def main(arguments: list[str]) -> int:
    """Recompute the paper's two tables from its published explanations, and write them and a report; print the results.

    Returns the exit code 0; raises InputError where the folder `path` cannot be used or `out` cannot be written.
    """
    if {"-h", "--help"} & set(arguments):
        print(help_texts.options_help("shiftbench published path=DIR [out=DIR]", "published"))
        return 0
    config = composition.compose("published", read(arguments, "published"))
    from shiftbench.published.reproduction import reproduce

    reproduction = reproduce(path_of(str(config.path), "path"), path_of(str(config.out), "out"))
    for result in reproduction.summary.results:
        print(result.sentence)
    for note in reproduction.summary.notes:
        print(f"note: {note}")
    print(f"tables: {reproduction.tables}")
    print(f"report: {reproduction.report}")
    return 0
