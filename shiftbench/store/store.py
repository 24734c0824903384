"""Store: explanations on disk, each unit under the digest of everything that it was computed from.

ROOT/KEY[:2]/KEY/ holds one unit. It is written under ROOT/tmp/ and then renamed, so a reader sees the whole unit or
none. While a process computes a unit, it holds a lock on ROOT/claims/KEY. A writer that is killed leaves a folder under
tmp/ and its files under claims/, which `prune` removes. docs/design.md describes the store's contract.
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

from shiftbench.errors import InputError, Unreadable, Unwritable
from shiftbench.readers import path_of
from shiftbench.readers.numbers import check_number
from shiftbench.store import entry
from shiftbench.store.entry import Damaged
from shiftbench.store.explanation import Unit
from shiftbench.system import disks, locks
from shiftbench.system.disks import amount

KEY = re.compile(r"[0-9a-f]{64}")
PROBE_BYTES = 2**20  # about the size of a unit; a disk with less room than that counts as full
FULL = disks.FULL
OCCUPIED = {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}  # errors of a rename onto something that exists
SWEEP_WAIT = 5.0  # seconds that prune waits for a moment in which no process writes
UNLOCKED_LEFTOVER = 86400.0  # seconds; without locks, an older file under tmp/ counts as left by a killed writer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """One stored unit. size: bytes of its files. damage: what is wrong with them; None where no damage was found.

    unread: why the system could not read them now; None where it could. Such a unit is not known to be damaged.
    created: when the unit was stored. record: what it was computed from. For a unit that is damaged or was not read,
    created is when its folder last changed, and record is empty.
    """

    key: str
    size: int
    created: datetime
    record: Mapping[str, Any]
    damage: str | None = None
    unread: str | None = None


@dataclass(frozen=True)
class Pruned:
    """What prune removed, or would remove.

    entries: the number of stored units. leftovers: the number of files and folders that killed writers left under
    ROOT/tmp/. bytes: the size of these entries and leftovers together.
    """

    entries: int
    leftovers: int
    bytes: int


class Store:
    """The units of all explanations, by key. Any number of processes may read and write at the same time."""

    def __init__(self, path: Path | str | None) -> None:
        """path: the store's folder, created where missing; None: `explanations` in the user's cache folder.

        Raises InputError where the folder cannot be written and holds no unit. A folder that can only be read is enough
        for a job whose units are all there; the first `claim` of a missing unit raises.
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
        """The error that says why no unit can be written now; None where one can be written.

        To find out, it writes PROBE_BYTES and removes them. On an error, `_is_full` is set to whether the disk is full.
        """
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
        """Raise InputError where the store could not be written when that was last tried and still cannot.

        It is tried when the Store is made, and here again where the last try failed. A failed `put` is no such try. To
        be used before work whose result must be stored.
        """
        if self._unwritable is not None:
            self._unwritable = self._try_writing()
        if self._unwritable is not None:
            raise self._unwritable

    def get(self, key: str) -> Unit | None:
        """The unit with this key; None where the store does not have it, or has it damaged.

        A damaged unit is logged, so that it can be computed and stored again. It is removed where that is possible,
        unless the store could not be written when that was last tried.
        Raises Unreadable, an OSError, where the system cannot read the unit, as after an error of the disk or without
        memory; the unit stays. Raises ValueError where `key` is no key.
        """
        try:
            return entry.read(self._folder(key), key)[0]
        except FileNotFoundError:
            return None
        except Damaged as damage:
            log.warning("store %s: %s is damaged (%s); it will be computed again", self.path, key, damage)
            if self._unwritable is None:  # a store that cannot be written is left as it is
                with suppress(OSError):  # the folder may be another user's; `put` raises where it cannot replace it
                    self._remove(key)
            return None
        except (OSError, MemoryError) as error:
            raise self._read_error(error, key) from error

    def put(self, key: str, unit: Unit, record: Mapping[str, Any]) -> None:
        """Store a unit. Where the store has a unit with this key that is not known to be damaged, that one is kept.

        record: what the unit was computed from, JSON-able. Raises Unwritable, an OSError, where the unit cannot be
        written, as on a full disk; half a unit is never left. Raises ValueError and InputError as
        `entry.encode` does, and ValueError where `key` is no key.
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
        """Claim a unit for the block, so that no other process computes it. Yields False where it is claimed already.

        The claim ends with the block or with the process. After True, the caller must check again whether the unit is
        in the store by now. Where the file system has no locks, every process gets True and several may compute the
        same unit; `put` keeps the first. Raises ValueError where `key` is no key, InputError as check_writable does,
        and Unwritable where the claim's file cannot be created.
        """
        self._folder(key)  # raises for what is no key
        self.check_writable()
        with ExitStack() as stack:
            try:
                mine = stack.enter_context(locks.held(self._claims / key, remove=True))
            except OSError as error:
                raise self._write_error(error, 0) from None
            yield mine

    def entries(self) -> Iterator[Entry]:
        """Every stored unit, in the order of keys. Units with a damaged record are among them, with `damage`.

        So are units whose record the system cannot read now, with `unread`. Only records are read and checked; `verify`
        also reads the arrays.
        """
        for key in self._keys():
            found = self._entry(key, with_arrays=False)
            if found is not None:
                yield found

    def verify(self, repair: bool = False) -> list[Entry]:
        """The entries that are damaged or could not be read, in the order of keys, each with what is wrong.

        Every byte of every unit is read. repair: remove the damaged entries too; those that the system could not read
        stay. With repair, raises InputError where the store could not be written
        when that was last tried, for another reason than a full disk.
        """
        if repair:
            self._check_removable()
        found = [self._entry(key, with_arrays=True) for key in self._keys()]
        wrong = [item for item in found if item is not None and (item.damage or item.unread)]
        for item in wrong:
            if repair and item.damage:
                self._remove(item.key)
        return wrong

    def prune(
        self,
        older_than_days: float | None = None,
        method: str | None = None,
        weights: str | None = None,
        dry_run: bool = False,
    ) -> Pruned:
        """Remove what killed writers left, and the entries that meet all given conditions. Without any, no entry.

        Entries whose record the system cannot read now stay, because it is not known whether they meet a condition.
        older_than_days, method, weights: the conditions; None means not given. older_than_days: the least
        number of days since Entry.created. method: as in the record. weights: the first digits of a digest of weights,
        of either model of a pair. dry_run: count, but remove nothing.
        Returns what was removed, or with dry_run what would be. Claims of killed processes are removed too, and are not
        counted. Leftovers stay if other processes write without a pause for SWEEP_WAIT seconds. Raises InputError where
        the store could not be written when that was last tried, for another reason than a full disk.
        """
        self._check_removable()
        leftovers = self._sweep(dry_run)
        for claim in (
            () if dry_run else list(self._claims.iterdir())
        ):  # claims of killed processes, which no process holds
            with suppress(OSError), locks.held(claim, remove=True):  # a folder or a pipe is no claim, and stays
                pass
        conditions = (older_than_days, method, weights)
        named = any(condition is not None for condition in conditions)
        chosen = [item for item in self.entries() if _matches(item, *conditions)] if named else []
        for item in () if dry_run else chosen:
            self._remove(item.key)
        return Pruned(len(chosen), len(leftovers), sum(leftovers) + sum(item.size for item in chosen))

    def _check_removable(self) -> None:
        """Raise InputError where the store could not be written when that was last tried.

        A full disk is no reason: removing needs no room but that of an empty folder.
        """
        if self._unwritable is not None and not self._is_full:
            raise self._unwritable

    def _folder(self, key: str) -> Path:
        if not KEY.fullmatch(key):
            raise ValueError(f"store: a key is 64 hexadecimal digits, got {key!r}")
        return self.path / key[:2] / key

    def _keys(self) -> list[str]:
        return sorted(path.name for path in self.path.glob("[0-9a-f][0-9a-f]/*") if KEY.fullmatch(path.name))

    def _entry(self, key: str, with_arrays: bool) -> Entry | None:
        """The entry of a key; None where another process removed it meanwhile. with_arrays: check the arrays too.

        An entry that is damaged or could not be read has an empty record, and the time of its folder's last change as
        `created`. Raises Unreadable where not even that time can be read.
        """
        folder = self._folder(key)
        try:
            size, changed = _size(folder), datetime.fromtimestamp(folder.lstat().st_mtime, timezone.utc)
            try:
                body = entry.read(folder, key)[1] if with_arrays else entry.read_body(folder, key)
            except Damaged as damage:
                return Entry(key, size, changed, {}, damage=str(damage))
            except FileNotFoundError:
                raise
            except (OSError, MemoryError) as error:
                return Entry(key, size, changed, {}, unread=_reason(error))
            return Entry(key, size, body.created, body.record)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._read_error(error, key) from error

    def _move_in(self, part: Path, key: str) -> None:
        """Rename a finished folder to the place of its key, unless another process has stored the unit already.

        part: the finished folder. A damaged unit in that place is removed first. Raises Unwritable where it cannot be
        removed, and OSError where the folder cannot be renamed.
        """
        folder = self._folder(key)
        for _ in range(3):
            try:
                os.rename(part, folder)
                return entry.sync_folder(folder.parent)
            except OSError as error:
                if error.errno not in OCCUPIED:
                    raise
            try:
                if self.get(key) is not None:
                    return None  # another process was first
            except Unreadable as error:  # it is not known to be damaged, so it is not replaced
                log.warning("%s", error)
                return None
            # Where `get` has removed a damaged unit, the rename is tried again.
        raise Unwritable(
            errno.EEXIST,
            f"store of explanations {self.path}: {folder} is damaged and cannot be removed; remove it, or set "
            "store.path=DIR",
        )

    def _remove(self, key: str) -> None:
        """Remove an entry in one step, so that no process ever sees half of it. A missing entry is no error."""
        with self._temporary_folder() as folder_in_tmp:
            try:
                os.rename(self._folder(key), folder_in_tmp / "entry")
            except FileNotFoundError:
                pass  # another process removed it

    @contextmanager
    def _temporary_folder(self) -> Iterator[Path]:
        """A new folder under tmp/ for the block, which is removed at its end.

        During the block no other process can remove leftovers, because this process holds the lock that removing needs.
        Where the file system has no locks, other processes spare the folder while it is younger than UNLOCKED_LEFTOVER.
        """
        with self._lock(fcntl.LOCK_SH):
            folder_in_tmp = Path(tempfile.mkdtemp(dir=self._tmp))
            try:
                yield folder_in_tmp
            finally:
                shutil.rmtree(folder_in_tmp, ignore_errors=True)

    @contextmanager
    def _lock(self, kind: int) -> Iterator[bool]:
        """Hold ROOT/tmp/lock until the block ends or the process dies. Yields False where the file system has no locks.

        kind: flags of flock. Writers hold the lock shared (LOCK_SH); a process that removes leftovers holds it alone
        (LOCK_EX). Raises BlockingIOError where another process holds it and kind says not to wait (LOCK_NB).
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
        """Remove the leftovers under tmp/, and return the size of each in bytes. dry_run: only return the sizes.

        Waits up to SWEEP_WAIT seconds for a moment in which no process writes. Where there is none, nothing is removed,
        the list is empty, and a warning is logged.
        """
        until = time.monotonic() + SWEEP_WAIT
        while True:
            try:
                with self._lock(fcntl.LOCK_EX | fcntl.LOCK_NB) as locked:
                    return [_discard(path, dry_run) for path in self._leftovers(locked)]
            except BlockingIOError:
                if time.monotonic() > until:
                    log.warning("store %s: writers are at work; what killed writers left stays for now", self.path)
                    return []
                time.sleep(0.02)

    def _leftovers(self, locked: bool) -> list[Path]:
        """What lies under tmp/ from killed writers. locked: whether the lock proves that no writer is at work.

        Without the lock, only what is older than UNLOCKED_LEFTOVER counts. The lock's file itself is not among them.
        """
        before = time.time() if locked else time.time() - UNLOCKED_LEFTOVER
        return [path for path in self._tmp.iterdir() if path.name != "lock" and path.lstat().st_mtime <= before]

    def _read_error(self, error: OSError | MemoryError, key: str) -> Unreadable:
        """The error to raise where the system could not read a unit; `error` is its own."""
        return Unreadable(
            errno.ENOMEM if isinstance(error, MemoryError) else error.errno,
            f"store of explanations {self.path}: unit {key} cannot be read now ({_reason(error)}), and it was left as "
            "it is; run the same command again to go on from here. If the error stays, remove the folder "
            f"{self._folder(key)}, and the unit is computed again",
        )

    def _write_error(self, error: OSError, needed: int) -> Unwritable:
        """The error to raise after a failed write, which `error` describes. needed: bytes that were to be written."""
        if error.errno not in FULL:
            named = "" if error.filename is None else f": {error.filename}"
            what = f"{error.strerror or error}{named}"
            message = f"store of explanations {self.path} cannot be written any more: {what}; set store.path=DIR"
            return Unwritable(error.errno, message)
        return Unwritable(
            error.errno,
            f"store of explanations {self.path} cannot take another unit: "
            f"{disks.no_room_reason(error, self.path, needed)}; make room (shiftbench store prune) or set "
            "store.path=DIR, and the same command goes on from here",
        )


def print_entries(config: Any) -> int:
    """Print a table of the stored units: for each method and weights their number, size and newest date; and a total.

    The damaged units have one row together. config: the configuration of the command. Returns the exit code 0.
    """
    store = Store(config.store.path)
    groups: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    for item in store.entries():
        known = "(damaged)" if item.damage else "(not read)" if item.unread else None
        method = known or str(item.record.get("method", ""))
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
    """Print the key of every entry that is damaged or could not be read, and what is wrong.

    With repair=true, damaged entries are removed; those that the system could not read stay. config: the configuration
    of the command. Returns how many of the printed entries are left.
    """
    store = Store(config.store.path)
    wrong = store.verify(repair=config.repair)
    damaged = [item for item in wrong if item.damage]
    for item in wrong:
        removed = " (removed)" if config.repair and item.damage else ""
        print(f"{item.key}: {item.damage or f'cannot be read now: {item.unread}'}{removed}")
    print(f"{len(damaged)} damaged units in {store.path}")
    unread = len(wrong) - len(damaged)
    if unread:
        print(f"{unread} units cannot be read now; they are not known to be damaged, and stay")
    return unread if config.repair else len(wrong)


def prune_and_print(config: Any) -> int:
    """Remove leftovers and the entries that the options select, and print how many; with dry_run=true, only print.

    config: the configuration of the command. Returns the exit code 0.
    """
    check_number("older_than_days", config.older_than_days, null="entries of any age")
    store = Store(config.store.path)
    pruned = store.prune(config.older_than_days, config.method, config.weights, config.dry_run)
    verb = "would remove" if config.dry_run else "removed"
    print(f"{verb} {pruned.entries} units and {pruned.leftovers} leftovers, {amount(pruned.bytes)}, in {store.path}")
    return 0


def _root(path: Path | str | None) -> Path:
    """The store's folder. path: the option store.path; None: `explanations` in the user's cache folder.

    Raises InputError for a text that cannot be a path.
    """
    if path is None:
        return platformdirs.user_cache_path("shiftbench", appauthor=False) / "explanations"
    return path_of(str(path), "store.path").absolute()


def _matches(item: Entry, older_than_days: float | None, method: str | None, weights: str | None) -> bool:
    """Whether an entry meets all of prune's conditions.

    A condition that is None is met by every entry. An entry that could not be read meets none.
    """
    if item.unread:
        return False
    if older_than_days is not None and item.created > datetime.now(timezone.utc) - timedelta(days=older_than_days):
        return False
    if method is not None and item.record.get("method") != method:
        return False
    return weights is None or any(digest.startswith(weights) for digest in _weights(item))


def _weights(item: Entry) -> list[str]:
    """Digests of the weights that a unit was computed from: one model's, or those of both models of a pair.

    Empty for an entry whose record has none, as that of a damaged entry.
    """
    weights = item.record.get("weights", [])
    return [weights] if isinstance(weights, str) else [str(d) for d in (weights if isinstance(weights, list) else ())]


def _reason(error: OSError | MemoryError) -> str:
    """Why the system could not read something, in words."""
    return "not enough memory" if isinstance(error, MemoryError) else error.strerror or str(error)


def _discard(path: Path, dry_run: bool) -> int:
    """Return the size of a file or folder in bytes, and remove it, unless dry_run."""
    size = _size(path)
    if not dry_run:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    return size


def _size(path: Path) -> int:
    """Bytes of a file, or of the files in a folder."""
    return sum(file.lstat().st_size for file in (path.rglob("*") if path.is_dir() else [path]) if not file.is_dir())


def _bytes(items: list[Entry]) -> int:
    return sum(item.size for item in items)
