"""Every finding of every tuned model on every group of prompts, all against one base."""

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

WEIGHTS = "weights alone"  # the group of findings that no prompt is asked for


@dataclass(frozen=True)
class Matrix:
    """results: by (model, group) and finding. last: what the last model gave on the last group, for whoever records."""

    models: Sequence[str]
    groups: Sequence[str]
    results: Mapping[tuple[str, str], Mapping[str, Result]]
    last: Outcome
    notes: Sequence[str]

    def of(self, finding: str) -> dict[tuple[str, str], Result]:
        """The finding's results, groups outermost; under WEIGHTS where it depends on no prompt."""
        return {
            (model, group): self.results[model, group][finding]
            for group in (*self.groups, WEIGHTS)
            for model in self.models
            if finding in self.results.get((model, group), {})
        }

    @property
    def findings(self) -> list[str]:
        """Names, in the order in which they were scored."""
        return list(dict.fromkeys(name for found in self.results.values() for name in found))


def per_prompt(result: Result) -> pd.Series | None:
    """What tuning changed in each prompt, by the prompt's id; None where the headline is no mean over prompts."""
    table = result.tables.get("prompts")
    columns = [f"{result.headline}_{model}" for model in ("base", "tuned")]
    if table is None or not {"prompt", *columns} <= set(table):
        return None
    rows = table.set_index("prompt")
    return (rows[columns[1]] - rows[columns[0]]).astype(float).dropna()


def planned(job: Job, groups: Mapping[str, Sequence[Prompt]]) -> Job:
    """What is done of a job: on the prompts of all groups, without checks of attributions, null models, and responses
    beside the main ones."""
    return dataclasses.replace(
        job,
        prompts=[prompt for prompts in groups.values() for prompt in prompts],
        findings={name: finding for name, finding in job.findings.items() if not finding.is_check},
        responses=dataclasses.replace(job.responses, beside=None),
        control=None,
    )


def check_all(jobs: Sequence[Job], groups: Mapping[str, Sequence[Prompt]]) -> None:
    """Refuse, by InputError, what can be refused before weights are read; of planned jobs, one a tuned model."""
    names = [job.pair.name for job in jobs]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"two tuned models are called {name!r}; give each once, in folders of different names")
    first, *others = jobs
    for prompts in groups.values():
        check(dataclasses.replace(first, prompts=prompts))
    for job in others:
        check(dataclasses.replace(job, prompts=next(iter(groups.values()))))


def score_all(jobs: Sequence[Job], groups: Mapping[str, Sequence[Prompt]], progress: Progress) -> Matrix:
    """Of jobs that are `planned`, which differ in their pair alone and share a base.

    Each model is loaded once, the base once for all; explanations come from the store where they are there.
    """
    load = Loader()
    results: dict[tuple[str, str], dict[str, Result]] = {}
    notes: list[str] = []
    explained = found = 0
    outcome: Outcome | None = None
    for job in jobs:
        models = outcome = None  # the last tuned model's memory is free before the next is read
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
