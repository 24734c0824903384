"""A folder of results: which pair's results it holds, and how new results replace them without losing any.

scores.json, report.html, ...   the newest results (writing.WRITTEN)
earlier/2026-11-28T10-00-00/    earlier results of the same pair under other settings, and when they were written
.part-*                         results that are being written; if the process is killed, the next run removes them
.part-lock                      held by the process that is writing to this folder
.replacing                      while new results replace earlier ones: the name of the copy under earlier/
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
from shiftbench.results.document import READABLE
from shiftbench.system.files import new_mode, remove, sweep_files, temporary_folder
from shiftbench.tracking.spool import SPOOLED

PART, PROBE, REPLACING = ".part-", ".probe-", ".replacing"
EARLIER = "earlier"
LAST = "scores.json"  # replaced after all other files, because it says which pair's results these are
LARGEST = 256 * 2**20  # bytes; a larger scores.json or config.yaml is not read
# Fields of "pair" in scores.json that are results of a run; the other fields are its settings.
FOUND = ("prompts_explained", "flags")
# Options of a pair that say where its parts are, and under which name. No result depends on them: scores.json has
# digests of what was loaded.
PLACES = ("name", "base", "tuned", "family", "size")
MODEL_PLACES = ("adapter", "tokenizer", "revision", "gguf_file", "device", "device_map", "path")


@dataclass(frozen=True)
class Held:
    """What the files in a folder say about its results. config: the resolved configuration, empty where unreadable."""

    pair: Mapping[str, Any]
    versions: Mapping[str, Any]
    config: Mapping[str, Any]


def held(folder: Path) -> Held | None:
    """The results in a folder; None where there are none or they cannot be read. No content of the folder raises."""
    try:
        found = json_value(file_bytes(folder / LAST, LAST, LARGEST))
        if not isinstance(found, dict) or found.get("schema") not in READABLE:
            return None
        pair, versions = found.get("pair"), found.get("versions")
    except (OSError, InputError):
        return None
    if not isinstance(pair, dict) or not isinstance(versions, dict):
        return None
    return Held(pair, versions, _config(folder))


def check_pair(folder: Path, pair: Mapping[str, Any], config: str) -> None:
    """Raise InputError where a folder holds the results of another pair.

    pair: the fields of "pair" in scores.json for the loaded models. config: the resolved configuration (YAML).
    Two pairs are the same where the digests of both models' weights are equal. Digests also depend on how weights are
    loaded (dtype, a merged adapter, the version of transformers). So where the models come from the same places and are
    loaded in another way, it is the same pair under other settings.
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
    differences = [f"{side} weights {_short(found.pair.get(f'{side}_weights'))}, here {_short(pair[f'{side}_weights'])}"
            for side in differ]  # fmt: skip
    raise InputError(
        f"output folder {folder} holds the results of another pair, {found.pair.get('name')!r} "
        f"({'; '.join(differences)}); choose another folder with out=DIR, or give this pair a name of its own with "
        "pair.name=NAME"
    )


def check_kind(folder: Path, kind: str, base: str, tuned: str) -> None:
    """Raise InputError where a folder holds results of anything but this chain or comparison of mixtures.

    kind: 'chain' or 'mixture'. base, tuned: as in its scores.json; they are known before a model is loaded.
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
    """Whether the results in a folder were computed under these settings, so that new results may replace them."""
    found = held(folder)
    return found is not None and _all_settings(found.pair, found.versions, found.config) == _all_settings(
        pair, versions, _yaml(config)
    )


@contextmanager
def writing(folder: Path) -> Iterator[Path]:
    """Gives the block a new folder inside `folder` to write results to; no other process writes there meanwhile.

    `folder` is created. What killed processes left in it is removed first. Raises OSError where it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with temporary_folder(folder, PART, [(folder, PROBE), (folder / EARLIER, PART)]) as part:
        sweep_files(folder)
        yield part


def put(part: Path, folder: Path, names: Sequence[str], same: bool) -> Path | None:
    """Move the results in `part` to `folder`, its parent.

    Returns the folder that earlier results were moved to; None where there were none, or where they were replaced.
    names: the files and folders that results consist of; other content of `folder` stays. same: whether the earlier
    results are of the same settings. Then they are replaced; otherwise they are first copied whole to a folder under
    `earlier`, so that no result is lost if the process is killed.
    """
    moved = None
    if not same and any(os.path.lexists(folder / name) for name in names):
        moved = _saved(folder, names)
        (folder / SPOOLED).unlink(missing_ok=True)  # it belongs to the results that were moved
    written = sorted(item.relative_to(part) for item in part.rglob("*") if item.is_file())
    for name in sorted(written, key=lambda name: str(name) == LAST):
        target = folder / name
        if target.parent != folder and os.path.lexists(target.parent) and not target.parent.is_dir():
            remove(target.parent)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir() and not target.is_symlink():
            remove(target)
        os.replace(part / name, target)
    for top in names:  # remove what an earlier run wrote and this run did not
        for item in (folder / top).glob("*") if (folder / top).is_dir() else ():
            if item.relative_to(folder) not in written:
                remove(item)
    (folder / REPLACING).unlink(missing_ok=True)
    return moved


def _saved(folder: Path, names: Sequence[str]) -> Path:
    """Copy a folder's results to a folder under `earlier`, by hard links where the file system has them. Returns it."""
    note = folder / REPLACING
    with suppress(OSError, ValueError):
        before = folder / EARLIER / file_bytes(note, REPLACING, 4096).decode()
        if before.is_dir():
            return before  # a process was killed while it replaced them: the copy exists, and `folder` holds a mix
    (folder / EARLIER).mkdir(exist_ok=True)
    copy = Path(tempfile.mkdtemp(dir=folder / EARLIER, prefix=PART))
    for name in (*names, SPOOLED):  # SPOOLED moves too, so that results not yet sent to MLflow can still be sent
        if os.path.lexists(folder / name):
            _copy(folder / name, copy / name)
    copy.chmod(new_mode(0o777))
    moved = _name_for(folder)
    with tempfile.NamedTemporaryFile("w", dir=folder, prefix=PART, delete=False) as file:
        file.write(moved.name)
    os.replace(file.name, note)  # before the copy is renamed; a note that names no folder is ignored
    os.rename(copy, moved)
    return moved


def _name_for(folder: Path) -> Path:
    """A new path under `earlier`, named by the time of the results; a number is added where the name is taken."""
    newest = next((name for name in (LAST, "report.html") if (folder / name).exists()), ".")
    written = datetime.fromtimestamp((folder / newest).stat().st_mtime, timezone.utc).strftime("%Y-%m-%dT%H-%M-%S")
    names = (written if number == 1 else f"{written}-{number}" for number in itertools.count(1))
    return next(folder / EARLIER / name for name in names if not os.path.lexists(folder / EARLIER / name))


def _copy(source: Path, target: Path) -> None:
    """Copy a file, a link or a folder with its content; a file by a hard link where that is possible."""
    if source.is_dir() and not source.is_symlink():
        target.mkdir()
        for item in source.iterdir():
            _copy(item, target / item.name)
        return
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        if source.is_symlink() or source.is_file():
            shutil.copy2(source, target, follow_symlinks=False)


def _all_settings(pair: Mapping[str, Any], versions: Mapping[str, Any], config: Mapping[str, Any]) -> Any:
    """Everything in scores.json and config.yaml that results depend on."""
    shown = {name: value for name, value in pair.items() if name not in (*FOUND, *PLACES)}
    return shown, {name: str(version) for name, version in versions.items()}, _decisive(config)


def _decisive(config: Mapping[str, Any]) -> Any:
    """The options of a configuration that results depend on."""
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
    for name in ("dataset", "vocabulary"):  # scores.json has digests of their contents
        if isinstance(plain.get(name), Mapping):
            plain[name] = {key: value for key, value in plain[name].items() if key != "path"}
    with suppress(AttributeError, TypeError):
        plain["findings"] = settings.decisive(dict(plain.get("findings") or {}))
    return plain


def _computed(pair: Mapping[str, Any], versions: Mapping[str, Any], config: Mapping[str, Any]) -> Any:
    """How the weights were loaded (dtype, merging, versions). The digest of the weights depends on this."""
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
