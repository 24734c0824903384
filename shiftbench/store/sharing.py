"""Work that several processes may be at: each unit is made by one of them and taken from the store by the others."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

from shiftbench.store.explanation import Unit
from shiftbench.store.store import Store
from shiftbench.store.work import Work, compute_all

WAIT = 0.1  # seconds between looks at what others make, once there is nothing else to do
BATCH = 64  # units claimed at once where a method makes them faster in company; others may take the rest


def take_or_compute(store: Store, work: Sequence[Work]) -> Iterator[tuple[Work, Unit, bool]]:
    """Each item of the work with its unit, and whether it was made here. Not in the order of the work.

    What is missing is made and stored at once. An item that another process makes is left for later; where that
    process died, it is made here.
    """
    missing = []
    for item in work:
        unit = store.get(item.key)
        if unit is None:
            missing.append(item)
        else:
            yield item, unit, False
    size = BATCH if missing and missing[0].batch is not None else 1
    while missing:
        left: list[Work] = []
        for start in range(0, len(missing), size):
            yield from _take_or_compute(store, missing[start : start + size], left)
        if len(left) == len(missing):
            time.sleep(WAIT)
        missing = left


def _take_or_compute(store: Store, work: Sequence[Work], left: list[Work]) -> Iterator[tuple[Work, Unit, bool]]:
    """Those of the items that no other process has in hand; the others are added to left."""
    with ExitStack() as stack:
        mine = []
        for item in work:
            unit = store.get(item.key)
            if unit is None and not stack.enter_context(store.claim(item.key)):
                left.append(item)
                continue
            unit = unit or store.get(item.key)  # the other may have ended between the look and the claim
            if unit is None:
                mine.append(item)
            else:
                yield item, unit, False
        for place, unit in compute_all(mine):
            store.put(mine[place].key, unit, mine[place].content)
            yield mine[place], unit, True
