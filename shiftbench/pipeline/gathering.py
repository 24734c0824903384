"""Explanations through the store: each unit is taken from there, or computed and stored at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from shiftbench.pipeline.progress import Progress
from shiftbench.store.explanation import Explanation, Unit, content_key
from shiftbench.store.sharing import take_or_compute
from shiftbench.store.store import Store
from shiftbench.store.work import Work


class Gatherer:
    """Turns work into explanations, and keeps count.

    computed, found: units that were computed here and units that the store had; each unit counts once, however many
    explanations it is part of. keys: digest of the unit keys of each explanation, by its title. notes: for the reader.
    unanswered: why no response of the main mode could be explained; empty where one could.
    """

    def __init__(self, store: Store, progress: Progress) -> None:
        self._store, self._progress = store, progress
        self.computed = self.found = 0
        self._seen: set[str] = set()
        self.keys: dict[str, str] = {}
        self.notes: list[str] = []
        self.unanswered = ""

    def __call__(self, title: str, work: Sequence[Work], record_key: bool = True) -> Explanation:
        """The explanation that the work makes. title: what progress and the run's tags call it.

        record_key: whether the explanation's key is written into the run's tags. Null models pass False: there are
        many of them and nobody looks them up.
        """
        by_key: dict[str, Unit] = {}
        keys = {item.unit: item.key for item in work}
        with self._progress.stage(title, len(work)) as advance:
            for item, unit, computed in take_or_compute(self._store, work):
                new = item.key not in self._seen
                self.computed += computed and new
                self.found += not computed and new
                self._seen.add(item.key)
                by_key[item.key] = unit
                advance(computed)
        if record_key:
            self.keys[title] = combined_key(keys.values())
        # In the order of the work: several processes may have computed the units, in any order.
        units = {name: by_key[key] for name, key in keys.items()}
        return Explanation(units, dict(work[0].content) if work else {}, keys)


def combined_key(keys: Iterable[str]) -> str:
    """One sha256 (hex) for many unit keys, for tags and records."""
    return content_key({"units": sorted(keys)})
