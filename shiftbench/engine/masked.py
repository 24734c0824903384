"""Log-probabilities of a response where tokens of its prompt are replaced or deleted, for many masks of one prompt.

A mask changes nothing at positions before the first masked token. So one unmasked pass computes the keys and values of
all positions, and for each mask only the positions from its first masked token on are computed again. The rows of
several masks are computed together (`_Texts.batches`), one behind the other, so that no row is computed in vain.
Shape suffixes: see shiftbench/engine/__init__.py; B: masks, C: the masks of one batch, W: a block of the vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from shiftbench.engine.decoding import KVCache, feed_forward
from shiftbench.engine.forward import (
    apply_linear,
    apply_norm,
    attend,
    forward,
    norm_heads,
    rotate,
    seen_mask,
    soft_cap,
)
from shiftbench.engine.forward_cache import Rotary
from shiftbench.engine.importance import Tokens
from shiftbench.engine.probability import check_finite
from shiftbench.engine.product import STEP, pad_rows
from shiftbench.engine.schedule import max_product_rows
from shiftbench.models.block import Block, Linear, Transformer

# Logits are computed for so many tokens of the vocabulary at a time: they then stay in the CPU's cache until they are
# summed, and the output embeddings are multiplied with all rows of a batch together.
VOCABULARY_BLOCK = 4096


@torch.no_grad()
def log_probabilities(
    model: Transformer, tokens: Tokens, masked_BP: Tensor, memory: int, replacement_PD: Tensor | None
) -> Tensor:
    """log_BR: log-probability of each response token under each mask, in the model's dtype.

    masked_BP: bool, one mask in each row, True for a masked prompt token. replacement_PD: the input embeddings that
    masked tokens get; their positions stay as they are. None: masked tokens are deleted, and the tokens behind them
    move up; in front of the response a token must be left. memory: bytes for the masks that are computed together; one
    mask is computed even where it needs more. Raises NotFinite where a log-probability is not finite.
    """
    texts = _Texts.of(tokens, masked_BP, deletes=replacement_PD is None)
    embedding_TD = tokens.embedding_TD[: tokens.predicting[1]]
    position_TD = None if model.position_TD is None else model.position_TD[: len(embedding_TD)].to(embedding_TD)
    # Padding is behind all positions, so none of them sees it.
    caches = _unmasked_caches(model, pad_rows(embedding_TD if position_TD is None else embedding_TD + position_TD))
    replaced_TD = embedding_TD
    if replacement_PD is not None:
        replaced_TD = embedding_TD.clone()
        replaced_TD[tokens.prompt] = replacement_PD.to(embedding_TD)
    log_BR = embedding_TD.new_empty(len(masked_BP), len(tokens.response_R))
    for part_C in texts.batches(_max_rows(model.blocks, len(embedding_TD), memory)):
        rows = texts.rows(part_C)
        x_ND = torch.where(rows.masked_N[:, None], replaced_TD[rows.token_N], embedding_TD[rows.token_N])
        x_ND = x_ND if position_TD is None else x_ND + position_TD[rows.place_N]
        top_SD = _run_masks(caches, x_ND, rows)
        target_S = _padded(tokens.response_R.repeat(len(part_C)))
        log_S = _log_probabilities(model, top_SD, target_S)
        log_BR[part_C] = log_S[: len(part_C) * log_BR.shape[1]].view(len(part_C), -1).to(log_BR.device)
    check_finite(log_BR, "of the response under masks of the prompt")
    return log_BR


@dataclass(frozen=True)
class _Rows:
    """Which rows a batch of C masks has: those of one mask in the order of positions, then those of the next mask.

    masks: C. begin, stop: the range of all rows' positions. mask_N: int64, the mask of each row, counted within the
    batch. token_N: the index of the row's token in the unmasked text. place_N: its position in the masked text.
    masked_N: bool, whether the token is replaced. predicting_S: indices of the rows that predict response tokens, R of
    each mask. The last row and the last index are repeated until there are a multiple of STEP of them.
    """

    masks: int
    begin: int
    stop: int
    mask_N: Tensor
    token_N: Tensor
    place_N: Tensor
    masked_N: Tensor
    predicting_S: Tensor


@dataclass(frozen=True)
class _Texts:
    """The masked texts of B masks, over the T positions in front of the last response token.

    computed_BT: bool, whether the mask has a row for the token: it is left, and its hidden states may have changed, or
    it predicts a response token. place_BT: int64, each token's position in the masked text. masked_BT: bool. response:
    the number of response tokens. device: of the model's input.
    """

    computed_BT: Tensor
    place_BT: Tensor
    masked_BT: Tensor
    response: int
    device: torch.device

    @classmethod
    def of(cls, tokens: Tokens, masked_BP: Tensor, deletes: bool) -> _Texts:
        first, last = tokens.predicting
        masked_BT = torch.zeros(len(masked_BP), last, dtype=torch.bool)
        masked_BT[:, tokens.prompt] = masked_BP.cpu()
        kept_BT = ~masked_BT if deletes else torch.ones_like(masked_BT)
        index_T = torch.arange(last)
        # The first response token is predicted at the last token in front of it that is left.
        predictor_B = torch.where(kept_BT[:, : first + 1], index_T[: first + 1], -1).amax(1)
        if bool((predictor_B < 0).any()):
            raise ValueError("a mask deletes every token in front of the response")
        start_B = torch.minimum(torch.where(masked_BT, index_T, last).amin(1), predictor_B)
        computed_BT = kept_BT & (index_T >= start_B[:, None])
        place_BT = kept_BT.cumsum(1) - 1
        return cls(computed_BT, place_BT, masked_BT, last - first, tokens.embedding_TD.device)

    def batches(self, rows: int) -> Iterator[Tensor]:
        """Yields the indices of some masks [C], until every mask was in a batch; masks of many rows come first.

        rows: about the most rows of a batch, which has one mask at least. The batches have about equally many rows.
        """
        count_B = self.computed_BT.sum(1)
        order_B = count_B.argsort(descending=True, stable=True)
        total = int(count_B.sum())
        most = math.ceil(total / math.ceil(total / rows))
        batch: list[int] = []
        used = 0
        for mask, count in zip(order_B.tolist(), count_B[order_B].tolist(), strict=True):
            if batch and used + count > most:
                yield torch.tensor(batch)
                batch, used = [], 0
            batch.append(mask)
            used += count
        if batch:
            yield torch.tensor(batch)

    def rows(self, part_C: Tensor) -> _Rows:
        """The rows of these masks."""
        mask_N, token_N = self.computed_BT[part_C].nonzero(as_tuple=True)
        stop_C = self.computed_BT[part_C].sum(1).cumsum(0)
        predicting_S = _padded((stop_C[:, None] + torch.arange(-self.response, 0)).flatten())
        mask_N, token_N = _padded(mask_N), _padded(token_N)
        place_N = self.place_BT[part_C][mask_N, token_N]
        masked_N = self.masked_BT[part_C][mask_N, token_N]
        on_device = (each.to(self.device) for each in (mask_N, token_N, place_N, masked_N, predicting_S))
        return _Rows(len(part_C), int(place_N.min()), int(place_N.max()) + 1, *on_device)


def _padded(index_N: Tensor) -> Tensor:
    """The indices, of which the last is repeated until their number is a multiple of STEP."""
    return torch.cat([index_N, index_N[-1:].expand(-len(index_N) % STEP)])


def _unmasked_caches(model: Transformer, x_TD: Tensor) -> list[KVCache]:
    """Keys and values of every layer where no token is masked. x_TD: the first layer's input."""
    caches = []
    for block in model.blocks:  # one layer at a time, so that the rest of its forward cache is freed at once
        (cache,), x_TD = forward(model, x_TD, [block])
        caches.append(KVCache(block, cache.attention.key_KTE, cache.attention.value_KTE, cache.rotary))
    return caches


def _max_rows(blocks: Sequence[Block], tokens: int, memory: int) -> int:
    """The most rows that are computed together: what `memory` bytes hold, up to max_product_rows, but at least 1.

    A row is one mask at one position. tokens: the number of positions of the text.
    """
    weight = blocks[0].feed_forward.up.weight_IO
    heads = max(block.attention.heads for block in blocks)
    each = weight.element_size() * (3 * heads * tokens + 3 * weight.shape[1] + 8 * weight.shape[0])
    return max(1, min(max_product_rows(weight), memory // each))


def _run_masks(caches: Sequence[KVCache], x_ND: Tensor, rows: _Rows) -> Tensor:
    """The last layer's output [S, D] at the rows that predict response tokens. x_ND: the first layer's input."""
    for cache in caches:
        block, device = cache.block, cache.key_KTE.device
        x_ND = x_ND.to(device)
        # Behind the last layer's attention, only the rows that predict are needed.
        used_U = rows.predicting_S.to(device) if cache is caches[-1] else None
        attention_UD = _attention(cache, apply_norm(block.before_attention, x_ND)[0], rows, used_U)
        x_ND = x_ND if used_U is None else x_ND[used_U]
        x_ND = x_ND + apply_norm(block.after_attention, attention_UD)[0]
        inner_ND = feed_forward(block.feed_forward, apply_norm(block.before_feed_forward, x_ND)[0])
        x_ND = x_ND + apply_norm(block.after_feed_forward, inner_ND)[0]
    return x_ND


def _attention(cache: KVCache, h_ND: Tensor, rows: _Rows, used_U: Tensor | None) -> Tensor:
    """The attention output [U, D] at the rows `used_U`, or at all rows where it is None.

    Keys and values of the positions in front of a mask's rows are those of the unmasked text, from `cache`. h_ND: the
    normalised input of all rows.
    """
    spec, device = cache.block.attention, h_ND.device
    mask_N, place_N = rows.mask_N.to(device), rows.place_N.to(device)
    key_NO, _ = norm_heads(spec.key_norm, apply_linear(spec.key, h_ND), spec.head_width)
    key_NKE = rotate(key_NO.unflatten(1, (spec.key_heads, -1)), _angles(cache, place_N))
    value_NKE = apply_linear(spec.value, h_ND).unflatten(1, (spec.key_heads, -1))
    key_CKTE, value_CKTE = (
        _with_rows(unmasked_KTE[:, : rows.stop], own_NKE, mask_N, place_N, rows.masks)
        for unmasked_KTE, own_NKE in ((cache.key_KTE, key_NKE), (cache.value_KTE, value_NKE))
    )
    if used_U is not None:
        h_ND, mask_N, place_N = h_ND[used_U], mask_N[used_U], place_N[used_U]
    query_NO, _ = norm_heads(spec.query_norm, apply_linear(spec.query, h_ND), spec.head_width)
    query_NHE = rotate(query_NO.unflatten(1, (spec.heads, -1)), _angles(cache, place_N))
    positions = rows.stop - rows.begin
    # Of each mask, the queries at all positions of the batch; they are zero where the mask has no row.
    query_CMHE = query_NHE.new_zeros(rows.masks, positions, *query_NHE.shape[1:])
    query_CMHE[mask_N, place_N - rows.begin] = query_NHE
    query_CKGME = query_CMHE.unflatten(2, (spec.key_heads, -1)).permute(0, 2, 3, 1, 4)
    seen_MT = seen_mask(spec, positions, rows.stop, device)
    mixed_CKGME, *_ = attend(spec, query_CKGME, key_CKTE, value_CKTE, seen_MT)
    mixed_NKGE = mixed_CKGME.permute(0, 3, 1, 2, 4)[mask_N, place_N - rows.begin]
    return apply_linear(spec.out, mixed_NKGE.flatten(1))


def _angles(cache: KVCache, place_N: Tensor) -> Rotary:
    """(cos_NE, sin_NE), the rotation angles of these positions; None where the model rotates nothing."""
    return None if cache.rotary is None else (cache.rotary[0][place_N], cache.rotary[1][place_N])


def _with_rows(unmasked_KTE: Tensor, own_NKE: Tensor, mask_N: Tensor, place_N: Tensor, masks: int) -> Tensor:
    """[C, K, T, E]: keys or values of each mask, which are the unmasked text's at all positions where it has no row.

    unmasked_KTE: of the unmasked text. own_NKE: those of the rows, of which mask_N and place_N give the places.
    """
    all_CTKE = unmasked_KTE.transpose(0, 1).expand(masks, -1, -1, -1).contiguous()
    all_CTKE[mask_N, place_N] = own_NKE
    return all_CTKE.transpose(1, 2)


def _log_probabilities(model: Transformer, top_SD: Tensor, target_S: Tensor) -> Tensor:
    """log_S: the log-probability of the token target_S at each row of the last layer's output."""
    hidden_SD, _ = apply_norm(model.final_norm, top_SD.to(model.final_norm.gain_D.device))
    hidden_SD = hidden_SD.to(model.head.weight_IO.device)
    target_S = target_S.to(hidden_SD.device)
    log_sums, logit_S = [], torch.zeros(len(hidden_SD), dtype=hidden_SD.dtype, device=hidden_SD.device)
    for first in range(0, model.head.weight_IO.shape[1], VOCABULARY_BLOCK):
        logit_SW, _ = soft_cap(apply_linear(_columns(model.head, first), hidden_SD), model.head_cap)
        log_sums.append(logit_SW.logsumexp(1))
        own_S = target_S - first
        found_S = logit_SW.gather(1, own_S.clamp(0, logit_SW.shape[1] - 1)[:, None])[:, 0]
        logit_S = torch.where((own_S >= 0) & (own_S < logit_SW.shape[1]), found_S, logit_S)
    return logit_S - torch.stack(log_sums).logsumexp(0)


def _columns(linear: Linear, first: int) -> Linear:
    """The part of a linear map that gives VOCABULARY_BLOCK outputs from `first` on, or fewer at the end."""
    columns = slice(first, first + VOCABULARY_BLOCK)
    return Linear(linear.weight_IO[:, columns], None if linear.bias_O is None else linear.bias_O[columns])
