"""One run as it is sent to MLflow: its metrics, parameters and tags, and which files of its folder are sent."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from shiftbench.contracts.result import Score

MAX_METRICS = 59  # of a run; MLflow's table of runs becomes slow with many columns
PARTS = ("value", "low", "high", "n")
# MLflow's page lists metrics by name. An underscore comes before lower-case letters, both in the order of character
# codes and in that of languages, so the headlines of the verdicts stand before the scores of every finding.
FIRST = "_headline"
# KIND is the name of a tag. Its value is PAIR for a run of one pair, SUITE for the parent run that a sweep's pairs are
# shown under, and another word for other runs, for example "chain". PAIR is also the name of a tag, whose value is the
# pair's name.
KIND, PAIR, SUITE = "shiftbench.kind", "pair", "suite"
RESULT = "shiftbench.result"  # a new value each time results are written, so that sending twice is noticed
DESCRIPTION = "mlflow.note.content"  # MLflow shows the value of this tag, Markdown, at the top of a run's page
SWEEP = "shiftbench.sweep"  # the same value for the parent run of a suite in a sweep and for the runs shown under it


@dataclass(frozen=True)
class TrackedRun:
    """One run as it is sent to MLflow.

    artifacts: the folder whose files are sent, but for those that `files_to_send` leaves out. parent:
    the id of the MLflow run that this run is shown under; None for no such run. only: the names of the files and
    folders at the top of `artifacts` that are sent; empty where all are sent. started_ms: when the work began, in
    milliseconds since 1970; None where that is not known. In the tag DESCRIPTION, a Markdown link to a file by its
    name, such as [the report](report.html), becomes a link to the file on MLflow's page when the run is sent.
    """

    name: str
    params: Mapping[str, str]
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    artifacts: Path
    parent: str | None
    only: Sequence[str] = ()
    started_ms: int | None = None


@dataclass(frozen=True)
class Headline:
    """The score that a verdict rests on, and the p that decides the verdict.

    name: of the verdict in scores.json. value, low, high: of the score. p: of the deciding test, corrected for the
    claims of the run; None where nothing was tested.
    """

    name: str
    value: float
    low: float
    high: float
    p: float | None


def select_metrics(scores: Sequence[Score], headlines: Sequence[Headline] = ()) -> dict[str, float]:
    """The metrics of a run: those of its verdicts' headlines, then those of its scores, at most MAX_METRICS.

    A headline has the metrics '_headline.<name>', which is its value, and '_headline.<name>.low', '.high' and '.p'. A
    score has '<finding>.<name>.value', '.low', '.high' and '.n'. The metrics have an order, and those at its end are
    left out where there are too many; they are then only in scores.json. Headlines come first. All values of scores
    come before the first interval (low, high and n). Among values and among intervals, the first score of every finding
    comes before the second score of any finding. The metrics of a headline, and those of an interval, are kept or left
    out together. A number that is None or not finite is left out.
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
    for part in (*map(_headline_metrics, headlines), *values, *intervals):
        if len(kept) + len(part) > MAX_METRICS:
            break
        kept.update(part)
    return kept


def files_to_send(run: TrackedRun, mlflow_paths: set[Path]) -> Iterator[Path]:
    """The paths of the files of `run.artifacts` that are sent, sorted by the entry at its top and then by path.

    Left out are hidden files and the content of hidden folders, what is in `mlflow_paths` (files and folders that
    MLflow itself keeps and that may lie in the same folder), and, where `run.only` lists names, every other name at the
    top. A link that leads out of the folder is left out too, because results from somebody else may hold a link to a
    private file of this machine's user.
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
    return _finite({f"{score.finding}.{score.name}.{part}": getattr(score, part) for part in parts})


def _headline_metrics(headline: Headline) -> dict[str, float]:
    name = f"{FIRST}.{headline.name}"
    parts = {"low": headline.low, "high": headline.high, "p": headline.p}
    return _finite({name: headline.value, **{f"{name}.{part}": value for part, value in parts.items()}})


def _finite(found: Mapping[str, float | None]) -> dict[str, float]:
    return {name: float(value) for name, value in found.items() if value is not None and math.isfinite(value)}
