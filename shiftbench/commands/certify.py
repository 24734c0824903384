"""`shiftbench certify`: measures how often verdicts are false, and how often a planted shift is found."""

from __future__ import annotations

from pathlib import Path

from shiftbench.config import composition, folders, help_texts, overrides
from shiftbench.readers import path_of

USAGE = """\
shiftbench certify [pair=NAME] [pairs=N] [shifts=N] [prompts=N] [option=value ...]"""
# Options of `shiftbench score` that have no effect here.
WITHOUT_EFFECT = ("tracking", "response.beside", "gpus", "verbose", "json", "hydra")


def main(arguments: list[str]) -> int:
    """Score all pairs of a certification, write the outcome to `out`, and print its tables in Markdown.

    With dry_run=true nothing is scored, and the pairs are listed. Returns the exit code 0. Raises InputError for bad
    input.
    """
    if {"-h", "--help"} & set(arguments):
        print(help_texts.options_help(USAGE, "certify"))
        return 0
    words = overrides.read(arguments, "certify")
    overrides.refuse_without_effect(words, WITHOUT_EFFECT, "for a certification")
    config = composition.compose("certify", words)
    from shiftbench.certify.running import RESULTS, TABLE, certify, dry_run
    from shiftbench.certify.tally import markdown

    if config.dry_run:
        print(dry_run(config))
        return 0
    folder = path_of(str(config.out or Path(folders.RUNS) / "certify"), "out").absolute()
    print(markdown(certify(config, folder)))
    print(f"written: {folder / RESULTS}, {folder / TABLE}", flush=True)
    return 0
