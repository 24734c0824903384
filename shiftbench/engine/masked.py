"""What a response's probability becomes where embeddings of prompt tokens are zero: many masks of one prompt together.

A position in front of the first masked token is as it was, so only those behind it are computed again, over the keys
and values of one plain pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from shiftbench.engine.decoding import feed_forward, logits
from shiftbench.engine.forward import apply, forward, heads_normed, mix, normed, rotated, seen
from shiftbench.engine.importance import LOGITS, Tokens
from shiftbench.engine.kept import Rotary
from shiftbench.engine.probability import check_finite
from shiftbench.engine.product import STEP, padded
from shiftbench.engine.schedule import most_rows
from shiftbench.models.block import Block, Transformer


@dataclass(frozen=True)
class Plain:
    """A layer's keys, values and angles where nothing is masked."""

    block: Block
    key_KTE: Tensor
    value_KTE: Tensor
    rotary: Rotary


@torch.no_grad()
def log_probabilities(model: Transformer, tokens: Tokens, masked_BP: Tensor, memory: int) -> Tensor:
    """log_BR: log p of each response token, in the model's dtype, where the embeddings of masked tokens are zero.

    masked_BP: bool, a row a mask. A learned position's embedding stays. memory: bytes that may be taken at a time.
    Raises NotFinite where logits are not finite.
    """
    first, last = tokens.predicting
    embedding_TD = padded(tokens.embedding_TD[:last])  # positions that nobody sees, behind all others
    position_TD = _positions(model, embedding_TD)
    layers = _plain(model, embedding_TD if position_TD is None else embedding_TD + position_TD)
    zeroed_BT = torch.zeros(len(masked_BP), len(embedding_TD), dtype=torch.bool, device=embedding_TD.device)
    zeroed_BT[:, tokens.prompt] = masked_BP.to(zeroed_BT.device)
    log_BR = embedding_TD.new_empty(len(masked_BP), last - first)
    rows = _rows(model.blocks, len(embedding_TD), memory)
    for part_C, start in _parts(_starts(zeroed_BT, first), len(embedding_TD), rows):
        x_CMD = embedding_TD[start:].masked_fill(zeroed_BT[part_C, start:, None], 0.0)
        x_CMD = x_CMD if position_TD is None else x_CMD + position_TD[start:]
        top_CMD = _through(layers, x_CMD, start)
        predicting_CRD = top_CMD[:, first - start : last - start]
        log_BR[part_C] = _log_probabilities(model, predicting_CRD, tokens.response_R).to(log_BR.device)
    check_finite(log_BR, "of the response under masks of the prompt")
    return log_BR


def _positions(model: Transformer, embedding_TD: Tensor) -> Tensor | None:
    if model.position_TD is None:
        return None
    known_TD = model.position_TD[: len(embedding_TD)].to(embedding_TD)
    return torch.nn.functional.pad(known_TD, (0, 0, 0, len(embedding_TD) - len(known_TD)))


def _plain(model: Transformer, x_TD: Tensor) -> list[Plain]:
    layers = []
    for block in model.blocks:  # one at a time, so that of each only this much is kept
        (kept,), x_TD = forward(model, x_TD, [block])
        layers.append(Plain(block, kept.attention.key_KTE, kept.attention.value_KTE, kept.rotary))
    return layers


def _starts(zeroed_BT: Tensor, first: int) -> Tensor:
    """start_B: the first position that a mask changes, at the latest the first that predicts."""
    place_T = torch.arange(zeroed_BT.shape[1], device=zeroed_BT.device)
    return torch.where(zeroed_BT, place_T, first).amin(1).cpu()


def _parts(start_B: Tensor, tokens: int, rows: int) -> Iterator[tuple[Tensor, int]]:
    """(masks, the position from which they are computed): those that begin near each other, of about so many rows.

    From a multiple of STEP on, so that products meet few numbers of rows.
    """
    order_B = start_B.argsort(stable=True)
    begin = 0
    while begin < len(order_B):
        start = int(start_B[order_B[begin]]) // STEP * STEP
        count = max(1, rows // (tokens - start))
        yield order_B[begin : begin + count], start
        begin += count


def _rows(blocks: Sequence[Block], tokens: int, memory: int) -> int:
    weight = blocks[0].feed_forward.up.weight_IO
    heads = max(block.attention.heads for block in blocks)
    each = weight.element_size() * (3 * heads * tokens + 3 * weight.shape[1] + 8 * weight.shape[0])
    return max(1, min(most_rows(weight), memory // each))


def _through(layers: Sequence[Plain], x_CMD: Tensor, start: int) -> Tensor:
    """The last layer's output at the positions from start on."""
    shape = x_CMD.shape
    x_ND = x_CMD.flatten(0, 1)
    for layer in layers:
        block = layer.block
        x_ND = x_ND.to(layer.key_KTE.device)
        mixed_ND = _attention(layer, normed(block.before_attention, x_ND)[0], shape[0], start)
        x_ND = x_ND + normed(block.after_attention, mixed_ND)[0]
        inner_ND = feed_forward(block.feed_forward, normed(block.before_feed_forward, x_ND)[0])
        x_ND = x_ND + normed(block.after_feed_forward, inner_ND)[0]
    return x_ND.view(shape)


def _attention(layer: Plain, h_ND: Tensor, masks: int, start: int) -> Tensor:
    spec, rows = layer.block.attention, len(h_ND) // masks
    position_N = torch.arange(start, start + rows, device=h_ND.device).repeat(masks)
    turn = None if layer.rotary is None else (layer.rotary[0][position_N], layer.rotary[1][position_N])
    query_NO, _ = heads_normed(spec.query_norm, apply(spec.query, h_ND), spec.head_width)
    key_NO, _ = heads_normed(spec.key_norm, apply(spec.key, h_ND), spec.head_width)
    query_NHE = rotated(query_NO.unflatten(1, (spec.heads, -1)), turn)
    key_NKE = rotated(key_NO.unflatten(1, (spec.key_heads, -1)), turn)
    value_NKE = apply(spec.value, h_ND).unflatten(1, (spec.key_heads, -1))
    key_CKTE, value_CKTE = (
        torch.cat([plain[:, :start].expand(masks, -1, -1, -1), own.unflatten(0, (masks, -1)).transpose(1, 2)], 2)
        for plain, own in ((layer.key_KTE, key_NKE), (layer.value_KTE, value_NKE))
    )
    query_CKGME = query_NHE.view(masks, rows, spec.key_heads, -1, spec.head_width).permute(0, 2, 3, 1, 4)
    seen_MT = seen(spec, rows, start + rows, h_ND.device)
    mixed_CKGME, *_ = mix(spec, query_CKGME, key_CKTE, value_CKTE, seen_MT)
    return apply(spec.out, mixed_CKGME.permute(0, 3, 1, 2, 4).reshape(len(h_ND), -1))


def _log_probabilities(model: Transformer, top_CRD: Tensor, response_R: Tensor) -> Tensor:
    """log_CR, the logits of a few rows in memory at a time."""
    target_N = response_R.repeat(len(top_CRD))
    found = []
    for top_ND, y_N in zip(top_CRD.flatten(0, 1).split(LOGITS), target_N.split(LOGITS), strict=True):
        logit_NV = logits(model, top_ND)
        of_target_N1 = logit_NV.gather(1, y_N.to(logit_NV.device)[:, None])
        found.append(of_target_N1[:, 0] - logit_NV.logsumexp(-1))
    return torch.cat(found).view(top_CRD.shape[:2])
