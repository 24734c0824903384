"""Gathers explanations: each unit is read from the store, or computed and stored."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from shiftbench.pipeline.progress import Advance, Progress
from shiftbench.store.explanation import Explanation, Unit, content_key
from shiftbench.store.sharing import take_or_compute
from shiftbench.store.store import Store
from shiftbench.store.work import Work


class Gatherer:
    """Turns work into explanations, and collects for the job's record what it gathered.

    computed, found: the number of units that were computed here, and of units that the store had; a unit that is part
    of several explanations counts once. keys: for each explanation that was gathered with record_key, by its title, one
    digest of its units' keys. notes: notes for the report, which the steps of the job append. unanswered: in a group of
    a larger job (`Job.group`), why no response could be explained; "" where some could.
    """

    def __init__(self, store: Store, progress: Progress) -> None:
        self._store, self._progress = store, progress
        self.computed = self.found = 0
        self._seen: set[str] = set()
        self._shown: set[tuple[str, str]] = set()  # titles and combined keys of the explanations that were shown
        self.keys: dict[str, str] = {}
        self.notes: list[str] = []
        self.unanswered = ""

    def __call__(self, title: str, work: Sequence[Work], record_key: bool = True) -> Explanation:
        """The explanation that consists of the units of `work`, in this order; each is computed if the store lacks it.

        Where several findings need the same explanation, the progress display shows it once.
        title: the explanation's name in the progress display and in `keys`. record_key: whether the digest of the
        units' keys is recorded in `keys`, which scores.json gets. Null models pass False: there are many of them, and
        their keys are never looked up.
        """
        key = combined_key(item.key for item in work)
        if record_key:
            self.keys[title] = key
        if (title, key) in self._shown:
            return self.quietly(work)
        self._shown.add((title, key))
        with self._progress.stage(title, len(work)) as advance:
            return self._gather(work, advance)

    def quietly(self, work: Sequence[Work]) -> Explanation:
        """The explanation of `work`, as `__call__` returns it, but neither shown as progress nor recorded in `keys`."""
        return self._gather(work, lambda computed: None)

    def _gather(self, work: Sequence[Work], advance: Advance) -> Explanation:
        by_key: dict[str, Unit] = {}
        keys = {item.unit: item.key for item in work}
        for item, unit, computed in take_or_compute(self._store, work):
            new = item.key not in self._seen
            self.computed += computed and new
            self.found += not computed and new
            self._seen.add(item.key)
            by_key[item.key] = unit
            advance(computed)
        # `take_or_compute` gives the units in any order; the explanation has the order of `work`.
        units = {name: by_key[key] for name, key in keys.items()}
        return Explanation(units, dict(work[0].content) if work else {}, keys)


def combined_key(keys: Iterable[str]) -> str:
    """One sha256 (hex) of the keys of several units. It does not depend on their order."""
    return content_key({"units": sorted(keys)})
