"""How the engine's work is cut: derivatives into chunks for threads and caches, layers into segments for memory."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from shiftbench.engine import core
from shiftbench.engine.product import STEP
from shiftbench.engine.rows import Stretches
from shiftbench.engine.stages import SCORES
from shiftbench.models.block import Block

ROWS = 448  # rows of a product on a CPU: enough for its full rate, few enough for the cache
# Rows of a chunk where weights are merged for each position (core.gated): what that costs is shared by all derivatives
# that the chunk has there. They take no more of the memory than this share.
MERGED_ROWS = 2048
MERGED_SHARE = 1 / 8
BORDER_SHARE = 2 / 3  # of the memory that is free beside rows and chunks: for what derivatives leave at a border
GPU_ROWS = 8192  # and elsewhere: enough that starting its kernels costs nothing beside them


@dataclass(frozen=True)
class Chunk:
    """Derivatives that go through the layers together. born: the position where each began; at: where its rows are.

    met_CB: what these have met at the border so far (border.py).
    """

    born: tuple[int, ...]
    at: Stretches
    rows_ND: Tensor
    met_CB: Tensor | None = None

    def items(self) -> Tensor:
        """rows_ND without nobody's rows."""
        return self.rows_ND[: self.at.offsets[-1]]


def crossing(blocks: Sequence[Block], prompt: int, response: int, tokens: int, memory: int) -> int:
    """How many derivatives should go the other way, to meet the rest at a border (border.py); 0: none.

    So many save few * least - few^2 / 2 rows of P R + least^2 / 2, with least = min(P, R). What they leave may take a
    share of the memory that rows and chunks leave free, so that neither gets less for it. The rows saved must outweigh
    the little that the few's own products are worth beside the others', as many as there are tokens, and the two more
    forward passes that tangents need below a border where not all layers can be kept.
    """
    longest, least = max(prompt, response), min(prompt, response)
    weight, forward = blocks[0].attention.query.weight_IO, prompt < response
    rows, each, layer = prompt * response + least**2 // 2, _row_bytes(blocks, tokens), _kept_bytes(blocks, tokens)
    chunks = 2 * _chunk_rows(blocks[0], each, memory) * each
    spare = memory - rows * len(weight) * weight.element_size() - chunks - layer
    left = max(0, int(spare * BORDER_SHARE)) // _left_bytes(blocks, forward)
    count = min(least, longest - 1, math.isqrt(2 * left + STEP**2 // 4) - STEP // 2)
    again = 2 * tokens if forward and layer * len(blocks) > spare - border_bytes(blocks, count, forward) else 0
    return count if count * least - count**2 / 2 > tokens + again else 0


def border_bytes(blocks: Sequence[Block], few: int, forward: bool) -> int:
    """What so many derivatives leave at the border; forward: the rest are tangents."""
    return few * (few + STEP) // 2 * _left_bytes(blocks, forward)


def _left_bytes(blocks: Sequence[Block], forward: bool) -> int:
    """What a row leaves in all layers: the heads' outputs' cotangents, or keys' and values' tangents."""
    attention = blocks[0].attention
    heads = attention.heads if forward else 2 * attention.key_heads
    return len(blocks) * heads * attention.head_width * attention.query.weight_IO.element_size()


@dataclass(frozen=True)
class Plan:
    """What fits into memory.

    rows: of a chunk, about; fewest: that are worth a chunk of their own; threads: chunks at a time; kept: bytes of a
    forward pass.
    """

    rows: int
    fewest: int
    threads: int
    kept: int


def plan(blocks: Sequence[Block], tokens: int, lengths: Sequence[int], memory: int, border: int = 0) -> Plan:
    """How to push so many derivatives, of these lengths in rows, through the layers within so many bytes.

    border: bytes of the memory that are taken by what is left there.
    All rows wait between segments; those of the chunks in flight take the most; what is left keeps the forward pass,
    of one layer at least. Where that is too much already, chunks are small and go one by one.
    """
    weight = blocks[0].attention.query.weight_IO
    on_cpu = weight.device.type == "cpu"
    each = _row_bytes(blocks, tokens)
    left = memory - border - sum(lengths) * len(weight) * weight.element_size()
    free = left - _kept_bytes(blocks, tokens)
    most = _chunk_rows(blocks[0], each, memory)
    rows = max(STEP, min(most, free // 2 // each))  # threads do not enter, or results would depend on them
    fewest = min(rows, most_rows(weight))
    cores = torch.get_num_threads() if on_cpu else 1
    threads = max(1, min(cores, len(parts(lengths, rows, fewest)), free // (rows * each)))
    return Plan(rows, fewest, threads, left - threads * rows * each)


def _row_bytes(blocks: Sequence[Block], tokens: int) -> int:
    served = core.attends(blocks[0].attention.query.weight_IO)
    return max(row_bytes(block, tokens, served) for block in blocks)


def _kept_bytes(blocks: Sequence[Block], tokens: int) -> int:
    return max(kept_bytes(block, tokens) for block in blocks)


def most_rows(weight: Tensor) -> int:
    """Of a product, on the device of a weight."""
    return ROWS if weight.device.type == "cpu" else GPU_ROWS


def _chunk_rows(block: Block, each: int, memory: int) -> int:
    """Of a chunk at most; each: bytes that a row takes."""
    weight = block.attention.query.weight_IO
    most = most_rows(weight)
    if not core.merges(block.feed_forward, weight):
        return most
    return max(most, min(MERGED_ROWS, int(memory * MERGED_SHARE) // each))


def parts(lengths: Sequence[int], rows: int, fewest: int) -> list[slice]:
    """Consecutive items in an even number of parts of about so many rows; lengths: rows of each.

    Even for the sake of two threads; how many there are does not enter, or results would depend on it. One part, where
    two would have less than the fewest rows.
    """
    pairs = max(1, round(sum(lengths) / (2 * rows)))
    count = max(1, 2 * min(pairs, round(sum(lengths) / (2 * fewest))))
    return _split(lengths, count)


def _split(lengths: Sequence[int], count: int, first: int = 0) -> list[slice]:
    """Items, numbered from the first on, in so many parts, none empty, by halves of about equal work.

    A part's work is its rows and what merging weights costs, about a row for each position of its longest item; where
    none are merged (core.merges), that little is counted all the same.
    """
    if count == 1 or len(lengths) < 2:
        return [slice(first, first + len(lengths))] if lengths else []
    left, rows = count // 2, list(itertools.accumulate(lengths, initial=0))
    longest = list(itertools.accumulate(lengths, max, initial=0))
    longest_behind = list(itertools.accumulate(reversed(lengths), max, initial=0))[::-1]

    def work(cut: int) -> float:
        behind = (rows[-1] - rows[cut]) / (count - left) + longest_behind[cut]
        return max(rows[cut] / left + longest[cut], behind)

    cut = min(range(len(rows)), key=work)
    return _split(lengths[:cut], left, first) + _split(lengths[cut:], count - left, first + cut)


def segments(blocks: Sequence[Block], tokens: int, memory: int) -> list[Sequence[Block]]:
    """The layers in runs whose kept forward pass stays within so many bytes; a run has one layer at least."""
    length = max(1, memory // _kept_bytes(blocks, tokens))
    return [blocks[i : i + length] for i in range(0, len(blocks), length)]


def kept_bytes(block: Block, tokens: int) -> int:
    """What KeptBlock holds of T tokens: queries, keys, values, mixed heads; norms; slopes; a map or two a head."""
    attention, inner = block.attention, block.feed_forward.up.weight_IO
    width, feed = inner.shape
    numbers = tokens * 2 * (attention.heads + attention.key_heads) * attention.head_width
    numbers += tokens * (2 * width + 2 * feed) + (1 if attention.cap is None else 2) * attention.heads * tokens**2
    return numbers * inner.element_size()


def row_bytes(block: Block, tokens: int, served: bool) -> int:
    """The most that one row takes on its way through a layer, beside itself. served: by the compiled core.

    In attention: its input, queries, keys, values and the heads' results; in the feed-forward network: its input
    twice, and an inner row, or two where its gate is a product of its own. Without the core there are scores too, of at
    most all tokens, and copies to compute with.
    """
    attention, (width, feed) = block.attention, block.feed_forward.up.weight_IO.shape
    heads, each = attention.heads * attention.head_width, attention.head_width
    mixing = 2 * width + 2 * heads + 2 * attention.key_heads * each
    if attention.query_norm is not None:
        mixing += heads
    two = block.feed_forward.gate is not None and not core.merges(block.feed_forward, attention.query.weight_IO)
    feeding = 2 * width + (2 if two else 1) * feed
    if not served:
        mixing += 3 * heads + attention.heads * min(tokens, SCORES * each)
        feeding += feed
    return max(mixing, feeding) * block.feed_forward.up.weight_IO.element_size()


def share(step: Callable[[Chunk], Chunk], chunks: list[Chunk], threads: int) -> list[Chunk]:
    """Every chunk's step, a thread each: a matrix product alone on a core wastes less than one spread over all.

    Takes the chunks out of their list, so that none is in memory longer than its step needs it.
    """
    threads = min(threads, len(chunks))
    alone = threads < 2 or chunks[0].rows_ND.is_cuda
    each = (chunks.pop(0) for _ in range(len(chunks)))
    if alone:
        return [step(chunk) for chunk in each]
    with threads_each(torch.get_num_threads() // threads), ThreadPoolExecutor(threads) as pool:
        return list(pool.map(torch.no_grad()(step), each))


@contextmanager
def threads_each(count: int) -> Iterator[None]:
    """torch computes with so many threads for every caller, in the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
