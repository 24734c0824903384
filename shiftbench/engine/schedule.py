"""How the engine's work is divided: derivatives into chunks for threads and caches, layers into segments for memory.

The memory that a caller allows is divided among four things: the rows of all derivatives, the rows stored at the cut,
the intermediate results of the chunks that are computed at the moment, and the forward cache of one segment.
Shape suffixes: see shiftbench/engine/__init__.py.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from shiftbench.engine import core_calls
from shiftbench.engine.part_derivatives import SCORES
from shiftbench.engine.product import STEP
from shiftbench.engine.row_layout import RowLayout
from shiftbench.models.block import Block

# The rows that a product on a CPU should have at most: enough for its full rate, and so few that they stay in the CPU's
# cache. Chunks have about so many rows at most, unless weights are merged.
ROWS = 448
# The most rows of a chunk where weights are merged for each position (core_calls.gate_up_derivative). Merging has a
# cost for each position, which all derivatives that the chunk has at the position share, so such a chunk may have more
# rows than ROWS, as long as it takes at most MERGED_SHARE of the memory.
MERGED_ROWS = 2048
MERGED_SHARE = 1 / 8
# The rows stored at the cut take at most this share of the memory that derivatives, chunks and the forward cache of one
# layer leave free.
CUT_SHARE = 2 / 3
GPU_ROWS = 8192  # so many rows a product on a GPU should have at most: then starting a kernel takes negligible time


@dataclass(frozen=True)
class Chunk:
    """Derivatives that go through the layers together.

    origins: for a tangent the position of its prompt token, for a cotangent the position that predicts its response
    token. layout: which derivative and position each row has. rows_ND: the rows. cross_CX: the inner products with the
    opposite derivatives (cut.py), summed over the layers so far; None where there is no cut, where no layer was passed
    yet, and where the chunk's derivatives are opposite ones themselves.
    """

    origins: tuple[int, ...]
    layout: RowLayout
    rows_ND: Tensor
    cross_CX: Tensor | None = None

    def unpadded(self) -> Tensor:
        """rows_ND without the padding rows at its end."""
        return self.rows_ND[: self.layout.offsets[-1]]


def count_opposite(blocks: Sequence[Block], prompt_tokens: int, response_tokens: int, tokens: int, memory: int) -> int:
    """How many derivatives of the other mode should run first and store their rows at the cut (cut.py); 0: no cut.

    tokens: positions of the text that are computed. memory: bytes.

    What a cut saves: without it the main derivatives have about P R + min(P, R)^2 / 2 rows, and n opposite derivatives
    save n min(P, R) - n^2 / 2 of them. What it is taken to cost: the opposite derivatives' own products, as much work
    as one row for each position; and two more forward passes, as much as two rows for each position, where the main
    derivatives are tangents and the memory does not hold all forward caches. Where a cut would save no more rows than
    it costs, the result is 0.

    Where it saves more, n is min(P, R) (one less where P = R), or as many as the memory for stored rows allows. That
    memory is a share of what the rows, the chunks and the forward cache of one layer leave free, so a cut makes no
    chunk smaller.
    """
    longest, least = max(prompt_tokens, response_tokens), min(prompt_tokens, response_tokens)
    weight, forward = blocks[0].attention.query.weight_IO, prompt_tokens < response_tokens
    rows = prompt_tokens * response_tokens + least**2 // 2
    row_bytes, layer_cache_bytes = _row_bytes(blocks, tokens), _cache_bytes(blocks, tokens)
    chunk_bytes = 2 * _max_chunk_rows(blocks[0], row_bytes, memory) * row_bytes
    spare = memory - rows * len(weight) * weight.element_size() - chunk_bytes - layer_cache_bytes
    storable_rows = max(0, int(spare * CUT_SHARE)) // _stored_row_bytes(blocks, forward)
    # n opposite derivatives store at most n (n + STEP) / 2 rows (cut_bytes). This solves that for n.
    storable = math.isqrt(2 * storable_rows + STEP**2 // 4) - STEP // 2
    # At least one token of the longer text (prompt or response) gets no opposite derivative, so that the main
    # derivatives keep a position on their side of the cut.
    count = min(least, longest - 1, storable)
    all_cached = layer_cache_bytes * len(blocks) <= spare - cut_bytes(blocks, count, forward)
    repeated_rows = 2 * tokens if forward and not all_cached else 0
    return count if count * least - count**2 / 2 > tokens + repeated_rows else 0


def cut_bytes(blocks: Sequence[Block], opposite: int, forward: bool) -> int:
    """The most bytes that `opposite` opposite derivatives store at the cut, all layers together.

    forward: whether the main derivatives are tangents.
    """
    return opposite * (opposite + STEP) // 2 * _stored_row_bytes(blocks, forward)


def _stored_row_bytes(blocks: Sequence[Block], forward: bool) -> int:
    """Bytes that are stored at the cut for one row of an opposite derivative, all layers together.

    forward: whether the main derivatives are tangents. The stored rows are then cotangents of the head outputs; where
    the main derivatives are cotangents, they are tangents of keys and values.
    """
    attention = blocks[0].attention
    heads = attention.heads if forward else 2 * attention.key_heads
    return len(blocks) * heads * attention.head_width * attention.query.weight_IO.element_size()


@dataclass(frozen=True)
class Plan:
    """How the memory is divided.

    chunk_rows: about how many rows a chunk should have. min_chunk_rows: where all derivatives together have at most so
    many rows, they are one chunk. threads: how many chunks are computed at once. cache_bytes: bytes for the forward
    cache of a segment; less than one layer needs, or negative, where the memory is too small.
    """

    chunk_rows: int
    min_chunk_rows: int
    threads: int
    cache_bytes: int


def plan(blocks: Sequence[Block], tokens: int, lengths: Sequence[int], memory: int, stored: int = 0) -> Plan:
    """How to take these derivatives through the layers within `memory` bytes.

    tokens: positions of the text. lengths: the most rows of each derivative. stored: bytes of the memory that the rows
    stored at the cut take (cut_bytes).
    The rows of all derivatives stay in memory between segments. Of the rest, the chunks that are computed at once may
    take all but the forward cache of one layer, and what they leave holds the forward cache of a segment. Where the
    memory is too small even for that, chunks are small and are computed one after another, and the memory is exceeded.
    """
    weight = blocks[0].attention.query.weight_IO
    on_cpu = weight.device.type == "cpu"
    each = _row_bytes(blocks, tokens)
    left = memory - stored - sum(lengths) * len(weight) * weight.element_size()
    free = left - _cache_bytes(blocks, tokens)
    most = _max_chunk_rows(blocks[0], each, memory)
    # The size of a chunk must not depend on the number of threads: a chunk's size changes the rounding of its results.
    rows = max(STEP, min(most, free // 2 // each))
    fewest = min(rows, max_product_rows(weight))
    cores = torch.get_num_threads() if on_cpu else 1
    threads = max(1, min(cores, len(split_items(lengths, rows, fewest)), free // (rows * each)))
    return Plan(rows, fewest, threads, left - threads * rows * each)


def _row_bytes(blocks: Sequence[Block], tokens: int) -> int:
    in_core = core_calls.supports_attention(blocks[0].attention.query.weight_IO)
    return max(row_bytes(block, tokens, in_core) for block in blocks)


def _cache_bytes(blocks: Sequence[Block], tokens: int) -> int:
    return max(cache_bytes(block, tokens) for block in blocks)


def max_product_rows(weight: Tensor) -> int:
    """How many rows a product should have at most, on the device of a weight: ROWS on a CPU, else GPU_ROWS."""
    return ROWS if weight.device.type == "cpu" else GPU_ROWS


def _max_chunk_rows(block: Block, each: int, memory: int) -> int:
    """About the most rows that a chunk should have: max_product_rows, or more where weights are merged (MERGED_ROWS).

    each: bytes that a row takes. memory: bytes.
    """
    weight = block.attention.query.weight_IO
    most = max_product_rows(weight)
    if not core_calls.merges_gate(block.feed_forward, weight):
        return most
    return max(most, min(MERGED_ROWS, int(memory * MERGED_SHARE) // each))


def split_items(lengths: Sequence[int], rows: int, fewest: int) -> list[slice]:
    """Consecutive items in an even number of parts of about `rows` rows each, or in one. lengths: rows of each item.

    There is one part where all items together have at most `fewest` rows, and there are two smaller parts where they
    have more, but fewer than 2 * `rows`. A part has one item at least, so where there are few items there may be fewer
    parts. The number is even so that two threads get equal work. It is not taken from the number of threads, because
    the results would then depend on the number of threads.
    """
    pairs = max(1, round(sum(lengths) / (2 * rows)))
    count = max(1, 2 * min(pairs, round(sum(lengths) / (2 * fewest))))
    return _split(lengths, count)


def _split(lengths: Sequence[int], count: int, first: int = 0) -> list[slice]:
    """The items in `count` consecutive parts of about equal work, or fewer where there are fewer items.

    first: the number of the first item, from which the slices count. No part is empty. The items are halved, and each
    half is split again. A part's work is its rows plus the cost of merging weights, about one row for each position of
    its longest item. That cost is small, and it is also counted where no weights are merged (core_calls.merges_gate).
    """
    if count == 1 or len(lengths) < 2:
        return [slice(first, first + len(lengths))] if lengths else []
    left, rows = count // 2, list(itertools.accumulate(lengths, initial=0))
    longest = list(itertools.accumulate(lengths, max, initial=0))
    longest_behind = list(itertools.accumulate(reversed(lengths), max, initial=0))[::-1]

    def work(middle: int) -> float:
        behind = (rows[-1] - rows[middle]) / (count - left) + longest_behind[middle]
        return max(rows[middle] / left + longest[middle], behind)

    middle = min(range(len(rows)), key=work)
    return _split(lengths[:middle], left, first) + _split(lengths[middle:], count - left, first + middle)


def split_layers(blocks: Sequence[Block], tokens: int, memory: int) -> list[Sequence[Block]]:
    """The layers in segments whose forward cache takes at most `memory` bytes; a segment has one layer at least.

    tokens: positions of the text.
    """
    length = max(1, memory // _cache_bytes(blocks, tokens))
    return [blocks[i : i + length] for i in range(0, len(blocks), length)]


def cache_bytes(block: Block, tokens: int) -> int:
    """About how many bytes the LayerCache of a text with `tokens` positions takes.

    Counted are queries, keys, values and head outputs, two norms, two slopes, and for each query head one map of T x T
    probabilities, or two where there is a soft cap.
    """
    attention, inner = block.attention, block.feed_forward.up.weight_IO
    width, feed = inner.shape
    numbers = tokens * 2 * (attention.heads + attention.key_heads) * attention.head_width
    numbers += tokens * (2 * width + 2 * feed) + (1 if attention.cap is None else 2) * attention.heads * tokens**2
    return numbers * inner.element_size()


def row_bytes(block: Block, tokens: int, in_core: bool) -> int:
    """About the most bytes that one row takes within a layer, besides the row itself.

    In attention the row takes its input twice, queries, keys, values and head outputs, and the queries once more where
    they have a norm. In the feed-forward network it takes its input twice and one inner row, or two where the gate is
    multiplied separately. tokens: positions of the text. in_core: whether the compiled core computes attention; where
    torch does, a row also takes attention scores, of all positions at most, and copies.
    """
    attention, (width, feed) = block.attention, block.feed_forward.up.weight_IO.shape
    heads, each = attention.heads * attention.head_width, attention.head_width
    mixing = 2 * width + 2 * heads + 2 * attention.key_heads * each
    if attention.query_norm is not None:
        mixing += heads
    merged = core_calls.merges_gate(block.feed_forward, attention.query.weight_IO)
    two = block.feed_forward.gate is not None and not merged
    feeding = 2 * width + (2 if two else 1) * feed
    if not in_core:
        mixing += 3 * heads + attention.heads * min(tokens, SCORES * each)
        feeding += feed
    return max(mixing, feeding) * block.feed_forward.up.weight_IO.element_size()


def run_chunks(step: Callable[[Chunk], Chunk], chunks: list[Chunk], threads: int) -> list[Chunk]:
    """step(chunk) of every chunk, in the order of the chunks.

    At most `threads` chunks are computed at once, and share torch's threads. On a GPU, or where `threads` is 1, one
    chunk is computed after another. On a CPU several products at once, on one core each, take less time than the same
    products one after another, each spread over all cores. The chunks are taken out of their list, which is empty
    afterwards, so that none stays in memory longer than its step needs it.
    """
    threads = min(threads, len(chunks))
    one_thread = threads < 2 or chunks[0].rows_ND.is_cuda
    each = (chunks.pop(0) for _ in range(len(chunks)))
    if one_thread:
        return [step(chunk) for chunk in each]
    with threads_each(torch.get_num_threads() // threads), ThreadPoolExecutor(threads) as pool:
        return list(pool.map(torch.no_grad()(step), each))


@contextmanager
def threads_each(count: int) -> Iterator[None]:
    """Within the block torch computes with `count` threads for each thread of Python that calls it.

    Afterwards the earlier number of threads is restored.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
