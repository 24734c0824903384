"""Work that several processes may be at: each unit is made by one of them and taken from the store by the others."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

from shiftbench.explain.work import Work
from shiftbench.explanation import Unit
from shiftbench.store import Store

WAIT = 0.1  # seconds between looks at what others make, once there is nothing else to do


def shared(store: Store, work: Sequence[Work]) -> Iterator[tuple[Work, Unit, bool]]:
    """Each item of the work with its unit, and whether it was made here. Not in the order of the work.

    What is missing is made and stored at once. An item that another process makes is left for later; where that
    process died, it is made here.
    """
    left = list(work)
    while left:
        later = []
        for item in left:
            with ExitStack() as stack:
                unit = store.get(item.key)
                if unit is None and not stack.enter_context(store.claim(item.key)):
                    later.append(item)
                    continue
                unit = unit or store.get(item.key)  # the other may have ended between the look and the claim
                made = unit is None
                if unit is None:
                    unit = item.compute()
                    store.put(item.key, unit, item.content)
            yield item, unit, made
        if len(later) == len(left):
            time.sleep(WAIT)
        left = later
