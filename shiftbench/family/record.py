"""What a chain or a comparison of mixtures leaves: the files of a run, and a run of its own kind in MLflow."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from shiftbench import results
from shiftbench.family.matrix import Matrix
from shiftbench.findings.result import Result
from shiftbench.job import Scored, show, summarise, tracked
from shiftbench.run import Job
from shiftbench.tracking import KIND, Tracking, leave, send


def record(
    kind: str, config: DictConfig, job: Job, matrix: Matrix, made: Sequence[Result], folder: Path, tracking: Tracking
) -> None:
    """Write scores.json, tables, figures and the report into folder, send them, and print what they say.

    kind: how MLflow tells such runs from pairs'; no leaderboard shows them. job: as planned of the last tuned model.
    """
    outcome = dataclasses.replace(matrix.last, results=list(made), notes=list(dict.fromkeys(matrix.notes)))
    summary = summarise(config, dataclasses.replace(job, pair=dataclasses.replace(job.pair, name=kind)), outcome, kind)
    summary = dataclasses.replace(summary, pair={
        **summary.pair, "dataset": ", ".join(matrix.groups), "tuned": ", ".join(matrix.models),
    })  # fmt: skip
    report = results.write(summary, folder)
    run = tracked(job, summary, outcome, folder)
    leave(folder, dataclasses.replace(run, name=kind, tags={**run.tags, KIND: kind, "pair": kind}))
    send(tracking, folder, parent=None)
    show(Scored(outcome, summary, report))
    print(f"report: {report}")
    print(f"results: {folder}", flush=True)
