"""Work: one unit that is still to be computed or found in the store, and computing the units of one method."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shiftbench.store.explanation import Unit, content_key


@dataclass(frozen=True)
class Work:
    """One unit of an explanation, which is to be taken from the store or computed.

    unit: the unit's name within its explanation, such as a prompt's id or 'layer 3'. content: everything that the
    unit's numbers depend on, as JSON-able values; its digest is the unit's key in the store. compute: computes the
    unit. batch: computes many units faster than one after the other; None where there is no faster way. It takes a
    sequence of work of one method on one model or pair, and yields (index in that sequence, unit) as each is done. Its
    units must equal those of `compute`.
    """

    unit: str
    content: Mapping[str, Any]
    compute: Callable[[], Unit]
    batch: Callable[[Sequence[Work]], Iterator[tuple[int, Unit]]] | None = None

    @property
    def key(self) -> str:
        """The name under which the unit is stored: sha256 (hex) of `content`."""
        return content_key(self.content)


def compute_all(work: Sequence[Work]) -> Iterator[tuple[int, Unit]]:
    """Compute work of one method on one model or pair; yields (index in `work`, unit) as each is done, in any order."""
    if work and work[0].batch is not None:
        yield from work[0].batch(work)
    else:
        yield from ((index, item.compute()) for index, item in enumerate(work))
