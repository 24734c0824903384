"""`shiftbench store list|verify|prune`: the explanations kept on disk."""

from __future__ import annotations

from shiftbench import configuration
from shiftbench.errors import InputError


def main(arguments: list[str]) -> int:
    """Run the verb that the first argument names."""
    from shiftbench import store as stored

    verbs = {"list": stored.list_lines, "verify": stored.verify_lines, "prune": stored.prune_lines}
    if not arguments or {"-h", "--help"} & set(arguments):
        print(configuration.options_help("shiftbench store list|verify|prune [option=value ...]", "store"))
        return 0 if arguments else 2
    verb, overrides = arguments[0], arguments[1:]
    if verb not in verbs:
        raise InputError(f"no command 'store {verb}'; {configuration.nearest(verb, verbs)}")
    config = configuration.compose("store", overrides)
    damaged = verbs[verb](config)
    return 1 if damaged else 0
