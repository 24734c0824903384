"""One run as it is sent to MLflow: its metrics, parameters and tags, and which files of its folder are sent."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from shiftbench.contracts.result import Score

MAX_METRICS = 59  # MLflow's table of runs becomes slow with many columns
PARTS = ("value", "low", "high", "n")
# Names of tags. The value of KIND is PAIR, or SUITE for the parent run that a sweep's pairs are shown under.
KIND, PAIR, SUITE = "shiftbench.kind", "pair", "suite"
RESULT = "shiftbench.result"  # a new value each time results are written, so that sending twice is noticed
SWEEP = "shiftbench.sweep"  # the same value for the parent run of a sweep and for all its pairs


@dataclass(frozen=True)
class TrackedRun:
    """One run as it is sent to MLflow.

    artifacts: the folder whose files are sent, except hidden files and files that MLflow itself keeps there. parent:
    the id of the MLflow run that this run is shown under; None for no such run. only: the names of the files and
    folders at the top of `artifacts` that are sent; empty where all are sent.
    """

    name: str
    params: Mapping[str, str]
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    artifacts: Path
    parent: str | None
    only: Sequence[str] = ()


def select_metrics(scores: Sequence[Score]) -> dict[str, float]:
    """The metrics of a run: '<finding>.<name>.value', '.low', '.high' and '.n' of its scores, at most MAX_METRICS.

    The metrics have an order, and those at its end are left out where there are too many; they are then only in
    scores.json. All values come before the first interval (low, high and n). Among values and among intervals, the
    first score of every finding comes before the second score of any finding. A number that is None or not finite is
    left out.
    """
    seen: Counter[str] = Counter()
    ranked = []
    for score in scores:
        ranked.append((seen[score.finding], score))
        seen[score.finding] += 1
    ordered = [score for _, score in sorted(ranked, key=lambda rank_and_score: rank_and_score[0])]
    values = [_finite_parts(score, PARTS[:1]) for score in ordered]
    intervals = [_finite_parts(score, PARTS[1:]) for score in ordered]
    kept: dict[str, float] = {}
    for part in (*values, *intervals):
        if len(kept) + len(part) > MAX_METRICS:
            break
        kept.update(part)
    return kept


def files_to_send(run: TrackedRun, mlflow_paths: set[Path]) -> Iterator[Path]:
    """The paths of the files of `run.artifacts` that are sent, sorted within each entry at its top.

    Left out are hidden files and the content of hidden folders, what is in `mlflow_paths` (files and folders that
    MLflow itself keeps and that may lie in the same folder), and names at the top that `run.only` does not list. A link
    that leads out of the folder is left out too, because results from somebody else may hold a link to a private file
    of this machine's user.
    """
    root = run.artifacts.resolve()
    for top in sorted(run.artifacts.iterdir()):
        if top.name.startswith(".") or top.absolute() in mlflow_paths or (run.only and top.name not in run.only):
            continue
        for path in [top] if top.is_file() else sorted(top.rglob("*")):
            hidden = any(part.startswith(".") for part in path.relative_to(run.artifacts).parts)
            inside = root in path.resolve().parents
            if path.is_file() and inside and not hidden and not mlflow_paths & {path, *path.parents}:
                yield path


def _finite_parts(score: Score, parts: Sequence[str]) -> dict[str, float]:
    found = {f"{score.finding}.{score.name}.{part}": getattr(score, part) for part in parts}
    return {name: float(value) for name, value in found.items() if value is not None and math.isfinite(value)}
