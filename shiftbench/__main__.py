"""The command line: `shiftbench score ...` and `shiftbench store ...`, every option a Hydra override."""

from __future__ import annotations

import sys

from shiftbench import commands, heap


def main() -> int:
    """Run the command that the arguments name. Exit codes: 0 done, 1 failed, 2 bad input, 130 interrupted."""
    heap.use_one()
    return commands.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
