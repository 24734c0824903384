"""One job, step by step: a composed configuration goes in, results on disk come out.

    composed -> built -> checked -> encoded -> answered -> explained -> scored -> controlled -> recorded

`run` is called once a job, by `shiftbench score` and by each worker of a sweep. `explain_and_score` is the part of it
that needs no folder; notebooks, chains and comparisons of mixtures call that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from omegaconf import DictConfig

from shiftbench.contracts.explainer import Explainer
from shiftbench.contracts.need import Need
from shiftbench.contracts.result import Result
from shiftbench.errors import InputError
from shiftbench.models import Model
from shiftbench.models.pairs import Pair, PairModels, load_pair
from shiftbench.pipeline.checks import check, check_loaded
from shiftbench.pipeline.controls import controlled
from shiftbench.pipeline.encoding import EncodedPrompts, encode_prompts
from shiftbench.pipeline.estimate import estimate
from shiftbench.pipeline.gathering import Gatherer
from shiftbench.pipeline.job import Job, build
from shiftbench.pipeline.progress import Progress
from shiftbench.pipeline.recording import Outcome, Recorded, check_same_pair, record
from shiftbench.pipeline.scoring import score
from shiftbench.pipeline.session import Session
from shiftbench.prompts.spans import span_notes
from shiftbench.results.writing import check_folder

Load = Callable[[Pair], PairModels]


def explain_and_score(
    job: Job,
    progress: Progress,
    load: Load = load_pair,
    confirm: Callable[[Mapping[str, str]], None] = lambda identity: None,
) -> Outcome:
    """Score a pair that `checks.check` has passed. Raises InputError before any long work where it cannot be done.

    load: gives the models of a pair; a Loader keeps a base for the next job. confirm: is given the models' identity as
    soon as it is known, and may refuse it.
    """
    session = Session(job, load(job.pair), Gatherer(job.store, progress))
    check_loaded(session)
    identity = session.identity()
    confirm(identity)
    encoded = _encoded(session)
    results = [score(session, finding, encoded) for finding in job.findings.values()]
    if job.control is not None:
        results = controlled(session, job.control, results, encoded)
    gatherer = session.gatherer
    notes = _notes(session, results, encoded)
    counts = (len(encoded.base), gatherer.computed, gatherer.found)
    return Outcome(results, notes, identity, dict(gatherer.keys), *counts, gatherer.unanswered)


def run(
    config: DictConfig,
    folder: Path,
    suite: str,
    progress: Progress,
    load: Load = load_pair,
    sweep: str | None = None,
    before: Callable[[], None] = lambda: None,
) -> Recorded:
    """Score the pair of a resolved configuration and leave its results in `folder`; nothing is sent or printed.

    suite: the name of the configuration that chose findings and prompts, for whoever groups runs. load: as for
    `explain_and_score`. sweep: the tag that the tracked runs of one sweep share. before: further checks that must pass
    before long work begins. Raises InputError for bad input and Unwritable where the results cannot be written.
    """
    job = build(config)
    check(job)
    check_folder(folder)
    before()
    outcome = explain_and_score(job, progress, load, lambda identity: check_same_pair(folder, identity, config))
    recorded = record(config, job, outcome, folder, suite, sweep)
    release()
    return recorded


def dry_run(config: DictConfig, folder: Path) -> str:
    """What a job would take, in lines; nothing is explained or written. Raises InputError as `run` would."""
    job = build(config)
    check(job)
    return f"{estimate(job)}\ndry run: nothing was explained; results would go to {folder}"


def release() -> None:
    """Give a finished job's device memory back before the next job of a sweep."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _encoded(session: Session) -> EncodedPrompts:
    """The job's prompts as token ids, where some finding needs prompts. Raises InputError where none is left."""
    job = session.job
    if not job.needs(Need.PROMPTS):
        return EncodedPrompts()
    encoded = encode_prompts(job, job.prompts, session.models.base, session.models.tuned)
    if not encoded.base:
        raise InputError(f"no prompt is left to explain: {' '.join(encoded.notes)}")
    return encoded


def _notes(session: Session, results: Sequence[Result], encoded: EncodedPrompts) -> list[str]:
    """What a reader of the numbers must know about how they came about."""
    job = session.job
    notes = [*(note for result in results for note in result.notes), *encoded.notes]
    notes += [*dict.fromkeys(session.gatherer.notes), *_settings_notes(job)]
    if job.needs(Need.BASE, Need.TUNED):
        loaded = (session.models.base, session.models.tuned)
        notes += [*dict.fromkeys(note for model in loaded for note in model.notes), *_autograd_notes(*loaded)]
    explainers = [finding.explain for finding in job.findings.values()]
    of_methods = [note for one in explainers if isinstance(one, Explainer) for note in one.notes()]
    return [*notes, *dict.fromkeys(of_methods)]


def _settings_notes(job: Job) -> list[str]:
    """Notes on how the job was set."""
    notes = []
    if job.vectors is None:
        notes.append(
            "Word vectors: each model's own input embeddings stand in for static ones; word pairs and labels are not "
            "comparable with those of runs over GloVe."
        )
    without = sum(not prompt.instruction_spans for prompt in job.prompts)
    if without:
        notes.append(f"{without} prompts have no instruction span and do not count for instruction recognition.")
    if job.responses.mode == "own":
        notes.append("Base and tuned are explained on responses of different length, and density depends on length.")
    return [*notes, *span_notes(job.prompts)]


def _autograd_notes(*models: Model) -> list[str]:
    """A note on each model whose attributions the engine leaves to autograd."""
    reasons = {model.name: model.transformer_or_reason[1] for model in models}
    return [
        f"{name} was explained by autograd, slower and the same numbers: {reason}."
        for name, reason in reasons.items()
        if reason
    ]
