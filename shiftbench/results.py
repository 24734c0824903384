"""What a run leaves in its folder: scores.json, tables, the resolved configuration and the report."""

from __future__ import annotations

import errno
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import shiftbench
from shiftbench.errors import InputError
from shiftbench.explain.response import GreedyResponse
from shiftbench.findings.result import Result, Score
from shiftbench.report import RunSummary, write_report, write_tables
from shiftbench.scores import document

WRITTEN = ("scores.json", "report.html", "config.yaml", "tables", "figures")  # all that `write` puts into the folder
PROBE_BYTES = 16 * 2**20  # a run's results are a few MB; below this a disk counts as full


def check_folder(folder: Path) -> None:
    """Raise InputError where results could not be written: not a folder, no permission, or no room."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".probe-") as probe:
            os.posix_fallocate(probe.fileno(), 0, PROBE_BYTES)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            free = shutil.disk_usage(folder).free / 2**20
            raise InputError(
                f"output folder {folder}: the disk is full ({free:.0f} MiB left, {PROBE_BYTES >> 20} wanted)"
            ) from None
        raise InputError(
            f"output folder {folder} cannot be written: {error.strerror}; choose another with out=DIR"
        ) from None


def versions(findings: Mapping[str, Any]) -> dict[str, str | int]:
    """Versions of everything that a score depends on: packages, findings and the methods under them."""
    found: dict[str, str | int] = {
        "shiftbench": shiftbench.__version__,
        "python": platform.python_version(),
        "torch": version("torch"),
        "transformers": version("transformers"),
    }
    for finding in findings.values():
        found[f"finding.{finding.name}"] = finding.version
        used = [finding.explain, getattr(finding.explain, "annotator", None)]
        used += [getattr(finding, name, None) for name in ("explain_pair", "ratings")]
        found.update({f"explain.{method.method}": method.version for method in used if method is not None})
    found[f"explain.{GreedyResponse.method}"] = GreedyResponse.version
    return found


def write(summary: RunSummary, folder: Path) -> Path:
    """Write everything into folder; each file appears whole or not at all. Returns the path of report.html."""
    folder.mkdir(parents=True, exist_ok=True)
    content = document(summary.pair, summary.versions, summary.results, summary.notes)
    part = Path(tempfile.mkdtemp(dir=folder, prefix=".part-"))
    try:
        (part / "scores.json").write_text(
            json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
        )
        (part / "config.yaml").write_text(summary.config, encoding="utf-8")
        write_tables(summary.results, part)
        write_report(summary, part)
        written = sorted(item.relative_to(part) for item in part.rglob("*") if item.is_file())
        for name in written:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(part / name, folder / name)
        for subfolder in ("tables", "figures"):  # an earlier run with other options may have left some of its own
            for item in (folder / subfolder).glob("*"):
                if item.relative_to(folder) not in written:
                    item.unlink()
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder / "report.html"


def all_scores(results: Sequence[Result]) -> list[Score]:
    """Every score of every finding, in order."""
    return [score for result in results for score in result.scores]
