"""Importance of every prompt token for every response token, by the cheaper of forward and reverse mode (DESIGN 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from shiftbench.engine.kept import KeptBlock, apply, capped, forward, normed
from shiftbench.engine.modes import pull, push
from shiftbench.engine.probability import slopes
from shiftbench.engine.product import STEP, Precision, product
from shiftbench.engine.rows import Stretches
from shiftbench.engine.schedule import Chunk, parts, plan, segments, share
from shiftbench.engine.stages import norm_cotangent
from shiftbench.models.block import Transformer

LOGITS = 32  # response tokens whose logits are in memory at a time


@dataclass(frozen=True)
class Tokens:
    """Prefix, prompt and response as the model's input. prompt: the prompt's rows. response_R: ids, not empty."""

    embedding_TD: Tensor
    prompt: slice
    response_R: Tensor

    @property
    def embedding_PD(self) -> Tensor:
        return self.embedding_TD[self.prompt]

    @property
    def predicting(self) -> tuple[int, int]:
        """First and last position, exclusive, that predict a response token: each the one before it."""
        return self.prompt.stop - 1, self.prompt.stop - 1 + len(self.response_R)


@torch.no_grad()
def importance(
    model: Transformer, tokens: Tokens, memory: int, precision: Precision = Precision.FLOAT32
) -> tuple[Tensor, Tensor]:
    """(importance_PR, probability_R): d p_r / d e_n . e_n, in the model's dtype.

    precision: of the derivatives; the forward pass stays in the model's dtype.
    memory: bytes that kept activations and derivatives may take; with less, parts of the forward pass are made again.
    """
    # A derivative is pushed for each prompt token or pulled for each response token: the fewer the better.
    mode = _forward_mode if len(tokens.embedding_PD) < len(tokens.response_R) else _reverse_mode
    return mode(model, tokens, _padded(model, tokens), memory, precision)


@torch.no_grad()
def total(
    model: Transformer, tokens: Tokens, memory: int, precision: Precision = Precision.FLOAT32
) -> tuple[Tensor, Tensor]:
    """(importance_P, probability_R): importance summed over response tokens, at the cost of one derivative.

    The sum's derivative is pulled back as it is, where `importance` pulls each summand's. memory as there.
    """
    total_P1, probability_R = _reverse_mode(model, tokens, _padded(model, tokens), memory, precision, summed=True)
    return total_P1[:, 0], probability_R


def _padded(model: Transformer, tokens: Tokens) -> Tensor:
    x_TD = tokens.embedding_TD[: tokens.predicting[1]]  # the last response token predicts nothing that is asked for
    if model.position_TD is not None:
        x_TD = x_TD + model.position_TD[: len(x_TD)].to(x_TD)
    # Positions that nobody's derivative goes through, behind all others, for the sake of STEP.
    return torch.nn.functional.pad(x_TD, (0, 0, 0, -len(x_TD) % STEP))


def _chunks(born: range, cut: Sequence[slice], rows_ND: Tensor) -> list[Chunk]:
    """Derivatives where they begin, one row each; cut: which go together."""
    found = []
    for part in cut:
        starts = tuple(born[part])
        at = Stretches(starts, tuple(n + 1 for n in starts))
        own_ND = at.empty(rows_ND, rows_ND.shape[1])
        own_ND[: len(starts)] = rows_ND[part]
        found.append(Chunk(starts, at, own_ND))
    return found


def _forward_mode(
    model: Transformer, tokens: Tokens, x_TD: Tensor, memory: int, precision: Precision
) -> tuple[Tensor, Tensor]:
    """The tangent of prompt token n is zero before position n."""
    first, last = tokens.predicting
    born = range(tokens.prompt.start, tokens.prompt.stop)
    lengths = [last - n for n in born]
    how = plan(model.blocks, len(x_TD), lengths, memory)
    chunks = _chunks(born, parts(lengths, how.rows), tokens.embedding_PD)
    for segment in segments(model.blocks, len(x_TD), how.kept):
        kept, x_TD = forward(model, x_TD, segment)
        step = partial(_pushed, kept=kept, model=model, precision=precision, first=first, last=last)
        with precision.in_force():
            chunks = share(step, chunks, how.threads)
        del kept, step  # before the next segment's is made
    direction_RD, probability_R = top_directions(model, x_TD[first:last], tokens.response_R)
    tops = [chunk.items().unflatten(0, (-1, last - first)) for chunk in chunks]
    return torch.cat([(top_CRD * direction_RD.to(top_CRD)).sum(-1) for top_CRD in tops]), probability_R


def _pushed(
    chunk: Chunk, kept: Sequence[KeptBlock], model: Transformer, precision: Precision, first: int, last: int
) -> Chunk:
    at, rows_ND = chunk.at, chunk.rows_ND
    stops = (last,) * len(chunk.born)
    all_behind, predicting = Stretches(chunk.born, stops), Stretches((first,) * len(stops), stops)
    for layer in kept:
        target = predicting if layer.block is model.blocks[-1] else all_behind  # of the last only these matter
        rows_ND = push(layer, rows_ND.to(layer.attention.key_KTE.device), at, target, precision)
        at = target
    return Chunk(chunk.born, at, rows_ND)


def _reverse_mode(
    model: Transformer, tokens: Tokens, x_TD: Tensor, memory: int, precision: Precision, summed: bool = False
) -> tuple[Tensor, Tensor]:
    """The cotangent of a response token is zero behind the position that predicts it. summed: that of their sum."""
    first, last = tokens.predicting
    born = range(last - 1, last) if summed else range(first, last)
    lengths = [t + 1 - tokens.prompt.start for t in born]
    how = plan(model.blocks, len(x_TD), lengths, memory)
    runs = segments(model.blocks, len(x_TD), how.kept)
    entering, kept = [], list[KeptBlock]()
    for segment in runs:
        entering.append(x_TD)
        kept, x_TD = forward(model, x_TD, segment, keep=segment is runs[-1])
    direction_RD, probability_R = top_directions(model, x_TD[first:last], tokens.response_R)
    chunks = [_summed(first, last, direction_RD)] if summed else _chunks(born, parts(lengths, how.rows), direction_RD)
    for segment, enters_TD in zip(reversed(runs), reversed(entering), strict=True):
        if segment is not runs[-1]:  # whose forward pass is still kept
            kept, _ = forward(model, enters_TD, segment)
        step = partial(_pulled, kept=kept, model=model, precision=precision, prompt=tokens.prompt)
        with precision.in_force():
            chunks = share(step, chunks, how.threads)
        del kept, step  # before the segment's in front is made
    embedding_PD = tokens.embedding_PD
    bottoms = [chunk.items().unflatten(0, (-1, len(embedding_PD))).to(embedding_PD) for chunk in chunks]
    return torch.cat([(bottom_CPD * embedding_PD).sum(-1) for bottom_CPD in bottoms]).T, probability_R


def _summed(first: int, last: int, direction_RD: Tensor) -> Chunk:
    """The derivative of a sum of probabilities: one item that begins at all positions that predict."""
    at = Stretches((first,), (last,))
    rows_ND = at.empty(direction_RD, direction_RD.shape[1])
    rows_ND[: last - first] = direction_RD
    return Chunk((last - 1,), at, rows_ND)


def _pulled(chunk: Chunk, kept: Sequence[KeptBlock], model: Transformer, precision: Precision, prompt: slice) -> Chunk:
    at, rows_ND = chunk.at, chunk.rows_ND
    starts = (prompt.start,) * len(chunk.born)
    all_before = Stretches(starts, tuple(t + 1 for t in chunk.born))
    of_prompt = Stretches(starts, (prompt.stop,) * len(starts))
    for layer in reversed(kept):
        target = of_prompt if layer.block is model.blocks[0] else all_before  # into the first only these matter
        rows_ND = pull(layer, rows_ND.to(layer.attention.key_KTE.device), at, target, precision)
        at = target
    return Chunk(chunk.born, at, rows_ND)


def top_directions(model: Transformer, top_RD: Tensor, response_R: Tensor) -> tuple[Tensor, Tensor]:
    """(direction_RD, probability_R): gradient of each response token's probability by the last layer's output.

    The slopes by the logits times the output embeddings, through the final norm.
    """
    top_RD = top_RD.to(model.final_norm.gain_D.device)
    hidden_RD, kept = normed(model.final_norm, top_RD)
    weight_DV = model.head.weight_IO
    hidden_RD, response_R = hidden_RD.to(weight_DV.device), response_R.to(weight_DV.device)
    directions, probabilities = [], []
    for h, y in zip(hidden_RD.split(LOGITS), response_R.split(LOGITS), strict=True):
        logit_RV, cap_slope_RV = capped(apply(model.head, h), model.head_cap)
        slope_RV, probability_R = slopes(logit_RV, y)
        if cap_slope_RV is not None:
            slope_RV *= cap_slope_RV
        directions.append(product(slope_RV, weight_DV.T))
        probabilities.append(probability_R)
    place_R = torch.arange(len(response_R), device=top_RD.device)
    return norm_cotangent(kept, torch.cat(directions).to(top_RD), place_R), torch.cat(probabilities)
