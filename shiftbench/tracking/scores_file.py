"""The one field of scores.json that tracking writes: `mlflow_run`, the id of the MLflow run of the results.

The id is known only once MLflow has created the run, which may be long after the results were written. It is written
into the file of the results before the files are sent, so that MLflow's copy is the same file. What holds a digest of
results (the spool, the ledger of a sweep) leaves the field out of it.
"""

from __future__ import annotations

import re
from pathlib import Path

from shiftbench.readers import file_bytes
from shiftbench.system import locks
from shiftbench.system.files import replace_whole

SCORES_FILE = "scores.json"
# The names of the temporary files and folders of `results.results_folder.writing` begin with PART. While `writing`
# runs, it holds the lock file PART + "lock".
PART = ".part-"
MAX_BYTES = 256 * 2**20
# scores.json is written with an indent of two spaces, and JSON has no line break inside of a text. So a line that
# begins in this way is the field itself.
FIELD = re.compile(rb'^(  "mlflow_run": )(?:null|"[^"\n]*")', re.MULTILINE)


def without_run_id(content: bytes) -> bytes:
    """The content of a scores.json, with `mlflow_run` set to null. Content without this field is returned as it is."""
    return FIELD.sub(rb"\1null", content)


def write_run_id(folder: Path, run_id: str) -> None:
    """Write the id of an MLflow run into the scores.json of a folder, in one step.

    A scores.json without the field `mlflow_run`, as of an earlier version, stays as it is, and so does a folder without
    the file. Waits while another process writes results into the folder. Raises OSError where the file cannot be read
    or written, and InputError where it has more than MAX_BYTES bytes.
    """
    with locks.held(folder / f"{PART}lock", wait=True, remove=True):
        path = folder / SCORES_FILE
        if not path.is_file():
            return
        before = file_bytes(path, SCORES_FILE, MAX_BYTES)
        after = FIELD.sub(rb'\1"' + run_id.encode() + rb'"', before, count=1)
        if after != before:
            replace_whole(path, after)
