"""One job, step by step: from a composed configuration to results on disk. Each step is a function of another file.

    build               makes the job from the configuration           job.py
    check               refuses the job before weights are read        checks.py
    check_loaded        loads the models; may refuse the job then      checks.py
    encode_prompts      prompts as token ids                           encoding.py
    choose_method       the attribution method, where it is left open  choosing.py
    score               each finding: responses, explanations, scores  scoring.py (responses.py, gathering.py)
    compare_with_nulls  the findings' scores on null models too        controls.py
    verdicts_of         what may be said of each claim                 verdicts/
    record              results on disk                                recording.py

`run` does all steps. `shiftbench score` and the workers of a sweep call it, once for each job. `explain_and_score` does
the steps from check_loaded to verdicts_of, which write no results; the notebook API, chains, comparisons of mixtures
and certification call it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
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
from shiftbench.pipeline.choosing import choose_method
from shiftbench.pipeline.controls import compare_with_nulls
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
from shiftbench.verdicts import Circumstances, verdicts_of

Load = Callable[[Pair], PairModels]


def explain_and_score(
    job: Job,
    progress: Progress,
    load: Load = load_pair,
    confirm: Callable[[Mapping[str, str]], None] = lambda identity: None,
) -> Outcome:
    """Score a job that `checks.check` has accepted. Explanations are stored; results are returned, not written.

    load: returns the models of a pair; the workers of a sweep pass a `Loader`, which keeps base for the next job.
    confirm: called with the models' identity (`Session.identity`) before anything is explained; it may raise
    InputError.
    Raises InputError where the models, the prompts or the control show that the job cannot be done. Raises Unanswered,
    which is an InputError too, where no response of the main mode (`Responses.mode`) can be explained. In a group of a
    larger job (`Job.group`) it is no error that all responses are empty: `Outcome.unanswered` says it.
    """
    started = datetime.now(timezone.utc)
    session = Session(job, load(job.pair), Gatherer(job.store, progress))
    check_loaded(session)
    identity = session.identity()
    confirm(identity)
    encoded = _encoded(session)
    session, scored = choose_method(session, encoded)
    job = session.job
    results = [scored.get(key) or score(session, finding, encoded) for key, finding in job.findings.items()]
    if job.control is not None:
        results = compare_with_nulls(session, job.control, results, encoded)
    verdicts = verdicts_of(job.findings, results, _circumstances(job))
    gatherer = session.gatherer
    notes = _notes(session, results, encoded)
    counts = (len(encoded.base), gatherer.computed, gatherer.found)
    return Outcome(results, verdicts, notes, identity, dict(gatherer.keys), *counts, gatherer.unanswered, started)


def run(
    config: DictConfig,
    folder: Path,
    suite: str,
    progress: Progress,
    load: Load = load_pair,
    sweep: str | None = None,
    given: Sequence[str] = (),
    before: Callable[[], object] = lambda: None,
) -> Recorded:
    """Score the pair of a resolved configuration, and write the results to `folder`. Nothing is sent to MLflow.

    Returns what was written. suite: the name of the suite, recorded with the results. load: as in `explain_and_score`.
    sweep: the value of the tag shiftbench.sweep (`tracking.SWEEP`); None for a run of no sweep. given: the overrides of
    the command line, for the commands in the results. before: further checks, called before a model is loaded; they may
    raise InputError. Raises InputError for bad input, and Unwritable where the results cannot be written.
    """
    job = build(config)
    check(job)
    check_folder(folder)
    before()
    outcome = explain_and_score(job, progress, load, lambda identity: check_same_pair(folder, identity, config))
    recorded = record(config, job, outcome, folder, suite, sweep, given)
    release()
    return recorded


def dry_run(config: DictConfig, folder: Path) -> str:
    """A text of several lines that estimates the job's time, memory and disk space. Explains nothing.

    folder: where `run` would write the results; it is only named in the text. Raises InputError as `build` and `check`
    do.
    """
    job = build(config)
    check(job)
    return f"{estimate(job)}\ndry run: nothing was explained; results would go to {folder}"


def release() -> None:
    """Give the GPU back the memory that torch keeps after a job without using it. Without a GPU, nothing happens.

    Another process can then use this memory.
    """
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _encoded(session: Session) -> EncodedPrompts:
    """The job's prompts as token ids; empty where no finding needs prompts.

    Raises InputError where every prompt was left out.
    """
    job = session.job
    if not job.needs(Need.PROMPTS):
        return EncodedPrompts()
    encoded = encode_prompts(job, job.prompts, session.models.base, session.models.tuned)
    if not encoded.base:
        raise InputError(f"no prompt is left to explain: {' '.join(encoded.notes)}")
    return encoded


def _circumstances(job: Job) -> Circumstances:
    confidence = next(iter(job.findings.values())).bootstrap.confidence
    return Circumstances(static_vectors=job.vectors is not None, confidence=confidence)


def _notes(session: Session, results: Sequence[Result], encoded: EncodedPrompts) -> list[str]:
    """The notes for the report: what a reader of the scores must know about how they were computed."""
    job = session.job
    notes = [*(note for result in results for note in result.notes), *encoded.notes]
    notes += [*dict.fromkeys(session.gatherer.notes), *_settings_notes(job)]
    if job.needs_models:
        loaded = (session.models.base, session.models.tuned)
        notes += [*dict.fromkeys(note for model in loaded for note in model.notes), *_autograd_notes(*loaded)]
    explainers = [finding.explain for finding in job.findings.values()]
    of_methods = [note for one in explainers if isinstance(one, Explainer) for note in one.notes()]
    return [*notes, *dict.fromkeys(of_methods)]


def _settings_notes(job: Job) -> list[str]:
    """Notes that follow from the job's options and prompts."""
    notes = []
    if job.vectors is None:
        notes.append(
            "There are no static word vectors. Word pairs are read with each model's own input embeddings, and labels "
            "of both models with base's. They are not comparable with those of runs that use GloVe."
        )
    without = sum(not prompt.instruction_spans for prompt in job.prompts)
    if without:
        notes.append(f"{without} prompts have no instruction span and do not count for instruction recognition.")
    if job.responses.mode == "own":
        notes.append("Base and tuned are explained on responses of different length, and density depends on length.")
    return [*notes, *span_notes(job.prompts)]


def _autograd_notes(*models: Model) -> list[str]:
    """A note on each model that the engine does not support, so that autograd computes its attributions."""
    reasons = {model.name: model.transformer_or_reason[1] for model in models}
    return [
        f"{name} was explained by autograd, which is slower and gives the same numbers: {reason}."
        for name, reason in reasons.items()
        if reason
    ]
