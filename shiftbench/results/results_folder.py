"""A folder of results: which pair's results it holds, and how new results replace them without losing any.

scores.json, report.html, ...   the newest results (writing.WRITTEN)
earlier/2026-11-28T10-00-00/    earlier results under other settings; the name is the time when they were written (UTC)
.part-*                         results that are being written; if the process is killed, the next run removes them
.part-lock                      held by the process that is writing to this folder
.replacing                      exists while results under other settings are replaced: a file with the name of their
                                copy under earlier/
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
from shiftbench.readers import file_bytes, json_value, reading
from shiftbench.results.document import READABLE
from shiftbench.system.files import new_mode, remove, sweep_files, temporary_folder
from shiftbench.tracking.scores_file import PART
from shiftbench.tracking.spool import SPOOLED

# PROBE begins the names of files that older versions wrote to try whether a folder can be written; they are removed.
PROBE, REPLACING = ".probe-", ".replacing"
EARLIER = "earlier"
LAST = "scores.json"  # replaced after all other files, because it says which pair's results these are
LARGEST = 256 * 2**20  # bytes; a larger scores.json or config.yaml is not read
# Fields of "pair" in scores.json that are results of a run; the other fields are its settings, or PLACES.
FOUND = ("prompts_explained", "flags")
# Names that say where a model is, what it is called, and on which device it is loaded. PLACES are fields of "pair" in
# scores.json and options of `pair` in the configuration. MODEL_PLACES are options of one model in the configuration, as
# pair.base_model. No result depends on them: scores.json has digests of what was loaded.
PLACES = ("name", "base", "tuned", "family", "size")
MODEL_PLACES = ("adapter", "tokenizer", "revision", "gguf_file", "device", "device_map", "path")


@dataclass(frozen=True)
class Held:
    """What scores.json and config.yaml in a folder say about its results.

    pair, versions: the objects of that name in scores.json. config: the resolved configuration in config.yaml; empty
    where that file is missing or cannot be read.
    """

    pair: Mapping[str, Any]
    versions: Mapping[str, Any]
    config: Mapping[str, Any]


def held(folder: Path) -> Held | None:
    """What a folder says about the results in it; None without a scores.json of a known format that can be read."""
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
    """Raise InputError where a folder holds the results of another pair. A folder without readable results passes.

    pair: the two models that are to be scored, as `Session.identity` gives them: base, tuned, base_weights,
    tuned_weights and dtype. config: the resolved configuration of this run, as YAML.
    Two pairs are the same where the digests of both models' weights are equal. Digests also depend on how weights are
    loaded: the dtype, whether an adapter is merged, and the versions of shiftbench and transformers. So a pair whose
    fields base and tuned are unchanged also passes where one of these differs: it is the same pair under other
    settings. Where none of these differs, the weights in the same place are others, and that is another pair.
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

    A folder without readable results passes. kind: 'chain' or 'mixture', which scores.json has as the pair's name.
    base: the base model. tuned: the names of all tuned models, joined by ', '. Both must be what this run will write
    as pair.base and pair.tuned into scores.json; they are known before a model is loaded.
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
    """Whether the results in a folder were computed under these settings, so that new results may replace them.

    False where the folder has no readable results. pair, versions: the objects of that name in the new scores.json.
    config: the resolved configuration of the new results, as YAML.
    """
    found = held(folder)
    return found is not None and _all_settings(found.pair, found.versions, found.config) == _all_settings(
        pair, versions, _yaml(config)
    )


@contextmanager
def writing(folder: Path) -> Iterator[Path]:
    """A context that gives a new, empty folder inside `folder`, to which the block writes results.

    `folder` is created where it is missing. What killed processes left in it is removed first, as far as
    `temporary_folder` and `sweep_files` do so. Where the file system has locks, other processes that enter this context
    for the same folder wait until the block ends. The new folder and what is still in it are removed at the end. Raises
    OSError where `folder` cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with temporary_folder(folder, PART, [(folder, PROBE), (folder / EARLIER, PART)]) as part:
        sweep_files(folder)
        yield part


def put(part: Path, folder: Path, names: Sequence[str], same: bool) -> Path | None:
    """Move the results in `part` to `folder`, the folder that `part` is in.

    Returns the folder under `earlier` that has the earlier results now; None where there were none, or where they were
    replaced. names: the files and folders at the top of `folder` that results consist of; other content of `folder`
    stays. Where one of these names is a folder in `folder`, what it holds and `part` lacks is removed. A file with one
    of these names that `part` lacks stays. same: whether the earlier results are of the same settings as the new ones.
    If True, they are replaced. If False, they are first copied whole, with their spool file, to a folder under
    `earlier`, so that no result is lost if the process is killed; the spool file is then removed from `folder`.
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
    kept = {*written, *(parent for name in written for parent in name.parents)}
    for top in names:  # remove from `tables` and `figures` what this run did not write
        for item in (folder / top).glob("*") if (folder / top).is_dir() else ():
            if item.relative_to(folder) not in kept:
                remove(item)
    (folder / REPLACING).unlink(missing_ok=True)
    return moved


def _saved(folder: Path, names: Sequence[str]) -> Path:
    """Copy a folder's results, and its spool file, to a new folder under `earlier`, and return the new folder.

    names: the files and folders that results consist of. Files are copied by hard links where the file system has them.
    The file `.replacing` is written with the new folder's name. Where `.replacing` already names a folder, nothing is
    copied and that folder is returned.
    """
    note = folder / REPLACING
    with suppress(OSError, ValueError):
        before = folder / EARLIER / file_bytes(note, REPLACING, 4096).decode()
        if before.is_dir():
            return before  # a process was killed after it made this copy: `folder` may hold old and new files
    (folder / EARLIER).mkdir(exist_ok=True)
    copy = Path(tempfile.mkdtemp(dir=folder / EARLIER, prefix=PART))
    for name in (*names, SPOOLED):  # SPOOLED is copied too, so that results not yet sent to MLflow can be sent
        if os.path.lexists(folder / name):
            _copy(folder / name, copy / name)
    copy.chmod(new_mode(0o777))
    moved = _name_for(folder)
    with tempfile.NamedTemporaryFile("w", dir=folder, prefix=PART, delete=False) as file:
        file.write(moved.name)
    # The note comes before the copy gets its name. If the process is killed between the two, the note names no folder,
    # and the next run ignores it.
    os.replace(file.name, note)
    os.rename(copy, moved)
    return moved


def _name_for(folder: Path) -> Path:
    """A path under `earlier` where nothing is yet, named by the time in UTC when the folder's results were written.

    The time is that of the last change to scores.json; to report.html where scores.json is missing; to the folder where
    both are missing. Where the name is taken, -2, -3, ... is added.
    """
    newest = next((name for name in (LAST, "report.html") if (folder / name).exists()), ".")
    written = datetime.fromtimestamp((folder / newest).stat().st_mtime, timezone.utc).strftime("%Y-%m-%dT%H-%M-%S")
    names = (written if number == 1 else f"{written}-{number}" for number in itertools.count(1))
    return next(folder / EARLIER / name for name in names if not os.path.lexists(folder / EARLIER / name))


def _copy(source: Path, target: Path) -> None:
    """Copy a file, a symbolic link or a folder with its content to the path `target`, which must not exist.

    A file or a symbolic link is copied by a hard link where that is possible. A pipe, socket or device that cannot get
    a hard link is left out.
    """
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
    """(fields of "pair", versions, options): everything in scores.json and config.yaml that results depend on.

    Two runs have the same settings where these are equal.
    """
    shown = {name: value for name, value in pair.items() if name not in (*FOUND, *PLACES)}
    return shown, {name: str(version) for name, version in versions.items()}, _decisive(config)


def _decisive(config: Mapping[str, Any]) -> Any:
    """The options of a resolved configuration that results depend on, in the same nesting.

    Left out are options of how and where a job runs, of where models and files are and what they are called, and the
    options of findings that decide no result.
    """
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
    for name in ("dataset", "vocabulary"):  # their paths do not matter: scores.json has digests of what is in the files
        if isinstance(plain.get(name), Mapping):
            plain[name] = {key: value for key, value in plain[name].items() if key != "path"}
    with suppress(AttributeError, TypeError):
        plain["findings"] = settings.decisive(dict(plain.get("findings") or {}))
    return plain


def _computed(pair: Mapping[str, Any], versions: Mapping[str, Any], config: Mapping[str, Any]) -> Any:
    """How the weights were loaded; the digest of the weights depends on this.

    (dtype, option merge_adapter of the base and of the tuned model, versions of shiftbench and of transformers).
    """
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
    """The mapping that a YAML text holds; empty where it holds none or cannot be read."""
    try:
        with reading("config.yaml"):  # PyYAML's constructors raise many kinds of errors, such as KeyError at '!!bool x'
            found = yaml.safe_load(text)
    except InputError:
        return {}
    return found if isinstance(found, dict) else {}


def _short(digest: Any) -> str:
    return str(digest)[:8]
