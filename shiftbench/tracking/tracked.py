"""One run as MLflow gets it: its few scalars, its tags, and which files of its folder go along."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from shiftbench.contracts.result import Score

METRICS = 59  # MLflow's pages grow slow with the number of columns
PARTS = ("value", "low", "high", "n")
# Tags by which our runs find each other. KIND is PAIR, or SUITE for the run that a sweep's pairs are shown under.
KIND, PAIR, SUITE = "shiftbench.kind", "pair", "suite"
RESULT = "shiftbench.result"  # one value for each time that results were written: what is sent twice is recognised
SWEEP = "shiftbench.sweep"  # the same for a sweep's parent and all its pairs


@dataclass(frozen=True)
class TrackedRun:
    """One run as MLflow gets it.

    artifacts: a folder, logged whole but for hidden files and MLflow's own; only: names at its top, all if empty.
    parent: id of the run that this one is shown under.
    """

    name: str
    params: Mapping[str, str]
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    artifacts: Path
    parent: str | None
    only: Sequence[str] = ()


def metrics_of(scores: Sequence[Score]) -> dict[str, float]:
    """Metrics of a run: '<finding>.<name>.value', '.low', '.high' and '.n', fewer than 60 of them.

    Every score's value comes first, then the intervals, each finding's first scores before another's second; the rest
    stays in scores.json. A number that is not finite is left out.
    """
    seen: Counter[str] = Counter()
    ranked = []
    for score in scores:
        ranked.append((seen[score.finding], score))
        seen[score.finding] += 1
    ordered = [score for _, score in sorted(ranked, key=lambda both: both[0])]
    values = [_parts(score, PARTS[:1]) for score in ordered]
    intervals = [_parts(score, PARTS[1:]) for score in ordered]
    kept: dict[str, float] = {}
    for part in (*values, *intervals):
        if len(kept) + len(part) > METRICS:
            break
        kept.update(part)
    return kept


def files_of(run: TrackedRun, own: set[Path]) -> Iterator[Path]:
    """The run's files, sorted; nothing hidden, and nothing of own: what MLflow keeps where both share a folder.

    A link that leads out of the folder is passed over: results that somebody sent may hold one to a private file.
    """
    root = run.artifacts.resolve()
    for top in sorted(run.artifacts.iterdir()):
        if top.name.startswith(".") or top.absolute() in own or (run.only and top.name not in run.only):
            continue
        for path in [top] if top.is_file() else sorted(top.rglob("*")):
            hidden = any(part.startswith(".") for part in path.relative_to(run.artifacts).parts)
            inside = root in path.resolve().parents
            if path.is_file() and inside and not hidden and not own & {path, *path.parents}:
                yield path


def _parts(score: Score, parts: Sequence[str]) -> dict[str, float]:
    found = {f"{score.finding}.{score.name}.{part}": getattr(score, part) for part in parts}
    return {name: float(value) for name, value in found.items() if value is not None and math.isfinite(value)}
