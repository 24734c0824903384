"""What a job would take, from the models' shapes and a short measurement of this machine's matrix product."""

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
from shiftbench.pipeline.job import Job
from shiftbench.prompts import Prompt
from shiftbench.prompts.spans import span_notes

# Of the matrix product's peak: what the autograd path reached with SmolLM2-135M, 6 prompts, responses to 200 tokens, on
# 2 cores. Models of a few million parameters reach less, and end their answers before the limit: about as much.
EFFICIENCY = 0.6
PROGRAM_BYTES = 700 * 2**20  # torch, transformers and MLflow, before any model
PROBE_SIDE = 1024
TOKENS_PER_CHARACTER = 0.3  # English text, byte-level BPE of a large vocabulary; tokenizing needs the model


def estimate(job: Job) -> str:
    """Lines that say how much would be explained, in how much time, memory and disk; loads no weights."""
    shapes = [shape_of(source) for source in (job.pair.base, job.pair.tuned)]
    response = job.responses.max_new_tokens
    prompts = _tokens(job.prompts)
    modes = len(job.responses.modes)
    passes = sum(_flops(job, finding, shapes, modes) for finding in job.findings.values())
    if job.pair.base == job.pair.tuned:
        passes /= len(shapes)  # one model, explained once
    seconds = passes / (_peak_flops(job.pair.tuned.torch_device()) * EFFICIENCY)
    memory = PROGRAM_BYTES + sum(_model_bytes(job, shape) for shape in shapes)
    memory += max(_attribution_bytes(job, shapes[1], max(prompts)), _cache_bytes(job, shapes[1], prompts))
    disk = sum(prompts) * response * (modes + 1) + sum(_stored_bytes(job, shape) for shape in shapes)
    return "\n".join(
        [
            f"pair {job.pair.name}: base {job.pair.base.path}, tuned {job.pair.tuned.path}",
            f"findings: {', '.join(job.findings)}",
            f"{len(job.prompts)} prompts, at most {response} response tokens each, {len(job.vocabulary.words)} words",
            f"estimated time: {_duration(seconds)} on this machine for attributions and masks, if all responses "
            "are that long and nothing is in the store",
            f"estimated memory: {memory / 2**30:.1f} GiB",
            f"estimated disk: {disk / 2**20:.0f} MiB in {job.store.path}",
            *_questions(job, shapes),
            *(f"note: {note}" for note in span_notes(job.prompts)),
        ]
    )


def _explainers(job: Job) -> list[Explainer]:
    """The methods of the job's findings that look into a model."""
    methods = [finding.explain for finding in job.findings.values()]
    return [method for method in methods if isinstance(method, Explainer)]


def _flops(job: Job, finding: Finding, shapes: Sequence[ModelShape], modes: int) -> float:
    """Of what a finding explains on responses: base's on each mode's, tuned's own being the shared ones."""
    explain = finding.explain
    if not finding.needs_responses or not isinstance(explain, Explainer):
        return 0.0
    own = explain.own_prompts(job.prompts)
    tokens = _tokens(job.prompts if own is None else own)
    base, tuned = (explain.flops(shape, tokens, job.responses.max_new_tokens) for shape in shapes)
    return base * (1 if finding.is_check else modes) + tuned


def _tokens(prompts: Sequence[Prompt]) -> list[int]:
    return [max(1, round(len(prompt.text) * TOKENS_PER_CHARACTER)) for prompt in prompts]


def _model_bytes(job: Job, shape: ModelShape) -> float:
    """Weights in float32, and those that a method holds a second time."""
    return 4.0 * shape.parameters + max((one.extra_weight_bytes(shape) for one in _explainers(job)), default=0.0)


def _cache_bytes(job: Job, shape: ModelShape, prompts: Sequence[int]) -> float:
    """The KV caches while responses are decoded, as if each head had its own; gone before attribution begins.

    They keep to a share of the weights' memory, but for one prompt that needs more alone.
    """
    if job.responses.modes == ["reference"]:
        return 0.0
    rooms = sorted(length + job.responses.max_new_tokens for length in prompts)[-PLACES:]
    each = 2.0 * shape.layers * shape.width
    return 4.0 * max(each * rooms[-1], min(layer_parameters(shape) / CACHE_SHARE, each * sum(rooms)))


def _attribution_bytes(job: Job, shape: ModelShape, longest: int) -> float:
    """What the engine may fill, or the rows of all derivatives where they are more, and logits."""
    device = job.pair.tuned.torch_device()
    memory = max((one.engine_bytes(device) for one in _explainers(job)), default=0)
    response = job.responses.max_new_tokens
    rows = longest * response + min(longest, response) ** 2 / 2
    return max(memory, 4.0 * rows * shape.width) + 12.0 * LOGITS * shape.vocabulary


def _stored_bytes(job: Job, shape: ModelShape) -> float:
    """Of the largest of the methods whose units do not depend on prompts."""
    return max((one.stored_bytes(shape) for one in _explainers(job)), default=0.0)


def _questions(job: Job, shapes: Sequence[ModelShape]) -> list[str]:
    """A line for each annotator or judge that asks a chat model: how many questions, where the store answers none."""
    lines = [one.questions(shapes) for one in _explainers(job)]
    lines += [r.questions(len(job.prompts)) for f in job.findings.values() if (r := f.ratings_of_responses())]
    return [line for line in lines if line is not None]


def _peak_flops(device: torch.device) -> float:
    """Float32 matrix-product rate of the device that the job would use, FLOP/s, best of four."""
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
