"""From a composed configuration to results on disk: one job of `shiftbench score`."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from shiftbench import configuration, results, results_folder
from shiftbench.errors import InputError
from shiftbench.estimate import estimate
from shiftbench.explanation import content_key
from shiftbench.models import Model
from shiftbench.pairs import Pair, load_pair
from shiftbench.progress import Progress
from shiftbench.readers import one_line
from shiftbench.report import RunSummary, score_table
from shiftbench.run import Job, Outcome, Responses, check, release
from shiftbench.run import run as explain_and_score
from shiftbench.store import Store
from shiftbench.tracking import KIND, PAIR, SWEEP, TrackedRun, leave, metrics_of, send, without_secrets

NOTE_WIDTH = 300  # characters of a note on the terminal; scores.json and the report have it whole
PIPE_WIDTH = 110  # columns of the table where there is no terminal to ask; the longest score name fits


@dataclass(frozen=True)
class Scored:
    """A job that is done: what it gave, what was written of it, and where."""

    outcome: Outcome
    summary: RunSummary
    report: Path


def run(config: DictConfig, folder: Path, suite: str) -> None:
    """Score one pair and leave the results in folder; its last line on standard output names the folder.

    suite: the name of the configuration that chose findings and prompts, for whoever groups runs.
    """
    if config.dry_run:
        return estimated(config, folder)
    tracking = made(config.tracking)
    job = build(config)
    check(job)
    results.check_folder(folder)
    tracking.check()
    scored = score(job, config, folder, suite, Progress(), load_pair)
    run_id = send(tracking, folder, parent=None)
    show(scored)
    if run_id is not None:
        print(f"tracked as run {run_id}; to look at it: {tracking.ui_command()}")
    print(f"report: {scored.report}")
    print(f"results: {folder}", flush=True)


def estimated(config: DictConfig, folder: Path) -> None:
    """Print what a job would take; nothing is explained or written."""
    job = build(config)
    check(job)
    print(estimate(job))
    print(f"dry run: nothing was explained; results would go to {folder}")


def score(
    job: Job,
    config: DictConfig,
    folder: Path,
    suite: str,
    progress: Progress,
    load: Callable[[Pair], tuple[Model, Model]],
    sweep: str | None = None,
) -> Scored:
    """Score a checked job and leave the results, and what MLflow is to get of them, in folder; no more than that.

    load: as for shiftbench.run.run. sweep: the tag that the tracked runs of one sweep share.
    """
    outcome = explain_and_score(job, progress, _refusing_another_pair(folder, config, load))
    summary = summarise(config, job, outcome, suite)
    report = results.write(summary, folder)
    leave(folder, tracked(job, summary, outcome, folder, sweep))
    release()
    return Scored(outcome, summary, report)


def _refusing_another_pair(
    folder: Path, config: DictConfig, load: Callable[[Pair], tuple[Model, Model]]
) -> Callable[[Pair], tuple[Model, Model]]:
    """The same loading, which refuses a folder with another pair's results as soon as the weights are known."""

    def loaded(pair: Pair) -> tuple[Model, Model]:
        base, tuned = load(pair)
        described = weights(base, tuned)
        results_folder.check_pair(folder, described, OmegaConf.to_yaml(config, resolve=True))
        return base, tuned

    return loaded


def weights(base: Model, tuned: Model) -> dict[str, str]:
    """Of "pair" in scores.json: which models were loaded, and how they compute."""
    return {
        "base": base.name,
        "tuned": tuned.name,
        "base_weights": base.weights_digest,
        "tuned_weights": tuned.weights_digest,
        "tokenizer": tuned.tokenizer_digest,
        "dtype": base.dtype,
    }


def show(scored: Scored) -> None:
    """Print the scores, what the findings say and the notes on standard output."""
    summary, outcome = scored.summary, scored.outcome
    console = Console(file=sys.stdout)
    if not console.is_terminal:
        console = Console(file=sys.stdout, width=PIPE_WIDTH)
    console.print(score_table(summary.results))
    for result in summary.results:
        console.print(result.sentence, highlight=False, markup=False, soft_wrap=True)
    for note in summary.notes:
        console.print(f"note: {textwrap.shorten(note, NOTE_WIDTH)}", highlight=False, markup=False, soft_wrap=True)
    print(f"explained {outcome.explained} units anew, {outcome.found} were in the store")


def build(config: DictConfig) -> Job:
    """The objects that a configuration describes. Raises InputError; loads no model."""
    return Job(
        pair=made(config.pair),
        prompts=made(config.dataset)(),
        vocabulary=made(config.vocabulary),
        vectors=made(config.vectors),
        findings=made(config.findings),
        responses=Responses(**config.response),
        template=str(config.template),
        store=Store(config.store.path),
        control=made(config.control),
    )


def made(node: DictConfig) -> Any:
    """What a part of the configuration describes; an InputError comes out as itself, not inside Hydra's exception."""
    try:
        return instantiate(configuration.instantiable(node), _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, InputError):
            raise error.__cause__ from None
        if "unexpected keyword" in str(error) or error.__cause__ is None or "locating target" in str(error):
            raise InputError(f"the configuration names what is not there: {one_line(error)}") from None
        raise


def summarise(config: DictConfig, job: Job, outcome: Outcome, suite: str) -> RunSummary:
    """What the report, scores.json and the tracked run are made from."""
    base, tuned = outcome.models
    pair = {
        "name": job.pair.name,
        "family": job.pair.family,
        "size": job.pair.size,
        **weights(base, tuned),
        **asked(config, job),
        "prompts_explained": outcome.prompts,
        "suite": suite,
    }
    flags = [flag for result in outcome.results for flag in result.flags]
    if flags:
        pair["flags"] = ",".join(flags)
    return RunSummary(
        pair=pair,
        versions={name: str(value) for name, value in results.versions(job.findings).items()},
        results=outcome.results,
        notes=outcome.notes,
        config=without_secrets(OmegaConf.to_yaml(config, resolve=True)),
    )


def asked(config: DictConfig, job: Job) -> dict[str, Any]:
    """Of "pair" in scores.json: what is known before a model is loaded."""
    return {
        "dataset": str(config.dataset.get("name", "")),
        "prompts": len(job.prompts),
        "prompt_set": prompt_set(job),
        "response": job.responses.mode,
        "max_new_tokens": job.responses.max_new_tokens,
        "template": job.template,
        "control": job.control.kind if job.control is not None else "none",
        "vocabulary": job.vocabulary.name,
        "vocabulary_digest": job.vocabulary.digest,
        "vectors": job.vectors.name if job.vectors is not None else "input embeddings",
        "settings": settings(config),
    }


def prompt_set(job: Job) -> str:
    """sha256 (hex) of what is asked, which runs must share to be compared; references where they are explained."""
    explained = "reference" in (job.responses.mode, job.responses.beside)
    rows = [
        [
            *(p.id, p.text, p.instruction_spans, p.context_spans, p.reference if explained else None),
            *([p.key_spans] if p.key_spans else []),  # sets without them are called as before
        ]
        for p in job.prompts
    ]
    return content_key({"prompts": rows})


def settings(config: DictConfig) -> str:
    """sha256 (hex) of every option of the findings and their methods, less those that change no result."""
    return content_key({"findings": configuration.decisive(config.findings)})


def tracked(job: Job, summary: RunSummary, outcome: Outcome, folder: Path, sweep: str | None = None) -> TrackedRun:
    """The run as MLflow gets it: few scalars, the folder as artifacts, tags to search by."""
    tags: dict[str, Any] = {
        KIND: PAIR,
        **({SWEEP: sweep} if sweep else {}),
        "base": summary.pair["base"],
        "tuned": summary.pair["tuned"],
        "family": job.pair.family,
        "size": job.pair.size,
        "pair": job.pair.name,
        "suite": summary.pair["suite"],
        "prompt_set": summary.pair["prompt_set"],
        "settings": summary.pair["settings"],
        **({"flags": summary.pair["flags"]} if "flags" in summary.pair else {}),
        **{f"version.{name}": version for name, version in summary.versions.items()},
        **{f"explanation.{title.replace(',', '')}": key for title, key in outcome.keys.items()},
    }
    params = {name: str(summary.pair[name]) for name in ("name", "dataset", "response", "template", "dtype", "vectors")}
    return TrackedRun(
        name=job.pair.name,
        params=params,
        tags={name: str(value) for name, value in tags.items()},
        metrics=metrics_of(results.all_scores(summary.results)),
        artifacts=folder,
        parent=None,
        only=results.WRITTEN,
    )
