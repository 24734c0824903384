"""Greedy continuations of many prompts together, so that each step reads the weights once for all of them.

Attention is computed row by row, and a matrix product makes a row from nothing but that row, so a response does not
depend on what it is decoded beside: bit for bit on a CPU, where torch's libraries, both, and the core multiply rows so;
on a GPU up to rounding.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate

import torch
from torch import Tensor

from shiftbench.engine import core
from shiftbench.engine.forward import apply, capped, heads_normed, mix, normed, rotated
from shiftbench.engine.kept import Rotary
from shiftbench.engine.probability import check_finite
from shiftbench.engine.product import STEP, padded
from shiftbench.models.block import Attention, Block, FeedForward, Linear, Transformer

READ = 512  # tokens of prompts that are read together, about: then their products run at the full rate
PLACES = 64  # prompts at a time: their products then run at nearly the full rate
ROWS_STEP = 4  # rows of a product come in multiples: oneDNN makes a kernel for each number, and treats one row apart
CACHE_SHARE = 4  # keys and values of all prompts take at most the weights' memory over this; else fewer are under way

Apply = Callable[[Linear, Tensor], Tensor]
_apply_thin: Apply = partial(apply, product=core.thin_product)


@dataclass
class Row:
    """A prompt on its way.

    begin: of its place in the caches. length: positions that are there. new: tokens that are not there yet. made: all
    that were made.
    """

    item: int
    begin: int
    length: int
    new: Sequence[int]
    made: list[int]


@dataclass(frozen=True)
class Cache:
    """Keys and values of a layer, [key heads, room, width], of one prompt behind another; the angles of positions."""

    block: Block
    key_KTE: Tensor
    value_KTE: Tensor
    rotary: Rotary


@torch.no_grad()
def greedy(
    model: Transformer,
    embed: Callable[[Tensor], Tensor],
    prompts: Sequence[Sequence[int]],
    most: int,
    ends: Collection[int],
) -> Iterator[tuple[int, list[int]]]:
    """(index of the prompt, its continuation) as each ends: at `most` tokens, or before the first of `ends`.

    embed: ids [N], on the CPU -> input embeddings [N, D]. The most probable token is taken at each step, of equal ones
    the one with the lower id. The longest prompts are begun first. Raises NotFinite where logits are not finite.
    """
    # The longest first: whoever ends leaves a place that is long enough for the next.
    waiting = deque(sorted(enumerate(prompts), key=lambda one: -len(one[1])))
    begins = _begins(model, [len(ids) + most for _, ids in waiting])
    caches, free = _caches(model, begins.pop(), len(waiting[0][1]) + most if waiting else 0), deque(begins)
    standing: list[Row] = []
    while waiting or standing:
        begun: list[Row] = []
        while waiting and free and (not begun or sum(len(row.new) for row in begun) + len(waiting[0][1]) <= READ):
            item, ids = waiting.popleft()
            begun.append(Row(item, free.popleft(), 0, ids, []))
        if begun:
            _extend(model, caches, embed, begun)
            standing += begun
        for row in [row for row in standing if _ended(row, most, ends)]:
            standing.remove(row)
            free.append(row.begin)
            yield row.item, [token for token in row.made if token not in ends]
        if standing and not (waiting and free):
            _extend(model, caches, embed, standing)


def _ended(row: Row, most: int, ends: Collection[int]) -> bool:
    return len(row.made) >= most or row.made[-1] in ends


def _embedded(
    model: Transformer, embed: Callable[[Tensor], Tensor], ids: Sequence[int], positions: Sequence[int]
) -> Tensor:
    """Input embeddings of tokens at their positions, and of as many others behind them as make the rows a multiple."""
    step = STEP if len(positions) > PLACES else ROWS_STEP
    x_ND = embed(torch.tensor(ids))
    if model.position_TD is not None:
        x_ND = x_ND + model.position_TD[torch.tensor(positions, device=model.position_TD.device)].to(x_ND)
    return padded(x_ND, step)


def _begins(model: Transformer, rooms: Sequence[int]) -> list[int]:
    """Where in the caches places of such rooms begin, and where the last ends.

    For all that are asked for, for PLACES of them, or for as many, one at least, as do not take too much memory.
    """
    weights = sum(_weights(block) for block in model.blocks)
    each = sum(2 * block.attention.key_heads * block.attention.head_width for block in model.blocks)
    ends = list(accumulate(rooms[:PLACES]))
    return [0, *ends[:1], *(end for end in ends[1:] if end * each <= weights // CACHE_SHARE)]


def _caches(model: Transformer, room: int, longest: int) -> list[Cache]:
    """Empty ones with so much room; longest: positions of a prompt and its response."""
    turns: dict[torch.device, Rotary] = {}
    found = []
    for block in model.blocks:
        like = block.attention.query.weight_IO
        if model.rotary is not None and like.device not in turns:
            cos_TE, sin_TE = model.rotary(torch.arange(longest, device=like.device), like)
            turns[like.device] = cos_TE.to(like), sin_TE.to(like)
        shape = (block.attention.key_heads, room, block.attention.head_width)
        found.append(Cache(block, like.new_zeros(shape), like.new_zeros(shape), turns.get(like.device)))
    return found


def _weights(block: Block) -> int:
    attention, inner = block.attention, block.feed_forward
    linears = (attention.query, attention.key, attention.value, attention.out, inner.up, inner.down, inner.gate)
    return sum(linear.weight_IO.numel() for linear in linears if linear is not None)


def _extend(
    model: Transformer, caches: Sequence[Cache], embed: Callable[[Tensor], Tensor], rows: Sequence[Row]
) -> None:
    """One more token made for each row; its new ones join the caches."""
    sizes = [len(row.new) for row in rows]
    begins = [row.begin for row in rows for _ in row.new]
    positions = [row.length + n for row in rows for n in range(len(row.new))]
    whole = None if len(rows) == len(begins) else [slice(row.begin, row.begin + len(row.new)) for row in rows]
    x_ND = _embedded(model, embed, [token for row in rows for token in row.new], positions)
    linear = apply if rows[0].length == 0 else _apply_thin  # reading prompts or not, whatever else is read: bit for bit
    x_ND = _through(caches, x_ND, torch.tensor([begins, positions]), whole, linear)
    if whole is not None:
        x_ND = padded(x_ND[torch.tensor([end - 1 for end in accumulate(sizes)], device=x_ND.device)], ROWS_STEP)
    logit_NV = logits(model, x_ND, _apply_thin)[: len(rows)]
    token_N = logit_NV.argmax(-1)
    # Where a row has NaN, argmax gives its place, or that of an inf: the logits of the tokens taken show both.
    check_finite(logit_NV.gather(1, token_N[:, None]), "of the next token")
    for row, token in zip(rows, token_N.tolist(), strict=True):
        row.length += len(row.new)
        row.new = [token]
        row.made.append(token)


def _through(
    caches: Sequence[Cache], x_ND: Tensor, at_2N: Tensor, whole: Sequence[slice] | None, linear: Apply
) -> Tensor:
    """The last layer's output for new tokens; their keys and values join the caches. at_2N: of each, where its prompt's
    place begins, and its position. whole: places of prompts that are new from their first token on; None: one token
    each. Behind the tokens stand rows nobody sees."""
    most = int(at_2N[1].max()) + 1
    for cache in caches:
        block = cache.block
        x_ND = x_ND.to(cache.key_KTE.device)
        h_ND = normed(block.before_attention, x_ND)[0]
        mixed_ND = _attention(cache, h_ND, at_2N.to(x_ND.device), most, whole, linear)
        x_ND = x_ND + normed(block.after_attention, mixed_ND)[0]
        inner_ND = feed_forward(block.feed_forward, normed(block.before_feed_forward, x_ND)[0], linear)
        x_ND = x_ND + normed(block.after_feed_forward, inner_ND)[0]
    return x_ND


def _attention(
    cache: Cache, h_ND: Tensor, at_2N: Tensor, most: int, whole: Sequence[slice] | None, apply: Apply
) -> Tensor:
    spec, (begin_N, position_N) = cache.block.attention, at_2N
    here_N = begin_N + position_N
    turn = None if cache.rotary is None else (cache.rotary[0][position_N], cache.rotary[1][position_N])
    query_NHE, key_NKE = (
        rotated(heads_normed(norm, apply(linear, h_ND), spec.head_width)[0][: len(here_N)].unflatten(1, heads), turn)
        for linear, norm, heads in (
            (spec.query, spec.query_norm, (spec.heads, -1)),
            (spec.key, spec.key_norm, (spec.key_heads, -1)),
        )
    )
    cache.key_KTE[:, here_N] = key_NKE.transpose(0, 1)
    cache.value_KTE[:, here_N] = (
        apply(spec.value, h_ND)[: len(here_N)].unflatten(1, (spec.key_heads, -1)).transpose(0, 1)
    )
    seen_N = position_N + 1 if spec.window is None else (position_N + 1).clamp_max(spec.window)
    met_2N = torch.stack([here_N + 1 - seen_N, here_N + 1])
    mixed_NHE = attend(spec, query_NHE.contiguous(), cache.key_KTE, cache.value_KTE, met_2N, most, whole)
    return apply(spec.out, torch.nn.functional.pad(mixed_NHE.flatten(1), (0, 0, 0, len(h_ND) - len(here_N))))


def attend(
    spec: Attention,
    query_NHE: Tensor,
    key_KTE: Tensor,
    value_KTE: Tensor,
    at_2N: Tensor,
    most: int,
    whole: Sequence[slice] | None = None,
) -> Tensor:
    """mixed_NHE: what each row's query takes from the positions it sees, at most so many.

    at_2N: in the cache, the first and the last of them, exclusive. whole: as in `_through`.
    """
    if core.attends(query_NHE):
        return core.attend(query_NHE, key_KTE, value_KTE, at_2N, spec.scale, spec.cap)
    if whole is not None:  # a prompt's rows see the same keys, so none need be gathered
        sizes = [place.stop - place.start for place in whole]
        each = zip(query_NHE.split(sizes), whole, at_2N.split(sizes, dim=1), strict=True)
        found = [
            _attend_whole(spec, part, key_KTE[:, at], value_KTE[:, at], ends - at.start) for part, at, ends in each
        ]
        return torch.cat(found)
    # As many rows at a time as gather no more than the caches hold.
    rows = max(1, key_KTE.shape[1] // most)
    parts = zip(query_NHE.split(rows), at_2N.split(rows, dim=1), strict=True)
    return torch.cat([_attend(spec, part_NHE, key_KTE, value_KTE, at, most) for part_NHE, at in parts])


def _attend(spec: Attention, query_NHE: Tensor, key_KTE: Tensor, value_KTE: Tensor, at_2N: Tensor, most: int) -> Tensor:
    """`attend` by torch, for rows whose keys and values are gathered together."""
    first_N, last_N = at_2N
    place_NT = first_N[:, None] + torch.arange(most, device=query_NHE.device)
    seen_N1QT = (place_NT < last_N[:, None])[:, None, None]
    place_NT = torch.minimum(place_NT, last_N[:, None] - 1)  # behind it stands another prompt's
    query_KNGQE = query_NHE.unflatten(1, (spec.key_heads, -1)).transpose(0, 1)[:, :, :, None]  # a query each
    mixed_KNGQE, *_ = mix(spec, query_KNGQE, key_KTE[:, place_NT], value_KTE[:, place_NT], seen_N1QT)
    return mixed_KNGQE[:, :, :, 0].transpose(0, 1).flatten(1, 2)


def _attend_whole(spec: Attention, query_NHE: Tensor, key_KTE: Tensor, value_KTE: Tensor, at_2N: Tensor) -> Tensor:
    """`attend` by torch, for rows of one prompt; the keys and values are its own."""
    place_T = torch.arange(key_KTE.shape[1], device=query_NHE.device)
    seen_NT = (place_T >= at_2N[0][:, None]) & (place_T < at_2N[1][:, None])
    query_KGNE = query_NHE.unflatten(1, (spec.key_heads, -1)).permute(1, 2, 0, 3)
    mixed_KGNE, *_ = mix(spec, query_KGNE, key_KTE, value_KTE, seen_NT)
    return mixed_KGNE.permute(2, 0, 1, 3).flatten(1, 2)


def feed_forward(spec: FeedForward, h_ND: Tensor, apply: Apply = apply) -> Tensor:
    up_NF = apply(spec.up, h_ND)
    if spec.gate is None:
        return apply(spec.down, spec.activation(up_NF))
    return apply(spec.down, spec.activation(apply(spec.gate, h_ND)).mul_(up_NF))


def logits(model: Transformer, x_ND: Tensor, apply: Apply = apply) -> Tensor:
    hidden_ND, _ = normed(model.final_norm, x_ND.to(model.final_norm.gain_D.device))
    return capped(apply(model.head, hidden_ND.to(model.head.weight_IO.device)), model.head_cap)[0]
