"""What may be written to the terminal beside the program's own output: nothing of the libraries below it."""

from __future__ import annotations

import logging
import os
import sys
import warnings


def keep_libraries_quiet() -> None:
    """Show no Python warning, and no log message of a library below the level ERROR. Only for the command line.

    Warnings are about the code of libraries, or about data that a finding's notes speak of. Where the user asks for
    them (python -W, PYTHONWARNINGS), they are shown. Processes that this one starts, such as a sweep's workers, show
    none either. Messages of shiftbench's own loggers are shown.
    """
    if not sys.warnoptions:
        os.environ.setdefault("PYTHONWARNINGS", "ignore")
        # A filter would not do, because libraries put filters of their own in front of it when they are imported.
        warnings.showwarning = lambda *_, **__: None
    if logging.lastResort is not None:  # the handler of loggers that have none, as of libraries and of shiftbench
        logging.lastResort.addFilter(
            lambda record: record.levelno >= logging.ERROR or record.name.startswith("shiftbench.")
        )
