"""Greedy responses of many prompts together, with one KV cache for each layer, in which every prompt has its place.

A decoding step is limited by reading the weights, so one step for all prompts costs little more than for one. Each
prompt has a slot, a range of the cache's positions; a prompt that ends frees its slot for the next prompt. Attention is
computed row by row, and the matrix products compute each row from that row alone. So a response does not depend on the
prompts that it is decoded beside: to the last bit on a CPU, where MKL, oneDNN and the core have that property, and up
to rounding on a GPU. Shape suffixes: see shiftbench/engine/__init__.py.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate

import torch
from torch import Tensor

from shiftbench.engine import core_calls, forward
from shiftbench.engine.forward import apply_linear, apply_norm, norm_heads, rotate, soft_cap
from shiftbench.engine.forward_cache import Rotary
from shiftbench.engine.probability import check_finite
from shiftbench.engine.product import STEP, pad_rows
from shiftbench.models.block import Attention, Block, FeedForward, Linear, Transformer

READ = 512  # at most so many tokens of prompts are read in one step, or one longer prompt: full rate of products
PLACES = 64  # prompts that are decoded together at most: enough for nearly the products' full rate
# The rows of a decoding step are padded to a multiple of this. oneDNN compiles a kernel for each number of rows, and it
# multiplies one row by another method than several rows, which would change the last bits of a response.
ROWS_STEP = 4
CACHE_SHARE = 4  # KV caches take at most the memory of the layers' weights / CACHE_SHARE, or that of one slot

Apply = Callable[[Linear, Tensor], Tensor]  # computes a linear map: (map, its input) -> the map's output
_apply_thin: Apply = partial(apply_linear, product=core_calls.thin_product)


@dataclass
class ActivePrompt:
    """A prompt that is being decoded.

    item: its index in the caller's list. begin: the first position of its slot in the caches. length: how many tokens
    of its text have their keys and values in the caches. new: the ids of the tokens that follow them, whose keys and
    values are not there yet. generated: the ids of all tokens that were generated so far.
    """

    item: int
    begin: int
    length: int
    new: Sequence[int]
    generated: list[int]


@dataclass(frozen=True)
class KVCache:
    """Keys and values of one layer.

    block: the layer. key_KTE, value_KTE: in `greedy` their T positions are the slots of all prompts, one behind the
    other; in masked.py they are the positions of one text. rotary: the rotation angles of each position within a text.
    """

    block: Block
    key_KTE: Tensor
    value_KTE: Tensor
    rotary: Rotary


@torch.no_grad()
def greedy(
    model: Transformer,
    embed: Callable[[Tensor], Tensor],
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    ends: Collection[int],
) -> Iterator[tuple[int, list[int]]]:
    """Yields (index of the prompt in `prompts`, token ids of its response) as each response ends.

    Each token is the most probable one; of equally probable ones it is the one with the lowest id. A response ends
    after max_new_tokens tokens, or before the first token of `ends`, which is not part of the response. prompts: token
    ids of each prompt. embed: a function from int64 ids [N] on the CPU to input embeddings [N, D]. ends: ids of the
    tokens that end a text. Raises NotFinite where logits are not finite.
    """
    # The longest prompts come first, so any slot that becomes free is long enough for the next waiting prompt.
    waiting = deque(sorted(enumerate(prompts), key=lambda one: -len(one[1])))
    begins = _slot_begins(model, [len(ids) + max_new_tokens for _, ids in waiting])
    longest = len(waiting[0][1]) + max_new_tokens if waiting else 0
    caches, free = _new_caches(model, begins.pop(), longest), deque(begins)
    active: list[ActivePrompt] = []
    while waiting or active:
        begun: list[ActivePrompt] = []
        while waiting and free and (not begun or sum(len(one.new) for one in begun) + len(waiting[0][1]) <= READ):
            item, ids = waiting.popleft()
            begun.append(ActivePrompt(item, free.popleft(), 0, ids, []))
        if begun:
            _extend(model, caches, embed, begun)
            active += begun
        for one in [one for one in active if _ended(one, max_new_tokens, ends)]:
            active.remove(one)
            free.append(one.begin)
            yield one.item, [token for token in one.generated if token not in ends]
        if active and not (waiting and free):
            _extend(model, caches, embed, active)


def _ended(one: ActivePrompt, max_new_tokens: int, ends: Collection[int]) -> bool:
    return len(one.generated) >= max_new_tokens or one.generated[-1] in ends


def _embed_padded(
    model: Transformer, embed: Callable[[Tensor], Tensor], ids: Sequence[int], positions: Sequence[int]
) -> Tensor:
    """Input embeddings [N, D] of tokens, with rows of zeros appended.

    The number of rows becomes a multiple of STEP where there are more than PLACES tokens, else of ROWS_STEP. positions:
    of each token in its own text, for models with learned positions, whose embeddings are added.
    """
    step = STEP if len(positions) > PLACES else ROWS_STEP
    x_ND = embed(torch.tensor(ids))
    if model.position_TD is not None:
        x_ND = x_ND + model.position_TD[torch.tensor(positions, device=model.position_TD.device)].to(x_ND)
    return pad_rows(x_ND, step)


def _slot_begins(model: Transformer, lengths: Sequence[int]) -> list[int]:
    """The first position of each slot in the caches, and as last entry the end of the last slot.

    lengths: how many positions each prompt needs for its text and its response, the longest first; slot i has
    lengths[i] positions. There are as many slots as prompts, but at most PLACES, and at most as many as CACHE_SHARE
    allows. There is at least one slot, unless there is no prompt.
    """
    weights = sum(_weights(block) for block in model.blocks)
    each = sum(2 * block.attention.key_heads * block.attention.head_width for block in model.blocks)
    ends = list(accumulate(lengths[:PLACES]))
    return [0, *ends[:1], *(end for end in ends[1:] if end * each <= weights // CACHE_SHARE)]


def _new_caches(model: Transformer, positions: int, longest: int) -> list[KVCache]:
    """A KV cache of zeros for each layer.

    positions: of all slots together. longest: the length of the longest prompt with its response; the rotation angles
    of so many positions are computed.
    """
    rotaries: dict[torch.device, Rotary] = {}
    found = []
    for block in model.blocks:
        like = block.attention.query.weight_IO
        if model.rotary is not None and like.device not in rotaries:
            cos_TE, sin_TE = model.rotary(torch.arange(longest, device=like.device), like)
            rotaries[like.device] = cos_TE.to(like), sin_TE.to(like)
        shape = (block.attention.key_heads, positions, block.attention.head_width)
        found.append(KVCache(block, like.new_zeros(shape), like.new_zeros(shape), rotaries.get(like.device)))
    return found


def _weights(block: Block) -> int:
    """How many numbers the weight matrices of a layer's attention and feed-forward network have, biases not counted."""
    attention, inner = block.attention, block.feed_forward
    linears = (attention.query, attention.key, attention.value, attention.out, inner.up, inner.down, inner.gate)
    return sum(linear.weight_IO.numel() for linear in linears if linear is not None)


def _extend(
    model: Transformer, caches: Sequence[KVCache], embed: Callable[[Tensor], Tensor], prompts: Sequence[ActivePrompt]
) -> None:
    """Generate one more token for each prompt, and write keys and values of the prompts' `new` tokens into the caches.

    The prompts are either all at their first step, which reads the prompt, or all at a later step. Changes the prompts
    in place. Raises NotFinite where logits are not finite.
    """
    sizes = [len(one.new) for one in prompts]
    begins = [one.begin for one in prompts for _ in one.new]
    positions = [one.length + n for one in prompts for n in range(len(one.new))]
    reading = None if len(prompts) == len(begins) else [slice(one.begin, one.begin + len(one.new)) for one in prompts]
    x_ND = _embed_padded(model, embed, [token for one in prompts for token in one.new], positions)
    # A prompt's first step uses one kind of product, and all later steps the other. The choice must not follow the
    # number of rows, which depends on the other prompts: a response is the same to the last bit beside any prompts.
    apply = apply_linear if prompts[0].length == 0 else _apply_thin
    x_ND = _run_layers(caches, x_ND, torch.tensor([begins, positions]), reading, apply)
    if reading is not None:
        last_N = torch.tensor([end - 1 for end in accumulate(sizes)], device=x_ND.device)
        x_ND = pad_rows(x_ND[last_N], ROWS_STEP)
    logit_NV = logits(model, x_ND, _apply_thin)[: len(prompts)]
    token_N = logit_NV.argmax(-1)
    # argmax returns the index of a NaN, or else that of +inf, so it is enough to check the chosen tokens' logits.
    check_finite(logit_NV.gather(1, token_N[:, None]), "of the next token")
    for one, token in zip(prompts, token_N.tolist(), strict=True):
        one.length += len(one.new)
        one.new = [token]
        one.generated.append(token)


def _run_layers(
    caches: Sequence[KVCache], x_ND: Tensor, at_2N: Tensor, reading: Sequence[slice] | None, apply: Apply
) -> Tensor:
    """The last layer's output [N, D] for new tokens; their keys and values are written into the caches.

    x_ND: the first layer's input, with padding rows behind the tokens' rows. at_2N: int64, two numbers for each token
    but not for padding rows: the first position of its prompt's slot, and the token's position in the prompt's text.
    reading: for each prompt the positions of its tokens in the caches, where prompts are read from their first token
    on; None where each prompt has one new token. apply: computes linear maps.
    """
    max_seen = int(at_2N[1].max()) + 1
    for cache in caches:
        block = cache.block
        x_ND = x_ND.to(cache.key_KTE.device)
        h_ND = apply_norm(block.before_attention, x_ND)[0]
        attention_ND = _attention(cache, h_ND, at_2N.to(x_ND.device), max_seen, reading, apply)
        x_ND = x_ND + apply_norm(block.after_attention, attention_ND)[0]
        inner_ND = feed_forward(block.feed_forward, apply_norm(block.before_feed_forward, x_ND)[0], apply)
        x_ND = x_ND + apply_norm(block.after_feed_forward, inner_ND)[0]
    return x_ND


def _attention(
    cache: KVCache, h_ND: Tensor, at_2N: Tensor, max_seen: int, reading: Sequence[slice] | None, apply: Apply
) -> Tensor:
    """Attention's output [N, D] of one layer; the new keys and values are written into its cache.

    h_ND: the normalised input. max_seen: the length of the longest text so far. The other arguments are those of
    `_run_layers`.
    """
    spec, (begin_N, position_N) = cache.block.attention, at_2N
    here_N = begin_N + position_N
    angles = None if cache.rotary is None else (cache.rotary[0][position_N], cache.rotary[1][position_N])
    query_NHE, key_NKE = (
        rotate(norm_heads(norm, apply(linear, h_ND), spec.head_width)[0][: len(here_N)].unflatten(1, heads), angles)
        for linear, norm, heads in (
            (spec.query, spec.query_norm, (spec.heads, -1)),
            (spec.key, spec.key_norm, (spec.key_heads, -1)),
        )
    )
    cache.key_KTE[:, here_N] = key_NKE.transpose(0, 1)
    cache.value_KTE[:, here_N] = (
        apply(spec.value, h_ND)[: len(here_N)].unflatten(1, (spec.key_heads, -1)).transpose(0, 1)
    )
    count_N = position_N + 1 if spec.window is None else (position_N + 1).clamp_max(spec.window)
    seen_2N = torch.stack([here_N + 1 - count_N, here_N + 1])
    mixed_NHE = attend(spec, query_NHE.contiguous(), cache.key_KTE, cache.value_KTE, seen_2N, max_seen, reading)
    return apply(spec.out, torch.nn.functional.pad(mixed_NHE.flatten(1), (0, 0, 0, len(h_ND) - len(here_N))))


def attend(
    spec: Attention,
    query_NHE: Tensor,
    key_KTE: Tensor,
    value_KTE: Tensor,
    seen_2N: Tensor,
    max_seen: int,
    reading: Sequence[slice] | None = None,
) -> Tensor:
    """mixed_NHE: the head outputs of each row's query over the positions of the caches that the row sees.

    seen_2N: int64, the first of these positions, and their end (exclusive). max_seen: an upper bound of how many
    positions a row sees. reading: the positions of each prompt's tokens in the caches, where the rows are all tokens of
    whole prompts, one prompt after the other; None for rows of any other kind.
    """
    if core_calls.supports_attention(query_NHE):
        return core_calls.attend_cached(query_NHE, key_KTE, value_KTE, seen_2N, spec.scale, spec.cap)
    if reading is not None:  # all rows of a prompt see keys of one range, so no keys are copied
        sizes = [place.stop - place.start for place in reading]
        each = zip(query_NHE.split(sizes), reading, seen_2N.split(sizes, dim=1), strict=True)
        found = [
            _attend_reading(spec, part, key_KTE[:, at], value_KTE[:, at], ends - at.start) for part, at, ends in each
        ]
        return torch.cat(found)
    # The rows are computed in parts, so that the copied keys take no more memory than the caches.
    rows = max(1, key_KTE.shape[1] // max_seen)
    parts = zip(query_NHE.split(rows), seen_2N.split(rows, dim=1), strict=True)
    return torch.cat([_attend_gathered(spec, part_NHE, key_KTE, value_KTE, at, max_seen) for part_NHE, at in parts])


def _attend_gathered(
    spec: Attention, query_NHE: Tensor, key_KTE: Tensor, value_KTE: Tensor, seen_2N: Tensor, max_seen: int
) -> Tensor:
    """`attend` by torch.

    The keys that each row sees are copied into one tensor [K, N, max_seen, E], and so are the values.
    """
    first_N, last_N = seen_2N
    place_NT = first_N[:, None] + torch.arange(max_seen, device=query_NHE.device)
    seen_N1QT = (place_NT < last_N[:, None])[:, None, None]
    place_NT = torch.minimum(place_NT, last_N[:, None] - 1)  # later places are masked, and may lie outside the cache
    query_KNGQE = query_NHE.unflatten(1, (spec.key_heads, -1)).transpose(0, 1)[:, :, :, None]  # one query a row: Q = 1
    mixed_KNGQE, *_ = forward.attend(spec, query_KNGQE, key_KTE[:, place_NT], value_KTE[:, place_NT], seen_N1QT)
    return mixed_KNGQE[:, :, :, 0].transpose(0, 1).flatten(1, 2)


def _attend_reading(spec: Attention, query_NHE: Tensor, key_KTE: Tensor, value_KTE: Tensor, seen_2N: Tensor) -> Tensor:
    """`attend` by torch for all rows of one prompt. key_KTE, value_KTE: that prompt's part of the caches.

    seen_2N counts positions from the beginning of that part.
    """
    place_T = torch.arange(key_KTE.shape[1], device=query_NHE.device)
    seen_NT = (place_T >= seen_2N[0][:, None]) & (place_T < seen_2N[1][:, None])
    query_KGNE = query_NHE.unflatten(1, (spec.key_heads, -1)).permute(1, 2, 0, 3)
    mixed_KGNE, *_ = forward.attend(spec, query_KGNE, key_KTE, value_KTE, seen_NT)
    return mixed_KGNE.permute(2, 0, 1, 3).flatten(1, 2)


def feed_forward(spec: FeedForward, h_ND: Tensor, apply: Apply = apply_linear) -> Tensor:
    """The output [N, D] of a feed-forward network for its normalised input h_ND. apply: computes linear maps."""
    up_NF = apply(spec.up, h_ND)
    if spec.gate is None:
        return apply(spec.down, spec.activation(up_NF))
    return apply(spec.down, spec.activation(apply(spec.gate, h_ND)).mul_(up_NF))


def logits(model: Transformer, x_ND: Tensor, apply: Apply = apply_linear) -> Tensor:
    """logit_NV: the last layer's output x_ND after the final norm, the output embeddings and the logits' soft cap."""
    hidden_ND, _ = apply_norm(model.final_norm, x_ND.to(model.final_norm.gain_D.device))
    return soft_cap(apply(model.head, hidden_ND.to(model.head.weight_IO.device)), model.head_cap)[0]
