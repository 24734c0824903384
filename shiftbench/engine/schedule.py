"""How the engine's work is cut: derivatives into chunks for threads, layers into segments for memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from shiftbench.engine.rows import Stretches
from shiftbench.models.block import Block

ROWS = 448  # rows of a chunk: enough for the matrix product's full rate, few enough for the cache


@dataclass(frozen=True)
class Chunk:
    """Derivatives that go through the layers together. born: the position where each began; at: where its rows are."""

    born: tuple[int, ...]
    at: Stretches
    rows_ND: Tensor

    def items(self) -> Tensor:
        """rows_ND without nobody's rows."""
        return self.rows_ND[: self.at.offsets[-1]]


def parts(lengths: Sequence[int]) -> list[slice]:
    """Consecutive items in an even number of parts of about ROWS rows; lengths: rows of each.

    Even for the sake of two threads; how many there are does not enter, or results would depend on it.
    """
    count = max(1, 2 * round(sum(lengths) / (2 * ROWS)))
    found: list[slice] = []
    begin = total = 0
    for item, length in enumerate(lengths, start=1):
        total += length
        if item == len(lengths) or total * count >= sum(lengths) * (len(found) + 1):
            found.append(slice(begin, item))
            begin = item
    return found


def segments(blocks: Sequence[Block], tokens: int, memory: int) -> list[Sequence[Block]]:
    """The layers in runs whose kept forward pass stays within so many bytes; a run has one layer at least."""
    length = max(1, memory // max(kept_bytes(block, tokens) for block in blocks))
    return [blocks[i : i + length] for i in range(0, len(blocks), length)]


def kept_bytes(block: Block, tokens: int) -> int:
    """What KeptBlock holds of T tokens: queries, keys, values, mixed heads; norms; slopes; two maps a head."""
    attention, inner = block.attention, block.feed_forward.up.weight_IO
    width, feed = inner.shape
    numbers = tokens * 2 * (attention.heads + attention.key_heads) * attention.head_width
    numbers += tokens * (2 * width + 2 * feed) + 2 * attention.heads * tokens * tokens
    return numbers * inner.element_size()


def share(step: Callable[[Chunk], Chunk], chunks: Sequence[Chunk]) -> list[Chunk]:
    """Every chunk's step, a thread each: a matrix product alone on a core wastes less than one spread over all."""
    threads = min(torch.get_num_threads(), len(chunks))
    if threads < 2 or chunks[0].rows_ND.is_cuda:
        return [step(chunk) for chunk in chunks]
    with threads_each(torch.get_num_threads() // threads), ThreadPoolExecutor(threads) as pool:
        return list(pool.map(torch.no_grad()(step), chunks))


@contextmanager
def threads_each(count: int) -> Iterator[None]:
    """torch computes with so many threads for every caller, in the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
