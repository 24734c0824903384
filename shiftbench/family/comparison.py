"""A whole run of `shiftbench chain` or `shiftbench mixture`: checked, scored, written to disk and sent to MLflow."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone

from omegaconf import DictConfig

from shiftbench.config import folders
from shiftbench.config.instantiation import instantiate
from shiftbench.contracts.result import Result
from shiftbench.family.matrix import Matrix, check_all, restrict_job, score_all
from shiftbench.pipeline.estimate import estimate
from shiftbench.pipeline.job import Job
from shiftbench.pipeline.progress import Progress
from shiftbench.pipeline.recording import Recorded, show, summarise
from shiftbench.pipeline.tracked import tracked_run
from shiftbench.prompts import Prompt
from shiftbench.results import results_folder
from shiftbench.results.writing import check_folder, write
from shiftbench.stats import Bootstrap
from shiftbench.tracking import KIND, send_run, spool_run

ToResults = Callable[[Matrix, Bootstrap], list[Result]]


def run_comparison(
    kind: str, config: DictConfig, jobs: Sequence[Job], groups: Mapping[str, Sequence[Prompt]], to_results: ToResults
) -> None:
    """Score every job on every group of prompts; write the files and the report, send the run, and print the results.

    kind: the run's name and the value of its tag shiftbench.kind, which keeps the run out of leaderboards. jobs: one
    for each tuned model, in order. groups: the prompts of each group, by the group's name; they replace the jobs'
    prompts. to_results: computes the results of the run from the matrix of all models and groups. Where config.dry_run
    is true, the jobs are only checked (`check_all`), and an estimate of each job on all prompts is printed. Raises
    InputError as check_all and score_all do, and before any model is loaded where the results' folder cannot be
    written or holds other results, or where tracking.check() raises it.
    """
    jobs = [restrict_job(job, groups) for job in jobs]
    check_all(jobs, groups)
    if config.dry_run:
        print("\n".join(map(estimate, jobs)))
        return
    folder, tracking = folders.pair_folder(config), instantiate(config.tracking)
    check_folder(folder)
    results_folder.check_kind(folder, kind, jobs[0].pair.base.name, ", ".join(job.pair.name for job in jobs))
    tracking.check()
    started = datetime.now(timezone.utc)
    matrix = score_all(jobs, groups, Progress())
    found, job = to_results(matrix, instantiate(config.bootstrap)), jobs[-1]
    # The verdicts of matrix.last are about one model on one group of prompts. The run's results are about all models
    # and groups and have no verdicts.
    notes = list(dict.fromkeys(matrix.notes))
    outcome = dataclasses.replace(matrix.last, results=found, verdicts=(), notes=notes, started=started)
    summary = summarise(config, dataclasses.replace(job, pair=dataclasses.replace(job.pair, name=kind)), outcome, kind)
    summary = dataclasses.replace(summary, pair={
        **summary.pair, "dataset": ", ".join(matrix.groups), "tuned": ", ".join(matrix.models),
    })  # fmt: skip
    report = write(summary, folder)
    run = tracked_run(summary, outcome.started, folder)
    spool_run(folder, dataclasses.replace(run, name=kind, tags={**run.tags, KIND: kind, "pair": kind}))
    send_run(tracking, folder, parent=None)
    show(Recorded(outcome, summary, report))
    print(f"report: {report}")
    print(f"results: {folder}", flush=True)
