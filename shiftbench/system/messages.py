"""Keeps off the terminal: Python warnings that nobody asked for, and libraries' log messages below the level ERROR.

Messages of a library that has a log handler of its own are left as they are.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings


def keep_libraries_quiet() -> None:
    """Show no Python warning, and no log message below the level ERROR but shiftbench's. Only for the command line.

    Where the user asks for warnings (python -W, PYTHONWARNINGS), they are shown. Otherwise processes that this one
    starts, such as a sweep's workers, get PYTHONWARNINGS=ignore. Log messages of a library that has set up a handler of
    its own are not held back.
    """
    if not sys.warnoptions:
        os.environ.setdefault("PYTHONWARNINGS", "ignore")
        # A filter would not do, because libraries put filters of their own in front of it when they are imported.
        warnings.showwarning = lambda *_, **__: None
    if logging.lastResort is not None:  # the handler of loggers that have none, as of libraries and of shiftbench
        logging.lastResort.addFilter(
            lambda record: record.levelno >= logging.ERROR or record.name.startswith("shiftbench.")
        )
