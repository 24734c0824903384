"""`shiftbench gate`: scores a pair, or takes its results, and passes or fails it (shiftbench/gate)."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from shiftbench.commands import score
from shiftbench.config import composition, folders, help_texts, overrides
from shiftbench.errors import InputError
from shiftbench.readers import path_of

if TYPE_CHECKING:
    from shiftbench.gate import Gate, Scores

USAGE = """\
shiftbench gate pair=NAME against=WHAT [gate=NAME] [option=value ...]    score the pair, then judge it
shiftbench gate results=DIR against=WHAT [gate=NAME] [option=value ...]  judge results of shiftbench score

Exits with 0 where every rule holds, 1 where one does not, 2 where the two cannot be compared.
Rules are conf/gate/NAME.yaml's; +gate.rules.recognition.at_least=0.1 adds to one, ~gate.rules.verbs takes one out."""
# The options of the gate itself, which `shiftbench score` does not have.
OWN = ("against", "results", "summary", "junit", "gate")
WITH_RESULTS = (*OWN, "tracking", "pair")  # the options that have an effect with results=DIR


def main(arguments: list[str]) -> int:
    """Score the pair, or read its results, judge them by the gate's rules, and return the exit code.

    The code is 0 where every rule holds and 1 where one does not. Where `shiftbench score` ended with another code than
    0, the code is that one; after a dry run, which judges nothing, it is 0. Without arguments the help is printed and
    the code is 2. Raises InputError for bad input, and where the two runs cannot be compared.
    """
    if not arguments or {"-h", "--help"} & set(arguments):
        print(help_texts.options_help(USAGE, "gate"))
        return 0 if arguments else 2
    began = time.monotonic()
    arguments = overrides.read(arguments, "gate")
    config = composed(arguments)
    from shiftbench.config.instantiation import instantiate
    from shiftbench.gate import read
    from shiftbench.system.files import check_writable

    gate, tracking = instantiate(config.gate), instantiate(config.tracking)
    for option in ("summary", "junit"):
        if config[option]:
            check_writable(place(config[option], option), option)
    reference = read(str(config.against), "against", tracking)
    gate.check_reference(reference.scores, reference.origin)
    if config.results:
        current = read(str(config.results), "results", None)
    else:
        compare_before(config, gate, reference)
        code = score.main(to_score(arguments, config))
        if code or config.dry_run:
            return code
        current = read(str(folders.pair_folder(config)), "out", None)
    return verdict(config, gate, current, reference, began)


def composed(arguments: Sequence[str]) -> DictConfig:
    """The configuration of the gate, conf/gate.yaml, with the arguments applied.

    With results=DIR the configuration needs no pair, and options of `shiftbench score` are refused by an InputError,
    because nothing is scored.
    """
    keys = [key_of(word) for word in arguments]
    if "results" not in keys:
        return composition.compose("gate", arguments)
    for key, word in zip(keys, arguments, strict=True):
        if key not in WITH_RESULTS:
            raise InputError(f"{word} has no effect with results=DIR, which scores nothing; leave one of the two out")
    return composition.compose("gate", arguments if "pair" in keys else [*arguments, "~pair"])


def compare_before(config: DictConfig, gate: Gate, reference: Scores) -> None:
    """Raise InputError, before a model is loaded, where the pair's scores could not be judged.

    That is where a rule names a finding that this run does not score, and where the run differs from the reference in
    what `check_comparable` compares: prompts, settings, versions of findings and of methods.
    """
    from shiftbench.gate import check_comparable
    from shiftbench.pipeline.job import build
    from shiftbench.pipeline.recording import conditions
    from shiftbench.pipeline.recording import versions as versions_of

    planned = build(config)
    scored = {finding.name for finding in planned.findings.values()}
    for rule in gate.rules:
        if rule.finding not in scored:
            raise InputError(
                f"gate.rules.{rule.name} names the finding {rule.finding!r}, which this run does not score (it scores "
                f"{', '.join(sorted(scored))}); choose another suite, or take the rule out with ~gate.rules.{rule.name}"
            )
    versions = {name: str(version) for name, version in versions_of(planned.findings).items()}
    check_comparable(conditions(config, planned), versions, reference)


def to_score(arguments: Sequence[str], config: DictConfig) -> list[str]:
    """The arguments for `shiftbench score`: those that are not the gate's own, and the folder for the results."""
    words = [word for word in arguments if key_of(word) not in OWN]
    folder = overrides.literal(str(folders.pair_folder(config)))
    return [*(word for word in words if key_of(word) != "out"), f"out={folder}"]


def key_of(word: str) -> str:
    """The first part of the key that an override is about: 'gate' of '~gate.rules.verbs'."""
    return re.split(r"[=.@]", word.lstrip("+~"), maxsplit=1)[0]


def verdict(config: DictConfig, gate: Gate, current: Scores, reference: Scores, began: float) -> int:
    """Judge the scores, print the verdict and write it to the files that `summary` and `junit` name.

    current, reference: the scores to judge, and those of the earlier run. began: `time.monotonic()` when the command
    began. Returns 0 where every rule holds, else 1. Raises InputError where a score is missing, where the results are
    of another pair than the one named, and where the two runs cannot be compared.
    """
    from shiftbench.gate import check_comparable, junit, markdown
    from shiftbench.gate.summary import Judgement
    from shiftbench.system.files import write_whole

    gate.check(current.scores, current.origin)
    named = config.get("pair")
    if config.results and named is not None and named.name != current.pair.get("name"):
        raise InputError(f"{current.origin} are of the pair {current.pair.get('name')!r}, not of {named.name!r}")
    notes = check_comparable(current.pair, current.versions, reference)
    judged = Judgement(gate.name, current, reference, gate.judge(current.scores, reference.scores), notes)
    text = markdown(judged)
    if config.summary:
        write_whole(place(config.summary, "summary"), text, "summary")
    if config.junit:
        write_whole(place(config.junit, "junit"), junit(judged, time.monotonic() - began), "junit")
    print(text, end="", flush=True)
    return 0 if judged.passed else 1


def place(path: Any, option: str) -> Path:
    """The absolute path of a file that the user named by an option. option: the option's name, for messages."""
    return path_of(str(path), option).absolute()
