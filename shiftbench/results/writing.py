"""Writes a run's results to a folder: scores.json, tables, figures, the resolved configuration and the report."""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shiftbench.errors import InputError, Unwritable
from shiftbench.report import RunSummary, write_report, write_tables
from shiftbench.results import results_folder
from shiftbench.results.document import document
from shiftbench.system.files import write_failure

WRITTEN = ("scores.json", "report.html", "config.yaml", "tables", "figures")  # everything that `write` writes
log = logging.getLogger(__name__)
PROBE_BYTES = 16 * 2**20  # a disk with less free space counts as full; a run's results take a few MB


def check_folder(folder: Path) -> None:
    """Raise InputError where results could not be written: not a folder, no permission, or a full disk.

    The folder is created where it is missing, and temporary files that killed processes left in it are removed.
    """
    try:
        with results_folder.writing(folder), tempfile.TemporaryFile(dir=folder) as probe:
            os.posix_fallocate(probe.fileno(), 0, PROBE_BYTES)
    except OSError as error:
        raise InputError(
            f"output folder {folder} cannot be written: {write_failure(error, folder, PROBE_BYTES)}; choose another "
            "with out=DIR"
        ) from None


def write(summary: RunSummary, folder: Path) -> Path:
    """Write all results to the folder; each file appears whole or not at all. Returns the path of report.html.

    Earlier results in the folder are replaced where they are of the same settings. Where they are of other settings,
    they are moved to a folder under `earlier` inside the folder, and a warning is logged. Raises Unwritable where the
    folder cannot be written, for example on a full disk, and what `document` and `write_report` raise.
    """
    content = document(summary)
    with full_disk(folder), results_folder.writing(folder) as part:
        (part / "scores.json").write_text(
            json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
        )
        (part / "config.yaml").write_text(summary.config, encoding="utf-8")
        write_tables(summary.results, part)
        write_report(summary, part)
        same = results_folder.same_settings(folder, content["pair"], content["versions"], summary.config)
        moved = results_folder.put(part, folder, WRITTEN, same)
    if moved is not None:
        log.warning("%s held results under other settings; they were moved to %s", folder, moved)
    return folder / "report.html"


@contextmanager
def full_disk(folder: Path) -> Iterator[None]:
    """A context that turns any OSError of its block into an Unwritable, whose message says what to do.

    folder: the folder of results that the block writes to; the message names it.
    """
    try:
        yield
    except OSError as error:
        raise Unwritable(
            error.errno,
            f"output folder {folder} cannot be written any more: {write_failure(error, folder, PROBE_BYTES)}; what was "
            "explained is in the store: make room or give out=DIR, and the same command goes on from there",
        ) from None
