"""What lies in a folder of results: whose it is, and how new results take its place with nothing lost.

scores.json, report.html, ...   the newest results (results.WRITTEN)
earlier/2026-11-28T10-00-00/    earlier results of the same pair under other settings, by when they were made (UTC)
.part-*                         results that are being written; of a killed process, the next run removes them
.part-lock                      held by the process that writes here, there only meanwhile
.replacing                      the earlier results are safe and the new ones are not all there: that process died
"""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import yaml

from shiftbench.config import settings
from shiftbench.errors import InputError
from shiftbench.readers import file_bytes, json_value
from shiftbench.results.document import SCHEMA
from shiftbench.system.files import mode_of_new, part_folder, remove, sweep_files
from shiftbench.tracking.spool import SPOOLED

PART, PROBE, REPLACING = ".part-", ".probe-", ".replacing"
EARLIER = "earlier"
LAST = "scores.json"  # what says whose results these are is replaced when all else is there
LARGEST = 256 * 2**20  # bytes of a scores.json or a config.yaml
# Fields of "pair" in scores.json that a run finds out; the others say what the run was asked for.
FOUND = ("prompts_explained", "flags")
# Options of a pair that say where its parts lie. They decide no result: scores.json has digests of what was loaded.
PLACES = ("name", "base", "tuned", "family", "size")
MODEL_PLACES = ("adapter", "tokenizer", "revision", "gguf_file", "device", "device_map", "path")


@dataclass(frozen=True)
class Held:
    """What the results in a folder say of themselves. config: the resolved configuration, empty where unreadable."""

    pair: Mapping[str, Any]
    versions: Mapping[str, Any]
    config: Mapping[str, Any]


def held(folder: Path) -> Held | None:
    """The results in a folder; None where there are none, or none that can be read. Never raises for its content."""
    try:
        found = json_value(file_bytes(folder / LAST, LAST, LARGEST))
        if not isinstance(found, dict) or found.get("schema") != SCHEMA:
            return None
        pair, versions = found.get("pair"), found.get("versions")
    except (OSError, InputError):
        return None
    if not isinstance(pair, dict) or not isinstance(versions, dict):
        return None
    return Held(pair, versions, _config(folder))


def check_pair(folder: Path, pair: Mapping[str, Any], config: str) -> None:
    """Refuse, by InputError, a folder that holds the results of another pair.

    pair: as in scores.json, of the models that were loaded. config: the resolved configuration (YAML). A pair is its
    two models' weights. Where both come from the same places and are only computed with otherwise (dtype, a merged
    adapter, another transformers, all of which are in a digest), it is the same pair under other settings.
    """
    found = held(folder)
    if found is None:
        return
    sides = ("base", "tuned")
    differ = [side for side in sides if found.pair.get(f"{side}_weights") != pair[f"{side}_weights"]]
    if not differ:
        return
    same_places = all(found.pair.get(side) == pair[side] for side in sides)
    if same_places and _computed(found.pair, found.versions, found.config) != _computed(
        pair, {**found.versions, **_versions_now()}, _yaml(config)
    ):
        return
    told = [f"{side} weights {_short(found.pair.get(f'{side}_weights'))}, here {_short(pair[f'{side}_weights'])}"
            for side in differ]  # fmt: skip
    raise InputError(
        f"output folder {folder} holds the results of another pair, {found.pair.get('name')!r} ({'; '.join(told)}); "
        "choose another folder with out=DIR, or give this pair a name of its own with pair.name=NAME"
    )


def check_kind(folder: Path, kind: str, base: str, tuned: str) -> None:
    """Refuse, by InputError, a folder that holds other results than those of this chain or comparison of mixtures.

    kind: 'chain' or 'mixture'. base, tuned: as its scores.json says them, known before a model is loaded.
    """
    found = held(folder)
    wanted = (kind, base, tuned)
    if found is None or tuple(found.pair.get(key) for key in ("name", "base", "tuned")) == wanted:
        return
    raise InputError(
        f"output folder {folder} holds other results, of {found.pair.get('name')!r} (base {found.pair.get('base')}, "
        f"tuned {found.pair.get('tuned')}); choose another folder with out=DIR"
    )


def same_settings(folder: Path, pair: Mapping[str, Any], versions: Mapping[str, Any], config: str) -> bool:
    """Whether the results in a folder were asked for as these are, so that these may take their place."""
    found = held(folder)
    return found is not None and _asked(found.pair, found.versions, found.config) == _asked(
        pair, versions, _yaml(config)
    )


@contextmanager
def writing(folder: Path) -> Iterator[Path]:
    """A new folder inside `folder`, which is made, to fill with results; nobody else writes there for the block.

    What killed processes left is removed first. Raises OSError where the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with part_folder(folder, PART, [(folder, PROBE), (folder / EARLIER, PART)]) as part:
        sweep_files(folder)
        yield part


def put(part: Path, folder: Path, names: Sequence[str], same: bool) -> Path | None:
    """Move what was written into `part` into `folder`, its parent; the place that earlier results were moved to.

    names: what results consist of, at the top of the folder; what else lies there is left alone. same: the results
    there were made under the very same settings and are replaced; None then, and where there were none. Killed at any
    moment it loses nothing: the earlier results are whole under `earlier` before the first of them is replaced.
    """
    moved = None
    if not same and any(os.path.lexists(folder / name) for name in names):
        moved = _saved(folder, names)
        (folder / SPOOLED).unlink(missing_ok=True)  # it is about those that were moved
    written = sorted(item.relative_to(part) for item in part.rglob("*") if item.is_file())
    for name in sorted(written, key=lambda name: str(name) == LAST):
        target = folder / name
        if target.parent != folder and os.path.lexists(target.parent) and not target.parent.is_dir():
            remove(target.parent)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir() and not target.is_symlink():
            remove(target)
        os.replace(part / name, target)
    for top in names:  # an earlier run with other options may have left some of its own
        for item in (folder / top).glob("*") if (folder / top).is_dir() else ():
            if item.relative_to(folder) not in written:
                remove(item)
    (folder / REPLACING).unlink(missing_ok=True)
    return moved


def _saved(folder: Path, names: Sequence[str]) -> Path:
    """A whole copy of a folder's results under `earlier`; of links, which take no room, where there can be any."""
    note = folder / REPLACING
    with suppress(OSError, ValueError):
        before = folder / EARLIER / file_bytes(note, REPLACING, 4096).decode()
        if before.is_dir():
            return before  # a process died while it replaced them: they are there already, and what is here is a mix
    (folder / EARLIER).mkdir(exist_ok=True)
    copy = Path(tempfile.mkdtemp(dir=folder / EARLIER, prefix=PART))
    for name in (*names, SPOOLED):  # which moves with the results it is about: what was not sent can still be sent
        if os.path.lexists(folder / name):
            _copied(folder / name, copy / name)
    copy.chmod(mode_of_new(0o777))
    moved = _name_for(folder)
    with tempfile.NamedTemporaryFile("w", dir=folder, prefix=PART, delete=False) as file:
        file.write(moved.name)
    os.replace(file.name, note)  # before the copy has its name: a note that names nothing is no note
    os.rename(copy, moved)
    return moved


def _name_for(folder: Path) -> Path:
    """A place under `earlier` called after the time of the results here, with a number where that name is taken."""
    newest = next((name for name in (LAST, "report.html") if (folder / name).exists()), ".")
    made = datetime.fromtimestamp((folder / newest).stat().st_mtime, timezone.utc).strftime("%Y-%m-%dT%H-%M-%S")
    names = (made if number == 1 else f"{made}-{number}" for number in itertools.count(1))
    return next(folder / EARLIER / name for name in names if not os.path.lexists(folder / EARLIER / name))


def _copied(source: Path, target: Path) -> None:
    if source.is_dir() and not source.is_symlink():
        target.mkdir()
        for item in source.iterdir():
            _copied(item, target / item.name)
        return
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        if source.is_symlink() or source.is_file():
            shutil.copy2(source, target, follow_symlinks=False)


def _asked(pair: Mapping[str, Any], versions: Mapping[str, Any], config: Mapping[str, Any]) -> Any:
    """What decides results, of both documents."""
    shown = {name: value for name, value in pair.items() if name not in (*FOUND, *PLACES)}
    return shown, {name: str(version) for name, version in versions.items()}, _decisive(config)


def _decisive(config: Mapping[str, Any]) -> Any:
    """A configuration without what changes no result, and without where the parts of the pair lie."""
    plain = {name: value for name, value in config.items() if name not in settings.EXECUTION_OPTIONS}
    pair = plain.get("pair")
    if isinstance(pair, Mapping):
        kept = {name: value for name, value in pair.items() if name not in PLACES}
        plain["pair"] = {
            name: {key: item for key, item in value.items() if key not in MODEL_PLACES}
            if isinstance(value, Mapping)
            else value
            for name, value in kept.items()
        }
    for name in ("dataset", "vocabulary"):  # their contents are digests in scores.json
        if isinstance(plain.get(name), Mapping):
            plain[name] = {key: value for key, value in plain[name].items() if key != "path"}
    with suppress(AttributeError, TypeError):
        plain["findings"] = settings.decisive(dict(plain.get("findings") or {}))
    return plain


def _computed(pair: Mapping[str, Any], versions: Mapping[str, Any], config: Mapping[str, Any]) -> Any:
    """How the weights were loaded (dtype, merging, versions): the same files then have another digest of weights."""
    of_pair = config.get("pair")
    models = [of_pair.get(f"{side}_model") if isinstance(of_pair, Mapping) else None for side in ("base", "tuned")]
    merged = [model.get("merge_adapter") if isinstance(model, Mapping) else None for model in models]
    return pair.get("dtype"), merged, [str(versions.get(name)) for name in ("shiftbench", "transformers")]


def _versions_now() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("shiftbench", "transformers")}


def _config(folder: Path) -> Mapping[str, Any]:
    try:
        return _yaml(file_bytes(folder / "config.yaml", "config.yaml", LARGEST).decode("utf-8"))
    except (OSError, InputError, ValueError):
        return {}


def _yaml(text: str) -> Mapping[str, Any]:
    try:
        found = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError):
        return {}
    return found if isinstance(found, dict) else {}


def _short(digest: Any) -> str:
    return str(digest)[:8]
