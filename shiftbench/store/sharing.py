"""Several processes share work: one of them computes each unit, and the others take it from the store."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

from shiftbench.errors import InputError
from shiftbench.store.explanation import Unit
from shiftbench.store.store import Store
from shiftbench.store.work import Work, compute_all

WAIT = 0.1  # seconds between checks of the store while other processes compute all that is left
BATCH = 64  # most units claimed at once where a method computes many faster together, else 1; others can take the rest


def take_or_compute(store: Store, work: Sequence[Work]) -> Iterator[tuple[Work, Unit, bool]]:
    """Yields (work item, its unit, whether this process computed it) once for each item, in any order.

    work: items of one method on one model or one pair. A unit that the store lacks is computed and stored before it is
    yielded. An item that another process is computing is postponed until its unit is in the store. If that process dies
    or fails, this one computes the unit, unless a third claims it first. Raises what Store.claim, Store.put and the
    computation raise.
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
    """Yields (work item, its unit, whether this process computed it) for each item that is stored or can be claimed.

    A unit that the store has by now is taken from it. One that it lacks is claimed, computed and stored. Items that the
    store lacks and another process has claimed are appended to `left` and not yielded. An InputError of Store.put, for
    a unit that is too large, is raised after the other units of `work` are stored and yielded.
    """
    with ExitStack() as stack:
        mine = []
        for item in work:
            unit = store.get(item.key)
            if unit is None and not stack.enter_context(store.claim(item.key)):
                left.append(item)
                continue
            unit = unit or store.get(item.key)  # another process may have stored it between the check and the claim
            if unit is None:
                mine.append(item)
            else:
                yield item, unit, False
        too_large = None
        for place, unit in compute_all(mine):
            try:
                store.put(mine[place].key, unit, mine[place].content)
            except InputError as error:  # the other units of this batch may be computed already, so they are stored
                too_large = too_large or error
                continue
            yield mine[place], unit, True
        if too_large is not None:
            raise too_large
