"""A finished job as the run that MLflow gets: its answer first, then its scores, its options and its files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from shiftbench.contracts.result import all_scores
from shiftbench.report import RunSummary, answer_markdown
from shiftbench.report.page import flatten
from shiftbench.results.writing import WRITTEN
from shiftbench.tracking import DESCRIPTION, KIND, PAIR, SWEEP, Headline, TrackedRun, select_metrics
from shiftbench.verdicts import Verdict
from shiftbench.verdicts.decision import by_claim


def tracked_run(summary: RunSummary, started: datetime | None, folder: Path, sweep: str | None = None) -> TrackedRun:
    """The run as it is sent to MLflow.

    Its metrics begin with the headlines of the verdicts. Its parameters are all options of the configuration, as they
    are typed on the command line. Its tags are for searching, and one of them is its description, which gives the
    answer in Markdown. Its files are those in `folder` that results/writing.py writes (WRITTEN).
    started: when the work began; None where that is not known. sweep: the value of the tag shiftbench.sweep, which the
    tracked runs of one sweep share; None for a run of no sweep.
    """
    pair, verdicts = summary.pair, by_claim(summary.verdicts)
    tags: dict[str, Any] = {
        KIND: PAIR,
        **({SWEEP: sweep} if sweep else {}),
        **{f"verdict.{name}": verdict.word.value for name, verdict in verdicts.items()},
        **{name: pair[name] for name in ("base", "tuned", "family", "size")},
        "pair": pair["name"],
        **{name: pair[name] for name in ("suite", "prompt_set", "settings", "control", "vocabulary", "vectors")},
        **({"flags": pair["flags"]} if "flags" in pair else {}),
        **{f"version.{name}": version for name, version in summary.versions.items()},
        DESCRIPTION: answer_markdown(summary),
    }
    headlines = [_headline(name, verdict) for name, verdict in verdicts.items()]
    return TrackedRun(
        name=str(pair["name"]),
        params=options(summary.config),
        tags={name: str(value) for name, value in tags.items()},
        metrics=select_metrics(all_scores(summary.results), headlines),
        artifacts=folder,
        parent=None,
        only=WRITTEN,
        started_ms=None if started is None else int(started.timestamp() * 1000),
    )


def options(config: str) -> dict[str, str]:
    """Every option of a resolved configuration by its name on the command line, such as pair.base_model.dtype.

    config: YAML without secrets. A value is written as on the command line: null, true, 0.5, [a, b].
    """
    return {name: _typed(value) for name, value in flatten(yaml.safe_load(config))}


def _typed(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_typed, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {_typed(item)}' for key, item in value.items())}}}"
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _headline(name: str, verdict: Verdict) -> Headline:
    score = verdict.headline
    return Headline(name, score.value, score.low, score.high, verdict.evidence.p)
