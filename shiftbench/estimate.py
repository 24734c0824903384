"""What a job would take, from the models' shapes and a short measurement of this machine's matrix product."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch

from shiftbench.engine.decoding import CACHE_SHARE, PLACES
from shiftbench.engine.importance import LOGITS
from shiftbench.engine.product import Precision
from shiftbench.explain.importance import memory_bytes
from shiftbench.models import ModelShape, shape_of
from shiftbench.prompts import Prompt
from shiftbench.run import Job, checks
from shiftbench.spans import span_notes

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
    modes = {job.responses.mode, job.responses.beside} - {None}
    passes = sum(_flops(job, finding, shapes, len(modes)) for finding in job.findings.values())
    if job.pair.base == job.pair.tuned:
        passes /= len(shapes)  # one model, explained once
    seconds = passes / (_peak_flops(job.pair.tuned.torch_device()) * EFFICIENCY)
    memory = PROGRAM_BYTES + sum(_model_bytes(job, shape) for shape in shapes)
    memory += max(_attribution_bytes(job, shapes[1], max(prompts)), _cache_bytes(job, shapes[1], prompts))
    disk = sum(prompts) * response * (len(modes) + 1) + sum(_component_bytes(job, shape) for shape in shapes)
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


def _flops(job: Job, finding: Any, shapes: list[ModelShape], modes: int) -> float:
    """Of what a finding explains on responses: base's on each mode's, tuned's own being the shared ones."""
    explain = finding.explain
    if not getattr(explain, "needs_responses", False):
        return 0.0
    asked = explain.asks(job.prompts) if hasattr(explain, "asks") else job.prompts
    prompts, response = _tokens(asked), job.responses.max_new_tokens
    if hasattr(explain, "masks"):
        prompts = prompts[: getattr(explain, "prompts", None)]
        per_shape = [
            sum(2.0 * shape.parameters * (p + response) * explain.masks(p) for p in prompts) for shape in shapes
        ]
    else:
        answers = 2 if hasattr(explain, "asks") else 1  # each order's prompt is explained on the answers to both
        per_shape = [answers * _attribution_flops(shape, prompts, response) for shape in shapes]
    base, tuned = per_shape
    return base * (1 if checks(finding) else modes) + tuned


def _tokens(prompts: Sequence[Prompt]) -> list[int]:
    return [max(1, round(len(prompt.text) * TOKENS_PER_CHARACTER)) for prompt in prompts]


def _attribution_flops(shape: ModelShape, prompts: list[int], response: int) -> float:
    """A forward pass, and derivatives of P R rows, at 2 FLOP a parameter and row (docs/mathematics.md)."""
    body = _body(shape)
    return sum(2.0 * shape.parameters * (p + response) + 2.0 * body * p * response for p in prompts)


def _body(shape: ModelShape) -> int:
    """Parameters of the layers, about."""
    return shape.parameters - shape.vocabulary * shape.width


def _model_bytes(job: Job, shape: ModelShape) -> float:
    """Weights, and the layers' a second time in bfloat16 where derivatives are multiplied in it."""
    precisions = {getattr(finding.explain, "precision", None) for finding in job.findings.values()}
    return 4.0 * shape.parameters + (2.0 * _body(shape) if Precision.BFLOAT16.value in precisions else 0.0)


def _cache_bytes(job: Job, shape: ModelShape, prompts: Sequence[int]) -> float:
    """Keys and values while responses are made, as if each head had its own; gone before attribution begins.

    They keep to a share of the weights' memory, but for one prompt that needs more alone.
    """
    if {job.responses.mode, job.responses.beside} <= {"reference", None}:
        return 0.0
    rooms = sorted(length + job.responses.max_new_tokens for length in prompts)[-PLACES:]
    each = 2.0 * shape.layers * shape.width
    return 4.0 * max(each * rooms[-1], min(_body(shape) / CACHE_SHARE, each * sum(rooms)))


def _attribution_bytes(job: Job, shape: ModelShape, longest: int) -> float:
    """What the engine may fill, or the rows of all derivatives where they are more, and logits."""
    device = job.pair.tuned.torch_device()
    methods = [finding.explain for finding in job.findings.values() if hasattr(finding.explain, "memory")]
    memory = max((memory_bytes(method.memory, device) for method in methods), default=0)
    response = job.responses.max_new_tokens
    rows = longest * response + min(longest, response) ** 2 / 2
    return max(memory, 4.0 * rows * shape.width) + 12.0 * LOGITS * shape.vocabulary


def _component_bytes(job: Job, shape: ModelShape) -> float:
    ranks: list[Any] = [getattr(finding.explain, "rank", 0) for finding in job.findings.values()]
    return 4.0 * shape.layers * min(max(ranks, default=0), shape.width // 2) * shape.width


def _questions(job: Job, shapes: list[ModelShape]) -> list[str]:
    """A line an annotator that asks a chat model: how many questions, where the store answers none."""
    lines = []
    for finding in job.findings.values():
        annotator: Any = getattr(finding.explain, "annotator", None)
        if hasattr(annotator, "asks"):
            concepts = sum(shape.layers * min(finding.explain.rank, shape.width // 2) for shape in shapes)
            lines.append(
                f"at most {annotator.asks(concepts)} questions to {annotator.model}; a run may ask {annotator.budget}"
            )
        judge: Any = getattr(finding, "ratings", None)
        if hasattr(judge, "asks"):
            asked = judge.asks(len(job.prompts))
            lines.append(f"at most {asked} questions about responses to {judge.model}; a run may ask {judge.budget}")
    return lines


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
