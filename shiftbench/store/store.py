"""Explanations on disk, each unit under the digest of what it was computed from.

ROOT/KEY[:2]/KEY/ holds one whole unit. It is written under ROOT/tmp/ and renamed, so a reader sees all of it or
nothing; whoever is killed leaves only a folder under tmp/, which `prune` sweeps. ROOT/claims/KEY is locked by the
process that makes the unit.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import re
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import platformdirs
from rich.console import Console
from rich.table import Table
from rich.text import Text

from shiftbench.errors import InputError, Unwritable
from shiftbench.readers import path_of
from shiftbench.store import entry
from shiftbench.store.entry import Damaged
from shiftbench.store.explanation import Unit
from shiftbench.system import disks, locks
from shiftbench.system.disks import amount

KEY = re.compile(r"[0-9a-f]{64}")
PROBE_BYTES = 2**20  # a unit is about this large; with less room than that a disk counts as full
FULL = disks.FULL
OCCUPIED = {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}
SWEEP_WAIT = 5.0  # seconds that prune waits for a moment in which nobody writes
UNLOCKED_LEFTOVER = 86400.0  # seconds; on a file system without locks only age tells a leftover from work

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """One stored unit. size: bytes on disk. damage: why it cannot be read, None where nothing wrong was seen."""

    key: str
    size: int
    created: datetime
    record: Mapping[str, Any]
    damage: str | None = None


@dataclass(frozen=True)
class Pruned:
    """What prune removed, or would: entries, leftovers of killed writers, and their bytes together."""

    entries: int
    leftovers: int
    bytes: int


class Store:
    """Units by key. Any number of processes may read and write at once."""

    def __init__(self, path: Path | str | None) -> None:
        """path: the store's folder, made where missing; None: `explanations` in the user's cache folder.

        Raises InputError where the folder can be neither written nor read for units that it holds already. One that
        can only be read serves a job whose units are all there; the first `claim` of a missing one raises.
        """
        self.path = _root(path)
        self._tmp, self._claims = self.path / "tmp", self.path / "claims"
        self._is_full = False
        self._unwritable = self._try_writing()
        if self._unwritable is not None:
            if not self._keys():
                raise self._unwritable
            log.warning("%s; what it holds is used", self._unwritable)

    def _try_writing(self) -> InputError | None:
        """Why a unit cannot be written here at this moment; None where it can."""
        try:
            self._tmp.mkdir(parents=True, exist_ok=True)
            self._claims.mkdir(exist_ok=True)
            with self._temporary_folder() as folder_in_tmp:
                entry.write(folder_in_tmp / "probe", {"probe": bytes(PROBE_BYTES)})
        except OSError as error:
            self._is_full = error.errno in FULL
            named = "" if error.filename is None else f": {error.filename}"
            reason = (
                disks.no_room_reason(error, self.path, PROBE_BYTES) if self._is_full else f"{error.strerror}{named}"
            )
            return InputError(
                f"store of explanations {self.path} cannot be written: {reason}; choose another with store.path=DIR"
            )
        return None

    def check_writable(self) -> None:
        """Before work whose result must be kept: raises InputError where the store could not be written at the start
        and still cannot."""
        if self._unwritable is not None:
            self._unwritable = self._try_writing()
        if self._unwritable is not None:
            raise self._unwritable

    def get(self, key: str) -> Unit | None:
        """The unit under a key, or None. A damaged one is removed with a line in the log, and None comes back."""
        try:
            return entry.read(self._folder(key), key)[0]
        except FileNotFoundError:
            return None
        except Damaged as damage:
            log.warning("store %s: %s is damaged (%s); it will be computed again", self.path, key, damage)
            if self._unwritable is None:  # a store that is only read is left as it is
                with suppress(OSError):  # another user's: `put` says so when it cannot replace it
                    self._remove(key)
            return None

    def put(self, key: str, unit: Unit, record: Mapping[str, Any]) -> None:
        """Store a unit. Where two processes store the same key, the first one's stays.

        record: what the unit was computed from, JSON-able. Raises Unwritable, an OSError, on a full disk; then nothing
        of it is left.
        """
        folder = self._folder(key)
        files = entry.encode(key, unit, record)
        try:
            with self._temporary_folder() as folder_in_tmp:
                entry.write(folder_in_tmp / "entry", files)
                folder.parent.mkdir(exist_ok=True)
                self._move_in(folder_in_tmp / "entry", key)
        except Unwritable:
            raise
        except OSError as error:
            raise self._write_error(error, sum(map(len, files.values()))) from None

    @contextmanager
    def claim(self, key: str) -> Iterator[bool]:
        """Says for the block, or until this process dies, that it makes the unit; False where another one makes it.

        Whoever gets True looks again whether the unit is there by now. Where the file system has no locks everybody
        gets True, and processes that make the same unit agree: `put` keeps the first. Raises InputError where the
        store could not be written at the start and still cannot.
        """
        self._folder(key)  # refuses what is no key
        self.check_writable()
        with ExitStack() as stack:
            try:
                mine = stack.enter_context(locks.held(self._claims / key, remove=True))
            except OSError as error:
                raise self._write_error(error, 0) from None
            yield mine

    def entries(self) -> Iterator[Entry]:
        """Every stored unit, by key. Only records are read and checked: `verify` also reads the arrays."""
        for key in self._keys():
            found = self._entry(key, whole=False)
            if found is not None:
                yield found

    def verify(self, repair: bool = False) -> list[Entry]:
        """The damaged entries, each with what is wrong; every byte is read. repair: remove them.

        Raises InputError where they are to be removed from a store that may only be read.
        """
        if repair:
            self._check_removable()
        found = [self._entry(key, whole=True) for key in self._keys()]
        damaged = [item for item in found if item is not None and item.damage]
        for item in damaged if repair else ():
            self._remove(item.key)
        return damaged

    def prune(
        self,
        older_than_days: float | None = None,
        method: str | None = None,
        weights: str | None = None,
        dry_run: bool = False,
    ) -> Pruned:
        """Remove what killed writers left, and the entries that meet every condition given; none given: no entry.

        method: as in the record. weights: the first digits of a digest of weights, of either model of a pair.
        dry_run: count, remove nothing. Raises InputError for a store that may only be read.
        """
        self._check_removable()
        leftovers = self._sweep(dry_run)
        for claim in () if dry_run else list(self._claims.iterdir()):  # those of killed processes, which nobody holds
            with suppress(OSError), locks.held(claim, remove=True):  # what is no file is nobody's claim
                pass
        conditions = (older_than_days, method, weights)
        named = any(condition is not None for condition in conditions)
        chosen = [item for item in self.entries() if _matches(item, *conditions)] if named else []
        for item in () if dry_run else chosen:
            self._remove(item.key)
        return Pruned(len(chosen), len(leftovers), sum(leftovers) + sum(item.size for item in chosen))

    def _check_removable(self) -> None:
        """A full store may be emptied, one that cannot be written for another reason not."""
        if self._unwritable is not None and not self._is_full:
            raise self._unwritable

    def _folder(self, key: str) -> Path:
        if not KEY.fullmatch(key):
            raise ValueError(f"store: a key is 64 hexadecimal digits, got {key!r}")
        return self.path / key[:2] / key

    def _keys(self) -> list[str]:
        return sorted(path.name for path in self.path.glob("[0-9a-f][0-9a-f]/*") if KEY.fullmatch(path.name))

    def _entry(self, key: str, whole: bool) -> Entry | None:
        """None where the entry went away meanwhile."""
        folder = self._folder(key)
        try:
            size, changed = _size(folder), datetime.fromtimestamp(folder.lstat().st_mtime, timezone.utc)
            try:
                body = entry.read(folder, key)[1] if whole else entry.read_body(folder, key)
            except Damaged as damage:
                return Entry(key, size, changed, {}, str(damage))
            return Entry(key, size, body.created, body.record)
        except FileNotFoundError:
            return None

    def _move_in(self, part: Path, key: str) -> None:
        folder = self._folder(key)
        for _ in range(3):
            try:
                os.rename(part, folder)
                return entry.sync_folder(folder.parent)
            except OSError as error:
                if error.errno not in OCCUPIED:
                    raise
            if self.get(key) is not None:  # another process was first; get removes what is damaged
                return None
        raise Unwritable(
            errno.EEXIST,
            f"store of explanations {self.path}: {folder} is damaged and cannot be removed; remove it, or set "
            "store.path=DIR",
        )

    def _remove(self, key: str) -> None:
        """Take an entry away in one step, so that nobody ever sees half of it."""
        with self._temporary_folder() as folder_in_tmp:
            try:
                os.rename(self._folder(key), folder_in_tmp / "entry")
            except FileNotFoundError:
                pass  # another process removed it

    @contextmanager
    def _temporary_folder(self) -> Iterator[Path]:
        """A new folder under tmp/ for the time of the block; while it lasts, nobody sweeps."""
        with self._lock(fcntl.LOCK_SH):
            folder_in_tmp = Path(tempfile.mkdtemp(dir=self._tmp))
            try:
                yield folder_in_tmp
            finally:
                shutil.rmtree(folder_in_tmp, ignore_errors=True)

    @contextmanager
    def _lock(self, kind: int) -> Iterator[bool]:
        """Holds ROOT/tmp/lock until the block ends or the process dies; False where the file system has no locks.

        Writers share it; who sweeps has it alone. Raises BlockingIOError where kind says not to wait.
        """
        with locks.opened(self._tmp / "lock", os.O_WRONLY | os.O_APPEND | os.O_CREAT) as file:
            try:
                fcntl.flock(file, kind)
                locked = True
            except BlockingIOError:
                raise
            except OSError:
                locked = False
            yield locked

    def _sweep(self, dry_run: bool) -> list[int]:
        """Sizes of the leftovers under tmp/, which are removed; none while somebody keeps writing."""
        until = time.monotonic() + SWEEP_WAIT
        while True:
            try:
                with self._lock(fcntl.LOCK_EX | fcntl.LOCK_NB) as locked:
                    return [_discard(path, dry_run) for path in self._leftovers(locked)]
            except BlockingIOError:
                if time.monotonic() > until:
                    log.warning("store %s: writers are at work; what killed ones left stays for now", self.path)
                    return []
                time.sleep(0.02)

    def _leftovers(self, locked: bool) -> list[Path]:
        before = time.time() if locked else time.time() - UNLOCKED_LEFTOVER
        return [path for path in self._tmp.iterdir() if path.name != "lock" and path.lstat().st_mtime <= before]

    def _write_error(self, error: OSError, needed: int) -> Unwritable:
        if error.errno not in FULL:
            named = "" if error.filename is None else f": {error.filename}"
            what = f"{error.strerror or error}{named}"
            said = f"store of explanations {self.path} cannot be written any more: {what}; set store.path=DIR"
            return Unwritable(error.errno, said)
        return Unwritable(
            error.errno,
            f"store of explanations {self.path} cannot take another unit: "
            f"{disks.no_room_reason(error, self.path, needed)}; make room (shiftbench store prune) or set "
            "store.path=DIR, and the same command goes on from here",
        )


def print_entries(config: Any) -> int:
    """Print what the store holds, by method and weights. Returns 0: nothing is judged."""
    store = Store(config.store.path)
    groups: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    for item in store.entries():
        method = "(damaged)" if item.damage else str(item.record.get("method", ""))
        groups[method, " ".join(digest[:12] for digest in _weights(item))].append(item)
    table = Table("method", "weights", "units", "size", "newest")
    for (method, weights), items in sorted(groups.items()):
        newest = max(item.created for item in items).astimezone()
        table.add_row(Text(method), Text(weights), str(len(items)), amount(_bytes(items)), f"{newest:%Y-%m-%d %H:%M}")
    if groups:
        Console(soft_wrap=True).print(table)
    every = [item for items in groups.values() for item in items]
    print(f"{len(every)} units, {amount(_bytes(every))}, in {store.path}")
    return 0


def verify_and_print(config: Any) -> int:
    """Print every damaged entry. Returns how many there are; 0 where they were removed (repair=true)."""
    store = Store(config.store.path)
    damaged = store.verify(repair=config.repair)
    for item in damaged:
        print(f"{item.key}: {item.damage}" + (" (removed)" if config.repair else ""))
    print(f"{len(damaged)} damaged units in {store.path}")
    return 0 if config.repair else len(damaged)


def prune_and_print(config: Any) -> int:
    """Remove leftovers, and the entries that the options name; print what went. Returns 0."""
    store = Store(config.store.path)
    pruned = store.prune(config.older_than_days, config.method, config.weights, config.dry_run)
    did = "would remove" if config.dry_run else "removed"
    print(f"{did} {pruned.entries} units and {pruned.leftovers} leftovers, {amount(pruned.bytes)}, in {store.path}")
    return 0


def _root(path: Path | str | None) -> Path:
    if path is None:
        return platformdirs.user_cache_path("shiftbench", appauthor=False) / "explanations"
    return path_of(str(path), "store.path").absolute()


def _matches(item: Entry, older_than_days: float | None, method: str | None, weights: str | None) -> bool:
    if older_than_days is not None and item.created > datetime.now(timezone.utc) - timedelta(days=older_than_days):
        return False
    if method is not None and item.record.get("method") != method:
        return False
    return weights is None or any(digest.startswith(weights) for digest in _weights(item))


def _weights(item: Entry) -> list[str]:
    """Digests of the weights that a unit was made from: one model's, or both of a pair."""
    weights = item.record.get("weights", [])
    return [weights] if isinstance(weights, str) else [str(d) for d in (weights if isinstance(weights, list) else ())]


def _discard(path: Path, dry_run: bool) -> int:
    size = _size(path)
    if not dry_run:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    return size


def _size(path: Path) -> int:
    """Bytes of a file, or of the files in a folder."""
    return sum(file.lstat().st_size for file in (path.rglob("*") if path.is_dir() else [path]) if not file.is_dir())


def _bytes(items: list[Entry]) -> int:
    return sum(item.size for item in items)
