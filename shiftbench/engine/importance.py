"""Importance of every prompt token for every response token (docs/mathematics.md, "How it is computed").

Forward mode computes one tangent for each prompt token, reverse mode one cotangent for each response token. The mode
with fewer derivatives is taken, reverse mode where both have as many; its derivatives are the main ones. Where it saves
work, some derivatives of the other mode are computed too: both kinds then end at a cut (cut.py) and need not pass all
positions. Shape suffixes and the order in which to read: see shiftbench/engine/__init__.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor

from shiftbench.engine.cut import CutBuffer
from shiftbench.engine.forward import apply_linear, apply_norm, soft_cap
from shiftbench.engine.part_derivatives import norm_vjp
from shiftbench.engine.probability import Objective, objective_gradient
from shiftbench.engine.product import Precision, pad_rows, product
from shiftbench.engine.row_layout import RowLayout
from shiftbench.engine.schedule import (
    Chunk,
    Plan,
    count_opposite,
    cut_bytes,
    plan,
    run_chunks,
    split_items,
    split_layers,
)
from shiftbench.engine.segment_derivatives import (
    LastLayerCotangents,
    jvp,
    jvp_to_cut,
    one_row_each,
    vjp,
    vjp_to_cut,
)
from shiftbench.engine.segmented_forward import SegmentedForward
from shiftbench.models.block import Transformer

LOGITS = 64  # at most so many rows of logits are in memory at once


@dataclass(frozen=True)
class Tokens:
    """The model's input: prefix, prompt and response, one behind the other.

    embedding_TD: the input embeddings of all their tokens, without learned position embeddings. prompt: the range of
    the prompt's positions. response_R: int64 token ids; not empty. other_direction_PD: what gradients by the prompt's
    embeddings are multiplied by; None for these embeddings themselves.
    """

    embedding_TD: Tensor
    prompt: slice
    response_R: Tensor
    other_direction_PD: Tensor | None = None

    @property
    def embedding_PD(self) -> Tensor:
        """The input embeddings of the prompt's tokens."""
        return self.embedding_TD[self.prompt]

    @property
    def direction_PD(self) -> Tensor:
        """What gradients by the prompt's embeddings are multiplied by, as `other_direction_PD` describes."""
        return self.embedding_PD if self.other_direction_PD is None else self.other_direction_PD

    @property
    def predicting(self) -> tuple[int, int]:
        """(first, stop) of the positions that predict response tokens; each is one before the predicted token's."""
        return self.prompt.stop - 1, self.prompt.stop - 1 + len(self.response_R)


@torch.no_grad()
def importance(
    model: Transformer,
    tokens: Tokens,
    memory: int,
    precision: Precision = Precision.FLOAT32,
    objective: Objective = Objective.PROBABILITY,
) -> tuple[Tensor, Tensor]:
    """(importance_PR, probability_R) in the model's dtype; importance_PR[n, r] = d p_r / d e_n . e_n.

    p_r is the probability of response token r, and e_n the input embedding of prompt token n. objective: what of the
    response token takes the place of p_r in the gradient. tokens.direction_PD takes the place of e_n as the factor; it
    is e_n itself unless the tokens say otherwise. probability_R is p_r in any case. precision: of the
    derivatives' products (Precision); the forward pass stays in the model's dtype. memory: bytes for forward caches and
    derivatives, which are exceeded where they are too few (schedule.plan). With less memory parts of the forward pass
    are computed again; the result changes by rounding only. Raises NotFinite where logits that predict a response token
    contain NaN or +inf.
    """
    prompt, response = len(tokens.embedding_PD), len(tokens.response_R)
    mode = _forward_mode if prompt < response else _reverse_mode
    opposite = count_opposite(model.blocks, prompt, response, tokens.predicting[1], memory)
    return mode(model, tokens, memory, precision, objective, opposite)


@torch.no_grad()
def total(
    model: Transformer,
    tokens: Tokens,
    memory: int,
    precision: Precision = Precision.FLOAT32,
    objective: Objective = Objective.PROBABILITY,
) -> tuple[Tensor, Tensor]:
    """(importance_P, probability_R): each prompt token's importance, summed over response tokens; their probabilities.

    Besides the forward pass it costs about as much as one derivative, because reverse mode takes the cotangent of the
    sum through the layers. Arguments and errors are those of `importance`.
    """
    total_P1, probability_R = _reverse_mode(model, tokens, memory, precision, objective, opposite=0, summed=True)
    return total_P1[:, 0], probability_R


class _Runner:
    """Takes derivatives of one text through the layers of a model, within the memory.

    memory: bytes. stored: how many of them the rows stored at the cut take. lengths: the most rows of each main
    derivative.
    """

    def __init__(
        self,
        model: Transformer,
        tokens: Tokens,
        memory: int,
        stored: int,
        precision: Precision,
        objective: Objective,
        lengths: Sequence[int],
    ) -> None:
        self._model, self._tokens, self.precision, self._objective = model, tokens, precision, objective
        x_TD = tokens.embedding_TD[: tokens.predicting[1]]  # the last response token predicts no token of the text
        if model.position_TD is not None:
            x_TD = x_TD + model.position_TD[: len(x_TD)].to(x_TD)
        # Padding positions behind all others make the length a multiple of STEP. No derivative reaches them.
        x_TD = pad_rows(x_TD)
        self.plan = plan(model.blocks, len(x_TD), lengths, memory, stored)
        self.forward = SegmentedForward(model, x_TD, split_layers(model.blocks, len(x_TD), self.plan.cache_bytes))

    def run(self, step: Callable[..., Chunk], chunks: list[Chunk], segments: Iterable[int]) -> list[Chunk]:
        """The chunks, in order, after `step` took them through the segments in the order of `segments`.

        step: a function of segment_derivatives.py, of which all arguments but the chunk, `layers` and `precision` are
        bound. The list `chunks` is emptied; without segments it is returned as it is.
        """
        for segment in segments:
            layers = self.forward.layers(segment)
            bound = partial(step, layers=layers, precision=self.precision)
            with self.precision.torch_setting():
                chunks = run_chunks(bound, chunks, self.plan.threads)
            del layers, bound  # so that this segment's cache is freed before the next segment's is computed
        return chunks

    @property
    def segments(self) -> range:
        """Numbers of the segments, from the lowest layers up."""
        return range(len(self.forward))

    @cached_property
    def directions(self) -> tuple[Tensor, Tensor]:
        """(direction_RD, probability_R) of the response, which `top_directions` describes."""
        first, last = self._tokens.predicting
        return top_directions(self._model, self.forward.output()[first:last], self._tokens.response_R, self._objective)


def _chunks(origins: range, division: Plan, lengths: Sequence[int], rows_ND: Tensor) -> list[Chunk]:
    """Chunks of new derivatives, each of which has one row, at its origin.

    origins: the derivatives' origins (Chunk.origins). division: the sizes of chunks. lengths: the most rows that each
    derivative will have in any layer; the size of a chunk is counted in these rows. rows_ND: each derivative's row.
    """
    found = []
    for part in split_items(lengths, division.chunk_rows, division.min_chunk_rows):
        layout = one_row_each(origins[part])
        found.append(Chunk(layout.starts, layout, layout.pad(rows_ND[part])))
    return found


def _forward_mode(
    model: Transformer, tokens: Tokens, memory: int, precision: Precision, objective: Objective, opposite: int
) -> tuple[Tensor, Tensor]:
    """`importance` by one tangent for each prompt token, which is zero before the token's position.

    opposite: the cotangents of the last `opposite` response tokens run first. The cut is the first position that
    predicts one of these tokens, and the tangents end before it. Where `opposite` is 0, the cut is behind the last
    position that predicts a response token.
    """
    first, last = tokens.predicting
    cut = last - opposite
    origins = range(tokens.prompt.start, tokens.prompt.stop)
    lengths = [cut - n for n in origins]
    stored = cut_bytes(model.blocks, opposite, forward=True)
    runner = _Runner(model, tokens, memory, stored, precision, objective, lengths)
    buffer = None
    if opposite:
        buffer = CutBuffer(RowLayout((cut,) * opposite, tuple(range(cut + 1, last + 1))))
        direction_XD = runner.directions[0][cut - first :]
        chunks = _chunks(range(cut, last), runner.plan, range(1, opposite + 1), direction_XD)
        runner.run(partial(vjp_to_cut, cut=cut, opposite=buffer), chunks, reversed(runner.segments))
    chunks = _chunks(origins, runner.plan, lengths, tokens.direction_PD)
    step = partial(jvp, cut=cut, last=last, opposite=buffer)
    chunks = runner.run(partial(step, last_layer=None), chunks, runner.segments[:-1])
    direction_RD, probability_R = runner.directions
    number, layer = runner.forward.layers(runner.segments[-1])[-1]
    with precision.torch_setting():
        last_layer = LastLayerCotangents.compute(number, layer, first, direction_RD[: cut - first], precision)
    del layer
    chunks = runner.run(partial(step, last_layer=last_layer), chunks, runner.segments[-1:])
    return torch.cat([_join(chunk.rows_ND, chunk.cross_CX) for chunk in chunks]), probability_R


def _reverse_mode(
    model: Transformer,
    tokens: Tokens,
    memory: int,
    precision: Precision,
    objective: Objective,
    opposite: int,
    summed: bool = False,
) -> tuple[Tensor, Tensor]:
    """`importance` by one cotangent for each response token, which is zero behind the position that predicts it.

    opposite: the tangents of the first `opposite` prompt tokens run first. The cut is the position behind these tokens,
    and it is the first position at which the cotangents have rows. Where `opposite` is 0, the cut is the first position
    of the prompt.
    summed: take one cotangent, that of the sum of all objectives, for `total`; the result is importance_P1.
    """
    first, last = tokens.predicting
    prompt = tokens.prompt
    cut = prompt.start + opposite
    origins = range(last - 1, last) if summed else range(first, last)
    lengths = [t + 1 - cut for t in origins]
    stored = cut_bytes(model.blocks, opposite, forward=False)
    runner = _Runner(model, tokens, memory, stored, precision, objective, lengths)
    buffer, factor_PD = None, tokens.direction_PD
    if opposite:
        front = range(prompt.start, cut)
        buffer = CutBuffer(RowLayout(tuple(front), (cut,) * opposite))
        chunks = _chunks(front, runner.plan, range(opposite, 0, -1), factor_PD[:opposite])
        runner.run(
            partial(jvp_to_cut, cut=cut, last_layer=len(model.blocks) - 1, opposite=buffer), chunks, runner.segments
        )
    direction_RD, probability_R = runner.directions
    if summed:
        chunks = [_sum_chunk(first, last, direction_RD)]
    else:
        chunks = _chunks(origins, runner.plan, lengths, direction_RD)
    chunks = runner.run(partial(vjp, prompt=prompt, cut=cut, opposite=buffer), chunks, reversed(runner.segments))
    behind_PD = factor_PD[opposite:]
    found = []
    for chunk in chunks:
        grad_CPD = chunk.unpadded().unflatten(0, (-1, len(behind_PD))).to(factor_PD)
        found.append(_join((grad_CPD * behind_PD).sum(-1), chunk.cross_CX, before=True))
    return torch.cat(found).T, probability_R


def _join(own_CN: Tensor, cross_CX: Tensor | None, before: bool = False) -> Tensor:
    """A chunk's importance for all tokens of the other kind, in the order of their positions: [C, N + X].

    own_CN: the importance for (or of) the N tokens that are on the chunk's side of the cut. cross_CX: the same numbers
    for the X tokens of the opposite derivatives; None without a cut. before: True where those X tokens are in front of
    the N tokens in the text.
    """
    if cross_CX is None:
        return own_CN
    cross_CX = cross_CX.to(own_CN)
    return torch.cat([cross_CX, own_CN] if before else [own_CN, cross_CX], dim=1)


def _sum_chunk(first: int, last: int, direction_RD: Tensor) -> Chunk:
    """The cotangent of the sum of the response tokens' objectives, as a chunk of one item.

    The item has a row at every position from `first` to `last` - 1, which predict the response; direction_RD are these
    rows.
    """
    layout = RowLayout((first,), (last,))
    return Chunk((last - 1,), layout, layout.pad(direction_RD))


def top_directions(
    model: Transformer, top_RD: Tensor, response_R: Tensor, objective: Objective = Objective.PROBABILITY
) -> tuple[Tensor, Tensor]:
    """(direction_RD, probability_R): the gradient of each response token's objective by the last layer's output.

    It is the gradient by the logits (probability.py), taken back through the output embeddings and the final norm.
    top_RD: the last layer's output at the positions that predict the response tokens. response_R: token ids. Raises
    NotFinite where these logits contain NaN or +inf.
    """
    top_RD = top_RD.to(model.final_norm.gain_D.device)
    hidden_RD, norm_cache = apply_norm(model.final_norm, top_RD)
    weight_DV = model.head.weight_IO
    hidden_RD, response_R = hidden_RD.to(weight_DV.device), response_R.to(weight_DV.device)
    directions, probabilities = [], []
    for h, y in zip(hidden_RD.split(LOGITS), response_R.split(LOGITS), strict=True):
        logit_RV, cap_slope_RV = soft_cap(apply_linear(model.head, h), model.head_cap)
        slope_RV, probability_R = objective_gradient(objective, logit_RV, y)
        if cap_slope_RV is not None:
            slope_RV *= cap_slope_RV
        directions.append(product(slope_RV, weight_DV.T))
        probabilities.append(probability_R)
    row_R = torch.arange(len(response_R), device=top_RD.device)
    return norm_vjp(norm_cache, torch.cat(directions).to(top_RD), row_R), torch.cat(probabilities)
