"""The program `shiftbench`: runs the command that its arguments name (shiftbench/commands)."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from shiftbench import commands
from shiftbench.system import heap, messages, signals


def main() -> int:
    """Run the command that the arguments name, and return its exit code.

    The codes are 0 (done), 1 (failed, or a check was not passed) and 2 (bad input). After an interruption it does not
    return: it ends all child processes, and then this process with 130 (Ctrl-C), 143 (SIGTERM) or 129 (SIGHUP).
    """
    heap.use_one_arena()
    messages.keep_libraries_quiet()
    signals.handle()
    code = commands.main(sys.argv[1:])
    if code in INTERRUPTED:
        signals.end_children()
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)  # sys.exit would wait for threads that wait for a server or for a child process
    return code


INTERRUPTED = (129, 130, 143)

if __name__ == "__main__":
    sys.exit(main())
