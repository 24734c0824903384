"""The program shows no warning and no log message of a library, and its own messages as before."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SCRIPT = """
import logging, subprocess, sys, warnings
from shiftbench.system import messages
messages.keep_libraries_quiet()
warnings.simplefilter("always")  # as a library does when it is imported
warnings.warn("of python", RuntimeWarning)
logging.getLogger("alembic.runtime").warning("of a library")
logging.getLogger("alembic.runtime").error("error of a library")
logging.getLogger("shiftbench.tracking").warning("of ours")
sys.stderr.flush()
subprocess.run([sys.executable, "-c", "import warnings; warnings.warn('of a worker')"])
"""


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ({}, ["error of a library", "of ours"]),
        ({"PYTHONWARNINGS": "default"}, ["of python", "error of a library", "of ours", "of a worker"]),
    ],
)
def test_only_our_messages_are_shown(asked: dict[str, str], shown: list[str]) -> None:
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONWARNINGS"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env={**inherited, **asked}, capture_output=True, text=True, check=True
    )
    said = ("error of a library", "of a library", "of python", "of ours", "of a worker")
    lines = done.stderr.splitlines()
    assert [next(text for text in said if text in line) for line in lines if "warnings.warn" not in line] == shown
