"""`shiftbench store list|verify|prune`: lists, checks or removes stored explanations."""

from __future__ import annotations

from shiftbench.config import composition, help_texts, names, overrides
from shiftbench.errors import InputError

PRUNE_OPTIONS = ("older_than_days", "method", "weights", "dry_run")
# For each verb, the options that have no effect.
WITHOUT_EFFECT = {"list": (*PRUNE_OPTIONS, "repair"), "verify": PRUNE_OPTIONS, "prune": ("repair",)}


def main(arguments: list[str]) -> int:
    """List, verify or prune the stored explanations, whichever the first argument names.

    Returns the exit code: 1 where `verify` found damaged entries and did not remove them, else 0. Without arguments the
    help is printed and the code is 2. Raises InputError for bad input.
    """
    from shiftbench.store import store as stored

    verbs = {"list": stored.print_entries, "verify": stored.verify_and_print, "prune": stored.prune_and_print}
    if not arguments or {"-h", "--help"} & set(arguments):
        print(help_texts.options_help("shiftbench store list|verify|prune [option=value ...]", "store"))
        return 0 if arguments else 2
    verb, rest = arguments[0], arguments[1:]
    if verb not in verbs:
        raise InputError(f"no command 'store {verb}'; {names.nearest(verb, verbs)}")
    words = overrides.read(rest, "store")
    overrides.refuse_without_effect(words, WITHOUT_EFFECT[verb], f"for store {verb}")
    config = composition.compose("store", words)
    damaged = verbs[verb](config)
    return 1 if damaged else 0
