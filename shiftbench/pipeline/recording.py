"""Records a finished job: scores.json and the report in its folder, the record for MLflow, and the printed summary."""

from __future__ import annotations

import platform
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

import shiftbench
from shiftbench.config import settings as config_settings
from shiftbench.contracts.explainer import Explainer
from shiftbench.contracts.finding import Finding
from shiftbench.contracts.result import Result
from shiftbench.explain.response import GreedyResponse
from shiftbench.findings.facts import facts_of
from shiftbench.pipeline.job import Job
from shiftbench.pipeline.tracked import tracked_run
from shiftbench.report import RunSummary, console, score_table, verdict_lines
from shiftbench.report.terminal import WIDEST, WIDTH
from shiftbench.results import results_folder
from shiftbench.results.writing import write
from shiftbench.store.explanation import content_key
from shiftbench.tracking import spool_run, without_secrets
from shiftbench.verdicts import Verdict

NOTE_WIDTH = 300  # characters; a longer note is cut where it is printed, but not in scores.json and in the report
PIPE_WIDTH = 110  # columns of the table where the output is no terminal; the longest score name fits


@dataclass(frozen=True)
class Outcome:
    """What scoring a job gave.

    results: in the order of the job's findings. verdicts: on their claims. notes: for the report. identity: the fields
    of "pair" in scores.json that say which models were compared (`Session.identity`). keys: the digest of each
    explanation's unit keys, by title. prompts: the number of prompts that `encode_prompts` did not leave out; 0 where
    no finding needs prompts. computed, found: the number of units computed here, and of units that the store had.
    unanswered: for a group of a larger job, why none of its responses could be explained; empty where some could.
    started: when the work began, in UTC; None where that is not known.
    """

    results: Sequence[Result]
    verdicts: Sequence[Verdict]
    notes: Sequence[str]
    identity: Mapping[str, str]
    keys: Mapping[str, str]
    prompts: int
    computed: int
    found: int
    unanswered: str = ""
    started: datetime | None = None


@dataclass(frozen=True)
class Recorded:
    """A finished job: its outcome, what the report was made from, and the path of the report."""

    outcome: Outcome
    summary: RunSummary
    report: Path


def record(
    config: DictConfig,
    job: Job,
    outcome: Outcome,
    folder: Path,
    suite: str,
    sweep: str | None = None,
    given: Sequence[str] = (),
) -> Recorded:
    """Write the results and the record for MLflow into `folder`. Nothing is sent to MLflow yet.

    config: the resolved configuration. suite: the suite's name. sweep: the value of the tag shiftbench.sweep
    (`tracking.SWEEP`); None for a run of no sweep. given: the overrides of the command line, from which the commands in
    the results are made. Raises Unwritable where the results cannot be written; a record for MLflow that cannot be
    written is a warning.
    """
    summary = summarise(config, job, outcome, suite, given)
    report = write(summary, folder)
    spool_run(folder, tracked_run(summary, outcome.started, folder, sweep))
    return Recorded(outcome, summary, report)


def check_same_pair(folder: Path, identity: Mapping[str, str], config: DictConfig) -> None:
    """Raise InputError where `folder` holds the results of another pair, as `results_folder.check_pair` tells it.

    A folder without readable results passes. identity: `Session.identity` of this job. config: its resolved
    configuration.
    """
    results_folder.check_pair(folder, identity, OmegaConf.to_yaml(config, resolve=True))


def show(recorded: Recorded, verbose: bool = False) -> None:
    """Print the verdicts on standard output, where there are any.

    verbose: whether the table of all scores, each finding's sentence, the notes and the number of units are printed
    before the verdicts. Where there are no verdicts, as in a chain, all this is printed whatever `verbose` is.
    """
    summary, outcome = recorded.summary, recorded.outcome
    shown = console(sys.stdout, PIPE_WIDTH)
    if verbose or not summary.verdicts:
        shown.print(score_table(summary.results))
        for result in summary.results:
            shown.print(result.sentence, highlight=False, markup=False, soft_wrap=True)
        for note in summary.notes:
            shown.print(f"note: {textwrap.shorten(note, NOTE_WIDTH)}", highlight=False, markup=False, soft_wrap=True)
        print(f"explained {outcome.computed} units anew, {outcome.found} were in the store", flush=True)
    if summary.verdicts:
        for line in verdict_lines(summary, min(shown.width, WIDEST) if shown.is_terminal else WIDTH):
            shown.print(line, highlight=False, soft_wrap=True)


def summarise(config: DictConfig, job: Job, outcome: Outcome, suite: str, given: Sequence[str] = ()) -> RunSummary:
    """The summary of a finished job, from which scores.json, the report and the tracked run are written.

    config: the resolved configuration; it is recorded without secrets. suite: the suite's name. given: the overrides of
    the command line; empty where the job was not started by `shiftbench score`.
    """
    pair = {
        "name": job.pair.name,
        "family": job.pair.family,
        "size": job.pair.size,
        **outcome.identity,
        **conditions(config, job),
        "prompts_explained": outcome.prompts,
        "suite": suite,
    }
    flags = [flag for result in outcome.results for flag in result.flags]
    if flags:
        pair["flags"] = ",".join(flags)
    return RunSummary(
        pair=pair,
        versions={name: str(value) for name, value in versions(job.findings).items()},
        results=outcome.results,
        notes=outcome.notes,
        config=without_secrets(OmegaConf.to_yaml(config, resolve=True)),
        verdicts=outcome.verdicts,
        given=[without_secrets(override) for override in given],
        finished=datetime.now(timezone.utc),
        facts=facts_of(job.findings.values(), outcome.results),
        explanations=outcome.keys,
    )


def conditions(config: DictConfig, job: Job) -> dict[str, Any]:
    """The fields of "pair" in scores.json that say how the pair is scored; they are known before a model is loaded.

    They describe the prompts, responses, template, control, vocabulary, word vectors and settings.
    """
    return {
        "dataset": str(config.dataset.get("name", "")),
        "prompts": len(job.prompts),
        "prompt_set": prompt_set(job),
        "response": job.responses.mode,
        "max_new_tokens": job.responses.max_new_tokens,
        "template": job.template,
        "control": job.control.name if job.control is not None else "none",
        "vocabulary": job.vocabulary.name,
        "vocabulary_digest": job.vocabulary.digest,
        "vectors": job.vectors.name if job.vectors is not None else "input embeddings",
        "settings": settings(config),
    }


def prompt_set(job: Job) -> str:
    """sha256 (hex) of the prompts' ids, texts, and instruction, context and key spans, in the prompts' order.

    Runs are compared only where it is equal. The responses given with the prompts count too, where 'reference' is one
    of the job's response modes.
    """
    explained = "reference" in job.responses.modes
    rows = [
        [
            *(p.id, p.text, p.instruction_spans, p.context_spans, p.reference if explained else None),
            *(
                [p.key_spans] if p.key_spans else []
            ),  # a set without key spans keeps the digest from before this field existed
        ]
        for p in job.prompts
    ]
    return content_key({"prompts": rows})


def settings(config: DictConfig) -> str:
    """sha256 (hex) of the options of the findings and their methods that results depend on."""
    return content_key({"findings": config_settings.decisive(config.findings)})


def versions(findings: Mapping[str, Finding]) -> dict[str, str | int]:
    """Versions that scores depend on, by name: of packages, 'finding.NAME' and 'explain.METHOD'.

    The packages are shiftbench, python, torch and transformers. The methods are those of the findings, the methods that
    they use, and the method that decodes greedy responses.
    """
    found: dict[str, str | int] = {
        "shiftbench": shiftbench.__version__,
        "python": platform.python_version(),
        "torch": version("torch"),
        "transformers": version("transformers"),
    }
    for finding in findings.values():
        found[f"finding.{finding.name}"] = finding.version
        for method in finding.methods():
            used = method.methods_used() if isinstance(method, Explainer) else ()
            found.update({f"explain.{one.method}": one.version for one in (method, *used)})
    found[f"explain.{GreedyResponse.method}"] = GreedyResponse.version
    return found
