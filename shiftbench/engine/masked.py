"""Log-probabilities of a response where embeddings of prompt tokens are zero, for many masks of one prompt together.

A mask changes nothing at positions before the first masked token. So one unmasked pass computes the keys and values of
all positions. For each mask the positions from its first masked token on are computed again, and with them those
between the beginning of its batch (`_batches`) and that token.
Shape suffixes: see shiftbench/engine/__init__.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from shiftbench.engine.decoding import KVCache, feed_forward, logits
from shiftbench.engine.forward import apply_linear, apply_norm, attend, forward, norm_heads, rotate, seen_mask
from shiftbench.engine.importance import LOGITS, Tokens
from shiftbench.engine.probability import check_finite
from shiftbench.engine.product import STEP, pad_rows
from shiftbench.engine.schedule import max_product_rows
from shiftbench.models.block import Block, Transformer


@torch.no_grad()
def log_probabilities(model: Transformer, tokens: Tokens, masked_BP: Tensor, memory: int) -> Tensor:
    """log_BR: log-probability of each response token, in the model's dtype, where embeddings of masked tokens are zero.

    masked_BP: bool, one mask in each row, True for a masked prompt token. Where positions are learned, the embedding of
    a masked token's position is kept. memory: bytes for the masks that are computed together; one mask is computed even
    where it needs more. Raises NotFinite where a log-probability is not finite.
    """
    first, last = tokens.predicting
    embedding_TD = pad_rows(tokens.embedding_TD[:last])  # padding is behind all positions, so none of them sees it
    position_TD = _position_embeddings(model, embedding_TD)
    caches = _unmasked_caches(model, embedding_TD if position_TD is None else embedding_TD + position_TD)
    zeroed_BT = torch.zeros(len(masked_BP), len(embedding_TD), dtype=torch.bool, device=embedding_TD.device)
    zeroed_BT[:, tokens.prompt] = masked_BP.to(zeroed_BT.device)
    log_BR = embedding_TD.new_empty(len(masked_BP), last - first)
    rows = _max_rows(model.blocks, len(embedding_TD), memory)
    for part_C, start in _batches(_first_masked(zeroed_BT, first), len(embedding_TD), rows):
        x_CMD = embedding_TD[start:].masked_fill(zeroed_BT[part_C, start:, None], 0.0)
        x_CMD = x_CMD if position_TD is None else x_CMD + position_TD[start:]
        top_CMD = _run_masks(caches, x_CMD, start)
        predicting_CRD = top_CMD[:, first - start : last - start]
        log_BR[part_C] = _log_probabilities(model, predicting_CRD, tokens.response_R).to(log_BR.device)
    check_finite(log_BR, "of the response under masks of the prompt")
    return log_BR


def _position_embeddings(model: Transformer, embedding_TD: Tensor) -> Tensor | None:
    """The learned position embeddings [T, D] of all positions; None where the model has none.

    They are zero for padding positions beyond the last position that the model has.
    """
    if model.position_TD is None:
        return None
    known_TD = model.position_TD[: len(embedding_TD)].to(embedding_TD)
    return torch.nn.functional.pad(known_TD, (0, 0, 0, len(embedding_TD) - len(known_TD)))


def _unmasked_caches(model: Transformer, x_TD: Tensor) -> list[KVCache]:
    """Keys and values of every layer where no token is masked. x_TD: the first layer's input."""
    caches = []
    for block in model.blocks:  # one layer at a time, so that the rest of its forward cache is freed at once
        (cache,), x_TD = forward(model, x_TD, [block])
        caches.append(KVCache(block, cache.attention.key_KTE, cache.attention.value_KTE, cache.rotary))
    return caches


def _first_masked(zeroed_BT: Tensor, first: int) -> Tensor:
    """start_B, int64 on the CPU: the first masked position of each mask; `first` for a mask of no token.

    first: the first position that predicts a response token. It is the last one that can be masked.
    """
    place_T = torch.arange(zeroed_BT.shape[1], device=zeroed_BT.device)
    return torch.where(zeroed_BT, place_T, first).amin(1).cpu()


def _batches(start_B: Tensor, tokens: int, rows: int) -> Iterator[tuple[Tensor, int]]:
    """Yields (indices of some masks, the position from which they are computed) until every mask was in a batch.

    start_B: the first masked position of each mask. The batches take the masks with the smallest start first. A batch
    computes at most `rows` rows (one mask at one position each), or one mask. Its position is the smallest start of its
    masks, rounded down to a multiple of STEP, so that products have only a few different numbers of rows. tokens: the
    number of positions of the text.
    """
    order_B = start_B.argsort(stable=True)
    begin = 0
    while begin < len(order_B):
        start = int(start_B[order_B[begin]]) // STEP * STEP
        count = max(1, rows // (tokens - start))
        yield order_B[begin : begin + count], start
        begin += count


def _max_rows(blocks: Sequence[Block], tokens: int, memory: int) -> int:
    """The most rows that are computed together: what `memory` bytes hold, up to max_product_rows, but at least 1.

    A row is one mask at one position. tokens: the number of positions of the text.
    """
    weight = blocks[0].feed_forward.up.weight_IO
    heads = max(block.attention.heads for block in blocks)
    each = weight.element_size() * (3 * heads * tokens + 3 * weight.shape[1] + 8 * weight.shape[0])
    return max(1, min(max_product_rows(weight), memory // each))


def _run_masks(caches: Sequence[KVCache], x_CMD: Tensor, start: int) -> Tensor:
    """The last layer's output [C, M, D] of C masks, at the M positions from `start` to the end of the text.

    x_CMD: the first layer's input there, with masked embeddings.
    """
    shape = x_CMD.shape
    x_ND = x_CMD.flatten(0, 1)
    for cache in caches:
        block = cache.block
        x_ND = x_ND.to(cache.key_KTE.device)
        attention_ND = _attention(cache, apply_norm(block.before_attention, x_ND)[0], shape[0], start)
        x_ND = x_ND + apply_norm(block.after_attention, attention_ND)[0]
        inner_ND = feed_forward(block.feed_forward, apply_norm(block.before_feed_forward, x_ND)[0])
        x_ND = x_ND + apply_norm(block.after_feed_forward, inner_ND)[0]
    return x_ND.view(shape)


def _attention(cache: KVCache, h_ND: Tensor, masks: int, start: int) -> Tensor:
    """The attention output [N, D] at the positions from `start` on, for all masks.

    Keys and values of earlier positions are those of the unmasked prompt, from `cache`. h_ND: the normalised input; the
    rows of one mask follow those of the mask before it. masks: the number of masks.
    """
    spec, rows = cache.block.attention, len(h_ND) // masks
    position_N = torch.arange(start, start + rows, device=h_ND.device).repeat(masks)
    angles = None if cache.rotary is None else (cache.rotary[0][position_N], cache.rotary[1][position_N])
    query_NO, _ = norm_heads(spec.query_norm, apply_linear(spec.query, h_ND), spec.head_width)
    key_NO, _ = norm_heads(spec.key_norm, apply_linear(spec.key, h_ND), spec.head_width)
    query_NHE = rotate(query_NO.unflatten(1, (spec.heads, -1)), angles)
    key_NKE = rotate(key_NO.unflatten(1, (spec.key_heads, -1)), angles)
    value_NKE = apply_linear(spec.value, h_ND).unflatten(1, (spec.key_heads, -1))
    key_CKTE, value_CKTE = (
        torch.cat([unmasked[:, :start].expand(masks, -1, -1, -1), own.unflatten(0, (masks, -1)).transpose(1, 2)], 2)
        for unmasked, own in ((cache.key_KTE, key_NKE), (cache.value_KTE, value_NKE))
    )
    query_CKGME = query_NHE.view(masks, rows, spec.key_heads, -1, spec.head_width).permute(0, 2, 3, 1, 4)
    seen_MT = seen_mask(spec, rows, start + rows, h_ND.device)
    mixed_CKGME, *_ = attend(spec, query_CKGME, key_CKTE, value_CKTE, seen_MT)
    return apply_linear(spec.out, mixed_CKGME.permute(0, 3, 1, 2, 4).reshape(len(h_ND), -1))


def _log_probabilities(model: Transformer, top_CRD: Tensor, response_R: Tensor) -> Tensor:
    """log_CR: log-probability of each response token under C masks.

    top_CRD: the last layer's output at the positions that predict. At most LOGITS rows of logits are in memory at once.
    """
    target_N = response_R.repeat(len(top_CRD))
    found = []
    for top_ND, y_N in zip(top_CRD.flatten(0, 1).split(LOGITS), target_N.split(LOGITS), strict=True):
        logit_NV = logits(model, top_ND)
        of_target_N1 = logit_NV.gather(1, y_N.to(logit_NV.device)[:, None])
        found.append(of_target_N1[:, 0] - logit_NV.logsumexp(-1))
    return torch.cat(found).view(top_CRD.shape[:2])
