"""Scores every finding of every tuned model on every group of prompts, all against one base."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from shiftbench.contracts.result import Result
from shiftbench.errors import InputError
from shiftbench.models.pairs import Loader
from shiftbench.pipeline.checks import check
from shiftbench.pipeline.job import Job
from shiftbench.pipeline.progress import Progress
from shiftbench.pipeline.recording import Outcome
from shiftbench.pipeline.responses import Unanswered
from shiftbench.pipeline.run import explain_and_score
from shiftbench.prompts import Prompt

WEIGHTS = "weights alone"  # the group of the findings that depend on no prompt


@dataclass(frozen=True)
class Matrix:
    """The results of every tuned model on every group of prompts.

    models: the names of the tuned models' pairs, in order. groups: the names of the groups of prompts, in order.
    results: by (model, group), and then by the finding's name; findings that depend on weights alone are under the
    group WEIGHTS. last: the outcome that was computed last, of the last model, with the counts of units computed and
    found of all models and groups; a run is recorded from it. notes: notes for the report; each begins with its model
    and group.
    """

    models: Sequence[str]
    groups: Sequence[str]
    results: Mapping[tuple[str, str], Mapping[str, Result]]
    last: Outcome
    notes: Sequence[str]

    def results_of(self, finding: str) -> dict[tuple[str, str], Result]:
        """The results of one finding by (model, group), ordered by group and then by model.

        finding: its name; one that was not scored has an empty dict. The only group of a finding that depends on
        weights alone is WEIGHTS.
        """
        return {
            (model, group): self.results[model, group][finding]
            for group in (*self.groups, WEIGHTS)
            for model in self.models
            if finding in self.results.get((model, group), {})
        }

    @property
    def findings(self) -> list[str]:
        """The names of the findings, each once, in the order in which they were first scored."""
        return list(dict.fromkeys(name for found in self.results.values() for name in found))


def per_prompt(result: Result) -> pd.Series | None:
    """The headline's value of each prompt, tuned minus base, by the prompt's id; NaN are left out.

    None where the headline is no mean over prompts, that is, where the result has no table `prompts` with the columns
    prompt, HEADLINE_base and HEADLINE_tuned.
    """
    table = result.tables.get("prompts")
    columns = [f"{result.headline}_{model}" for model in ("base", "tuned")]
    if table is None or not {"prompt", *columns} <= set(table):
        return None
    rows = table.set_index("prompt")
    return (rows[columns[1]] - rows[columns[0]]).astype(float).dropna()


def restrict_job(job: Job, groups: Mapping[str, Sequence[Prompt]]) -> Job:
    """A copy of a job with the prompts of all groups, and without what a matrix does not need.

    Left out are checks of attributions (Finding.is_check), null models, and the responses of the second mode
    (responses.beside).
    """
    return dataclasses.replace(
        job,
        prompts=[prompt for prompts in groups.values() for prompt in prompts],
        findings={name: finding for name, finding in job.findings.items() if not finding.is_check},
        responses=dataclasses.replace(job.responses, beside=None),
        control=None,
    )


def check_all(jobs: Sequence[Job], groups: Mapping[str, Sequence[Prompt]]) -> None:
    """Raise InputError where two jobs have the same name, or where `checks.check` refuses a job. Reads no weights.

    jobs: as `restrict_job` returns them. groups: the prompts of each group. The first job is checked with every group,
    and the others, which differ in their pair alone, with the first group.
    """
    names = [job.pair.name for job in jobs]
    for name in names:
        if names.count(name) > 1:
            raise InputError(
                f"two tuned models have the name {name!r}; name each model once, in folders with different names"
            )
    first, *others = jobs
    for prompts in groups.values():
        check(dataclasses.replace(first, prompts=prompts))
    for job in others:
        check(dataclasses.replace(job, prompts=next(iter(groups.values()))))


def score_all(jobs: Sequence[Job], groups: Mapping[str, Sequence[Prompt]], progress: Progress) -> Matrix:
    """The results of every job on every group of prompts.

    jobs: as `restrict_job` returns them; they share a base and differ in their pair alone. groups: the prompts of each
    group. Findings that depend on weights alone are scored once for each job. Each tuned model is loaded at most once,
    and the base at most once for all of them. Units that are in the store are read from it. Raises InputError as
    `explain_and_score` does, and Unanswered where a job with findings on responses has no response to explain in any
    group.
    """
    load = Loader()
    results: dict[tuple[str, str], dict[str, Result]] = {}
    notes: list[str] = []
    explained = found = 0
    outcome: Outcome | None = None
    for job in jobs:
        models = outcome = None  # release the last tuned model before the next is loaded
        models = load(job.pair)
        on_prompts = {name: finding for name, finding in job.findings.items() if finding.needs_responses}
        on_weights = {name: finding for name, finding in job.findings.items() if name not in on_prompts}
        parts = [(name, prompts, on_prompts) for name, prompts in groups.items() if on_prompts]
        parts += [(WEIGHTS, next(iter(groups.values())), on_weights)] if on_weights else []
        empty: list[str] = []
        for group, prompts, findings in parts:
            progress.say(f"{job.pair.name}, {group}")
            asked = dataclasses.replace(job, prompts=prompts, findings=findings, group=True)
            outcome = explain_and_score(asked, progress, lambda pair, models=models: models)  # type: ignore[misc]
            if findings is on_prompts:
                empty.append(outcome.unanswered)
            results[job.pair.name, group] = {result.finding: result for result in outcome.results}
            explained, found = explained + outcome.computed, found + outcome.found
            notes += [f"{job.pair.name}, {group}: {note}" for note in outcome.notes]
        if empty and all(empty):
            raise Unanswered(f"{job.pair.name}: no group of prompts has a response to explain; {empty[0]}")
    assert outcome is not None
    last = dataclasses.replace(outcome, computed=explained, found=found)
    return Matrix([job.pair.name for job in jobs], list(groups), results, last, notes)
