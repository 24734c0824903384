"""Estimates a job's time, memory and disk space, from its prompts, the models' shapes and timed matrix products."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch

from shiftbench.contracts.explainer import Explainer
from shiftbench.contracts.finding import Finding
from shiftbench.engine.decoding import CACHE_SHARE, PLACES
from shiftbench.engine.importance import LOGITS
from shiftbench.explain.cost import layer_parameters
from shiftbench.models import ModelShape, shape_of
from shiftbench.pipeline.controls import why_not_controlled
from shiftbench.pipeline.job import Job
from shiftbench.prompts import Prompt
from shiftbench.prompts.spans import span_notes

# The share of the matrix product's peak rate that explaining reaches. Measured on the autograd path with SmolLM2-135M,
# 6 prompts and responses of up to 200 tokens, on 2 cores. Models of a few million parameters reach a smaller share.
EFFICIENCY = 0.6
PROGRAM_BYTES = 700 * 2**20  # memory of a process with torch, transformers and MLflow, before a model is loaded
PROBE_SIDE = 1024  # side of the square matrices that are timed
TOKENS_PER_CHARACTER = 0.3  # in English, with a large byte-level BPE vocabulary; the estimate tokenizes no prompt


def estimate(job: Job) -> str:
    """A text of several lines: what would be explained, and the estimated time, memory and disk space.

    Where they apply, further lines give the time that null models add, the number of questions to chat models, and
    notes on spans. Reads no weights, but times a few matrix products on the tuned model's device. The estimates hold
    for an empty store and responses of the greatest length. The first time is that of attributions and masked passes on
    base and tuned.
    """
    shapes = [shape_of(source) for source in (job.pair.base, job.pair.tuned)]
    response = job.responses.max_new_tokens
    prompts = _tokens(job.prompts)
    modes = len(job.responses.modes)
    flops = sum(_flops(job, finding, shapes, modes) for finding in job.findings.values())
    if job.pair.base == job.pair.tuned:
        flops /= len(shapes)  # base and tuned are one model, which is explained once
    rate = _peak_flops(job.pair.tuned.torch_device()) * EFFICIENCY
    seconds = flops / rate
    memory = PROGRAM_BYTES + sum(_model_bytes(job, shape) for shape in shapes)
    memory += max(_attribution_bytes(job, shapes[1], max(prompts)), _cache_bytes(job, shapes[1], prompts))
    disk = sum(prompts) * response * (modes + 1) + sum(_stored_bytes(job, shape) for shape in shapes)
    return "\n".join(
        [
            f"pair {job.pair.name}: base {job.pair.base.path}, tuned {job.pair.tuned.path}",
            f"findings: {', '.join(job.findings)}",
            f"{len(job.prompts)} prompts, at most {response} response tokens each, {len(job.vocabulary.words)} words",
            f"estimated time: {_duration(seconds)} on this machine for attributions and masked passes, if every "
            "response has that length and the store holds nothing",
            f"estimated memory: {memory / 2**30:.1f} GiB",
            f"estimated disk: {disk / 2**20:.0f} MiB in {job.store.path}",
            *_null_models(job, shapes[1], rate),
            *_questions(job, shapes),
            *(f"note: {note}" for note in span_notes(job.prompts)),
        ]
    )


def _explainers(job: Job) -> list[Explainer]:
    """The findings' methods that explain a loaded model: one for each such finding, so equal ones may occur."""
    methods = [finding.explain for finding in job.findings.values()]
    return [method for method in methods if isinstance(method, Explainer)]


def _flops(job: Job, finding: Finding, shapes: Sequence[ModelShape], modes: int) -> float:
    """The estimated number of floating-point operations to explain both models for one finding.

    0 for a finding that needs no responses or whose method reads weight files. shapes: base's and tuned's. modes: the
    number of the job's response modes. Base counts once for each mode, but only once for a finding that checks a
    method, which is scored on one mode. Tuned counts once, because 'shared' and 'own' responses are the same for it;
    that it is explained a second time where 'reference' is one of two modes is not counted.
    """
    explain = finding.explain
    if not finding.needs_responses or not isinstance(explain, Explainer):
        return 0.0
    own = explain.own_prompts(job.prompts)
    tokens = _tokens(job.prompts if own is None else own)
    base, tuned = (explain.flops(shape, tokens, job.responses.max_new_tokens) for shape in shapes)
    return base * (1 if finding.is_check else modes) + tuned


def _null_models(job: Job, shape: ModelShape, rate: float) -> list[str]:
    """One line: which findings are scored on null models, and the estimated time that this adds; [] where none is.

    shape: of the tuned model. rate: the FLOP/s that explaining is expected to reach.
    """
    control = job.control
    if control is None:
        return []
    controlled = {key: one for key, one in job.findings.items() if why_not_controlled(control, one) is None}
    if not controlled:
        return []
    flops = 0.0
    for finding in controlled.values():
        if isinstance(finding.explain, Explainer):
            flops += finding.explain.weight_flops(shape, len(job.vocabulary.words))
            if finding.needs_responses:
                own = finding.explain.own_prompts(job.prompts)
                tokens = _tokens(job.prompts if own is None else own)
                flops += finding.explain.flops(shape, tokens, job.responses.max_new_tokens)
    return [
        f"null models: {control.draws} ({control.kind}) for {', '.join(controlled)}, estimated time "
        f"{_duration(control.draws * flops / rate)} more; control=none leaves them out"
    ]


def _tokens(prompts: Sequence[Prompt]) -> list[int]:
    """The estimated number of tokens of each prompt, from its number of characters; at least 1."""
    return [max(1, round(len(prompt.text) * TOKENS_PER_CHARACTER)) for prompt in prompts]


def _model_bytes(job: Job, shape: ModelShape) -> float:
    """Bytes of one model's weights in float32, plus the largest second copy of them that a method holds."""
    return 4.0 * shape.parameters + max((one.extra_weight_bytes(shape) for one in _explainers(job)), default=0.0)


def _cache_bytes(job: Job, shape: ModelShape, prompts: Sequence[int]) -> float:
    """Bytes of the KV caches while responses are decoded; 0 where 'reference' is the only response mode.

    prompts: the number of tokens of each prompt. It is assumed that every attention head has keys and values of its
    own, though several may share them. The caches are freed before attribution begins. At most PLACES prompts are
    decoded together. Their caches take at most the memory of the layers' weights divided by CACHE_SHARE, unless a
    single prompt needs more than that.
    """
    if job.responses.modes == ["reference"]:
        return 0.0
    lengths = sorted(length + job.responses.max_new_tokens for length in prompts)[-PLACES:]
    each = 2.0 * shape.layers * shape.width
    return 4.0 * max(each * lengths[-1], min(layer_parameters(shape) / CACHE_SHARE, each * sum(lengths)))


def _attribution_bytes(job: Job, shape: ModelShape, longest: int) -> float:
    """Bytes that attribution takes besides the weights: max(limit of the engine, all rows) + logits.

    The limit is the most memory that the engine uses for one of the job's methods. The rows are those of all
    derivatives of the longest prompt, in float32. longest: the number of tokens of that prompt.
    """
    device = job.pair.tuned.torch_device()
    memory = max((one.engine_bytes(device) for one in _explainers(job)), default=0)
    response = job.responses.max_new_tokens
    rows = longest * response + min(longest, response) ** 2 / 2
    return max(memory, 4.0 * rows * shape.width) + 12.0 * LOGITS * shape.vocabulary


def _stored_bytes(job: Job, shape: ModelShape) -> float:
    """Bytes in the store of one model's units that belong to no prompt, for the method that stores the most.

    0 where no method of the job explains a loaded model.
    """
    return max((one.stored_bytes(shape) for one in _explainers(job)), default=0.0)


def _questions(job: Job, shapes: Sequence[ModelShape]) -> list[str]:
    """A line for each annotator or judge that asks a chat model: how many questions, if the store holds no answer.

    shapes: base's and tuned's.
    """
    lines = [one.questions(shapes) for one in _explainers(job)]
    lines += [r.questions(len(job.prompts)) for f in job.findings.values() if (r := f.ratings_of_responses())]
    return [line for line in lines if line is not None]


def _peak_flops(device: torch.device) -> float:
    """The rate of float32 matrix products on `device`, in FLOP/s: the best of four timings."""
    a = torch.ones(PROBE_SIDE, PROBE_SIDE, device=device)
    best = 0.0
    for _ in range(4):
        began = time.perf_counter()
        (a @ a)[0, 0].item()
        best = max(best, 2 * PROBE_SIDE**3 / (time.perf_counter() - began))
    return best


def _duration(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )
