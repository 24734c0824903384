"""Scores one trial: its models are made, written to disk as any user's models are, and scored by the pipeline."""

from __future__ import annotations

import contextlib
import dataclasses
import random
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from shiftbench.certify.null_models import null_pair, scaled_null
from shiftbench.certify.planted_units import Shift, can_plant, planted
from shiftbench.certify.planted_weights import PLANTS
from shiftbench.certify.trials import Trial
from shiftbench.contracts.claim import NullPair
from shiftbench.contracts.control import Control
from shiftbench.contracts.finding import Finding
from shiftbench.errors import InputError
from shiftbench.models import Model, ModelSource
from shiftbench.models.hub import quiet
from shiftbench.models.pairs import Loader, Pair
from shiftbench.pipeline.checks import check
from shiftbench.pipeline.job import Job
from shiftbench.pipeline.progress import Progress
from shiftbench.pipeline.run import explain_and_score
from shiftbench.prompts import Prompt
from shiftbench.store.store import Store
from shiftbench.system.files import remove
from shiftbench.verdicts import Verdict


@dataclass(frozen=True)
class Setting:
    """What all trials of a certification share.

    job: whose pair says which base and which size of change the trials start from. load: keeps the base in memory.
    gaussian, permuted: functions from a seed to a control with one null model. continued: base trained on plain text;
    None: there is none. prompts: the largest number of prompts of a trial. seed: of the certification. folder: where
    each trial has a folder, as long as it runs, for the models that are made for it. own_store: whether each trial has
    a store of its own in that folder; False: all use the store of the job.
    """

    job: Job
    load: Loader
    gaussian: Any
    permuted: Any
    continued: ModelSource | None
    prompts: int
    seed: int
    folder: Path
    own_store: bool


def plantable(job: Job) -> list[str]:
    """The names of those scores of a job's claims of which a shift can be planted, in weights or in explanations."""
    return [
        claim.score
        for finding in job.findings.values()
        for claim in finding.claims
        if claim.score in PLANTS or can_plant(finding, claim.score)
    ]


def score_trial(setting: Setting, trial: Trial, progress: Progress) -> dict[str, Any]:
    """The outcome of a trial, as the object that is kept on disk.

    It has the fields of the trial, the digests of the two models' weights, the number of prompts, the seconds that it
    took, and `verdicts`: by 'FINDING.SCORE', the word, the value of the claim's score, the headline with its interval,
    the corrected p, n, and the reasons. Where the pair cannot be made or scored (InputError), `refused` says why,
    and the digests, the number of prompts and the verdicts are missing.
    """
    began = time.monotonic()
    seed = trial.seed(setting.seed)
    outcome: dict[str, Any] = {
        "trial": trial.name,
        "kind": None if trial.kind is None else trial.kind.name.lower(),
        "planted": trial.planted,
        "size": trial.size,
        "number": trial.number,
    }
    try:
        # Tests of differences that are nearly equal warn on a pair like this one; the numbers are handled all the same.
        with warnings.catch_warnings(), _pair(setting, trial, seed) as pair:
            warnings.simplefilter("ignore")
            job = _job(setting, trial, pair, seed)
            check(job)
            models = setting.load(pair)
            findings = _findings(job.findings, trial, models.tuned, seed)
            found = explain_and_score(dataclasses.replace(job, findings=findings), progress, lambda _: models)
            outcome |= {
                "base_weights": found.identity["base_weights"],
                "tuned_weights": found.identity["tuned_weights"],
                "prompts": found.prompts,
                "verdicts": {claim_key(verdict): _fields(verdict) for verdict in found.verdicts},
            }
    except InputError as refusal:
        outcome["refused"] = str(refusal)
    return {**outcome, "seconds": round(time.monotonic() - began, 1)}


def claim_key(verdict: Verdict) -> str:
    """'FINDING.SCORE' of the claim that a verdict is about."""
    return f"{verdict.evidence.score.finding}.{verdict.claim.score}"


def _fields(verdict: Verdict) -> dict[str, Any]:
    headline = verdict.headline
    return {
        "word": verdict.word.value,
        "score": verdict.evidence.score.value,
        "headline": headline.name,
        "value": headline.value,
        "low": headline.low,
        "high": headline.high,
        "p": verdict.evidence.p,
        "n": headline.n,
        "reasons": list(verdict.reasons),
    }


def _job(setting: Setting, trial: Trial, pair: Pair, seed: int) -> Job:
    """The job of a trial: its pair, and prompts drawn for it.

    Null models are drawn for it too where the control has a seed, and it has its own store where `own_store` says so.
    """
    job = setting.job
    control: Any = job.control
    if any(field.name == "seed" and field.init for field in dataclasses.fields(control)):
        control = dataclasses.replace(control, seed=seed)
    store = Store(setting.folder / trial.name / "store") if setting.own_store else job.store
    return dataclasses.replace(
        job, pair=pair, prompts=drawn(job.prompts, setting.prompts, seed), control=control, store=store
    )


def drawn(prompts: Sequence[Prompt], count: int, seed: int) -> list[Prompt]:
    """`count` of the prompts, drawn at random without repetition and in their order; all where there are no more."""
    chosen = sorted(random.Random(seed).sample(range(len(prompts)), min(count, len(prompts))))
    return [prompts[index] for index in chosen]


def _findings(findings: Mapping[str, Finding], trial: Trial, tuned: Model, seed: int) -> dict[str, Finding]:
    """The findings of a trial: all for a null pair; for a planted shift, those of which `_concerned` holds.

    For a planted shift, each of these that is no check and of which `can_plant` holds gets a method that plants it.
    """
    if trial.kind is not None:
        return dict(findings)
    shift = Shift(trial.planted, trial.size or 0.0, seed, tuned.weights_digest)
    return {
        name: planted(finding, shift) if not finding.is_check and can_plant(finding, trial.planted) else finding
        for name, finding in findings.items()
        if _concerned(finding, findings, trial.planted)
    }


def _concerned(finding: Finding, findings: Mapping[str, Finding], score: str) -> bool:
    """Whether a finding has a claim on the score.

    A check is concerned where some finding of the job, of `findings`, has a claim on the score that rests on
    attributions.
    """
    claims = [claim for one in findings.values() for claim in one.claims if claim.score == score]
    if finding.is_check:
        return any(claim.attributions for claim in claims)
    return any(claim.score == score for claim in finding.claims)


@contextlib.contextmanager
def _pair(setting: Setting, trial: Trial, seed: int) -> Iterator[Pair]:
    """The pair of a trial, whose folder (new models, and the store if it has its own) is removed after the block.

    Every trial has a folder of its own, because models are told apart by their paths.
    """
    pair = setting.job.pair
    try:
        base, tuned = _sources(setting, trial, seed)
        yield dataclasses.replace(pair, name=trial.name, base=base, tuned=tuned)
    finally:
        remove(setting.folder / trial.name)


def _sources(setting: Setting, trial: Trial, seed: int) -> tuple[ModelSource, ModelSource]:
    """The sources of base and tuned. Models that do not exist yet are written below the setting's folder."""
    pair = setting.job.pair
    if trial.kind is NullPair.CONTINUED:
        assert setting.continued is not None
        return pair.base, setting.continued
    models = setting.load(pair)
    base, tuned = models.base, models.tuned
    gaussian, permuted = setting.gaussian(seed), setting.permuted(seed)
    for control in (gaussian, permuted):
        control.check_models(base, tuned)
    before, after = (
        (None, _planted_module(setting, trial, base, tuned, permuted, seed))
        if trial.kind is None
        else null_pair(trial, base, tuned, gaussian, permuted, seed)
    )
    source = pair.base
    if before is not None:
        source = _written(before, base.tokenizer, pair.base, setting.folder / trial.name / "base")
    return source, _written(after, tuned.tokenizer, pair.tuned, setting.folder / trial.name / "tuned")


def _planted_module(
    setting: Setting, trial: Trial, base: Model, tuned: Model, permuted: Control, seed: int
) -> PreTrainedModel:
    """Base with a permuted change of tuning's size, and with the shift where it is planted in weights.

    The permuted change is there because a tuned model differs from its base in more than the shift.
    """
    module = scaled_null(base, tuned, permuted, 1.0)
    plant = PLANTS.get(trial.planted)
    if plant is not None:
        model = Model(trial.name, module, tuned.tokenizer, None, tuned.dtype)
        plant(model, setting.job.vocabulary, trial.size or 0.0, torch.Generator().manual_seed(seed))
    return module


def _written(
    module: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, like: ModelSource, folder: Path
) -> ModelSource:
    """Write the model and the tokenizer to the folder, whose earlier content is removed, and return their source.

    The source has the dtype, the device and the other options of `like`, but no revision, adapter, GGUF file or
    tokenizer of its own.
    """
    remove(folder)
    with quiet():
        module.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    where = {"path": str(folder), "revision": None, "adapter": None, "gguf_file": None, "tokenizer": None}
    return dataclasses.replace(like, **where)  # type: ignore[arg-type]
