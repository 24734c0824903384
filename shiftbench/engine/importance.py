"""Importance of every prompt token for every response token (docs/mathematics.md).

By tangents of the prompt tokens or cotangents of the response tokens, whichever are fewer, and as many of the others as
spare them the longest part of their way (border.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor

from shiftbench.engine.border import Border
from shiftbench.engine.forward import apply, capped, normed
from shiftbench.engine.passes import Passes
from shiftbench.engine.probability import slopes
from shiftbench.engine.product import Precision, padded, product
from shiftbench.engine.rows import Stretches
from shiftbench.engine.schedule import Chunk, Plan, border_bytes, crossing, parts, plan, segments, share
from shiftbench.engine.stages import norm_cotangent
from shiftbench.engine.steps import Top, each_one, pulled, pulled_to, pushed, pushed_to
from shiftbench.models.block import Transformer

LOGITS = 64  # response tokens whose logits are in memory at a time


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
    # A derivative is pushed for each prompt token or pulled for each response token: the fewer the better. As many of
    # the other kind as pay meet them at a border.
    prompt, response = len(tokens.embedding_PD), len(tokens.response_R)
    mode = _forward_mode if prompt < response else _reverse_mode
    count = crossing(model.blocks, prompt, response, tokens.predicting[1], memory)
    return mode(model, tokens, memory, precision, count)


@torch.no_grad()
def total(
    model: Transformer, tokens: Tokens, memory: int, precision: Precision = Precision.FLOAT32
) -> tuple[Tensor, Tensor]:
    """(importance_P, probability_R): importance summed over response tokens, at the cost of one derivative.

    The sum's derivative is pulled back as it is, where `importance` pulls each summand's. memory as there.
    """
    total_P1, probability_R = _reverse_mode(model, tokens, memory, precision, few=0, summed=True)
    return total_P1[:, 0], probability_R


class _Way:
    """Through the layers of a model, for a prompt's derivatives."""

    def __init__(
        self,
        model: Transformer,
        tokens: Tokens,
        memory: int,
        border: int,
        precision: Precision,
        lengths: Sequence[int],
    ) -> None:
        self._model, self._tokens, self.precision = model, tokens, precision
        x_TD = tokens.embedding_TD[: tokens.predicting[1]]  # the last response token predicts nothing asked for
        if model.position_TD is not None:
            x_TD = x_TD + model.position_TD[: len(x_TD)].to(x_TD)
        # Positions that nobody's derivative goes through, behind all others, for the sake of STEP.
        x_TD = padded(x_TD)
        self.how = plan(model.blocks, len(x_TD), lengths, memory, border)
        self.passes = Passes(model, x_TD, segments(model.blocks, len(x_TD), self.how.kept))

    def through(self, step: Callable[..., Chunk], chunks: list[Chunk], runs: Iterable[int]) -> list[Chunk]:
        """The step over every chunk and each of these runs of layers."""
        for run in runs:
            layers = self.passes.of(run)
            one = partial(step, layers=layers, precision=self.precision)
            with self.precision.in_force():
                chunks = share(one, chunks, self.how.threads)
            del layers, one  # before the next run's is made
        return chunks

    @property
    def runs(self) -> range:
        """Of layers, upward."""
        return range(len(self.passes))

    @cached_property
    def directions(self) -> tuple[Tensor, Tensor]:
        """top_directions of the response, and probabilities."""
        first, last = self._tokens.predicting
        return top_directions(self._model, self.passes.top()[first:last], self._tokens.response_R)


def _chunks(born: range, how: Plan, lengths: Sequence[int], rows_ND: Tensor) -> list[Chunk]:
    """Derivatives where they begin, one row each, so that chunks get the plan's rows; lengths: of each at most."""
    found = []
    for part in parts(lengths, how.rows, how.fewest):
        at = each_one(born[part])
        found.append(Chunk(at.starts, at, at.filled(rows_ND[part])))
    return found


def _forward_mode(
    model: Transformer, tokens: Tokens, memory: int, precision: Precision, few: int
) -> tuple[Tensor, Tensor]:
    """The tangent of prompt token n is zero before position n.

    few: of the last response tokens, whose cotangents come to the border first; the tangents end there.
    """
    first, last = tokens.predicting
    cut = last - few
    born = range(tokens.prompt.start, tokens.prompt.stop)
    lengths = [cut - n for n in born]
    way = _Way(model, tokens, memory, border_bytes(model.blocks, few, forward=True), precision, lengths)
    border = None
    if few:
        border = Border(Stretches((cut,) * few, tuple(range(cut + 1, last + 1))))
        chunks = _chunks(range(cut, last), way.how, range(1, few + 1), way.directions[0][cut - first :])
        way.through(partial(pulled_to, cut=cut, border=border), chunks, reversed(way.runs))
    chunks = _chunks(born, way.how, lengths, tokens.embedding_PD)
    step = partial(pushed, cut=cut, last=last, border=border)
    chunks = way.through(partial(step, top=None), chunks, way.runs[:-1])
    direction_RD, probability_R = way.directions
    number, layer = way.passes.of(way.runs[-1])[-1]
    with precision.in_force():
        top = Top.of(number, layer, first, direction_RD[: cut - first], precision)
    del layer
    chunks = way.through(partial(step, top=top), chunks, way.runs[-1:])
    return torch.cat([_joined(chunk.rows_ND, chunk.met_CB) for chunk in chunks]), probability_R


def _reverse_mode(
    model: Transformer, tokens: Tokens, memory: int, precision: Precision, few: int, summed: bool = False
) -> tuple[Tensor, Tensor]:
    """The cotangent of a response token is zero behind the position that predicts it. summed: that of their sum.

    few: of the first prompt tokens, whose tangents come to the border first; the cotangents end there.
    """
    first, last = tokens.predicting
    prompt = tokens.prompt
    cut = prompt.start + few
    born = range(last - 1, last) if summed else range(first, last)
    lengths = [t + 1 - cut for t in born]
    way = _Way(model, tokens, memory, border_bytes(model.blocks, few, forward=False), precision, lengths)
    border, embedding_PD = None, tokens.embedding_PD
    if few:
        front = range(prompt.start, cut)
        border = Border(Stretches(tuple(front), (cut,) * few))
        chunks = _chunks(front, way.how, range(few, 0, -1), embedding_PD[:few])
        way.through(partial(pushed_to, cut=cut, highest=len(model.blocks) - 1, border=border), chunks, way.runs)
    direction_RD, probability_R = way.directions
    chunks = [_summed(first, last, direction_RD)] if summed else _chunks(born, way.how, lengths, direction_RD)
    chunks = way.through(partial(pulled, prompt=prompt, cut=cut, border=border), chunks, reversed(way.runs))
    behind_PD = embedding_PD[few:]
    found = []
    for chunk in chunks:
        bottom_CPD = chunk.items().unflatten(0, (-1, len(behind_PD))).to(embedding_PD)
        found.append(_joined((bottom_CPD * behind_PD).sum(-1), chunk.met_CB, before=True))
    return torch.cat(found).T, probability_R


def _joined(own_CX: Tensor, met_CB: Tensor | None, before: bool = False) -> Tensor:
    """Columns of importance that derivatives found themselves, and those that they met at the border."""
    if met_CB is None:
        return own_CX
    met_CB = met_CB.to(own_CX)
    return torch.cat([met_CB, own_CX] if before else [own_CX, met_CB], dim=1)


def _summed(first: int, last: int, direction_RD: Tensor) -> Chunk:
    """The derivative of a sum of probabilities: one item that begins at all positions that predict."""
    at = Stretches((first,), (last,))
    return Chunk((last - 1,), at, at.filled(direction_RD))


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
