"""Finds and checks the files of a model: its configuration, other JSON files that loading reads, and its weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoConfig, PreTrainedConfig
from transformers.utils.hub import resolve_revision

from shiftbench.errors import InputError
from shiftbench.models import declared
from shiftbench.models.hub import as_input_error, cached, hub_file, optional_file
from shiftbench.models.source import ModelSource, hub_id_or_folder, is_adapter
from shiftbench.models.views import architectures, check_architecture
from shiftbench.models.weight_files import (
    INDEX,
    LARGEST_INDEX,
    WEIGHTS,
    WeightFiles,
    folder_of_links,
    gguf_files,
    json_object,
    plain_name,
    weight_files,
)

ADAPTER = "adapter_config.json"
GENERATION = "generation_config.json"
ATTENTION = "eager"  # the only implementation of attention that shiftbench uses


@dataclass(frozen=True)
class Parts:
    """The files of a model.

    place: its folder; for a model on the hub, the folder in the hub's cache. config: the content of config.json without
    the fields that choose code; None for a GGUF file, which describes the model in its metadata. json_files: name ->
    content of the other JSON files that loading reads. weights: None where they are on the hub and not, or not all, in
    its cache. gguf_file: the path of the GGUF file with the weights; None for safetensors.
    """

    source: ModelSource
    place: Path
    config: dict[str, Any] | None
    json_files: Mapping[str, Any]
    weights: WeightFiles | None
    gguf_file: Path | None

    @contextmanager
    def loadable(self, with_weights: bool) -> Iterator[tuple[str, dict[str, Any]]]:
        """A context whose value is (the first argument of from_pretrained, its options).

        For a GGUF file the first argument is the model's folder. For safetensors with trust_remote_code it is the
        model's own folder or hub id: the model's code can open any file, so hiding files would protect nothing. For
        safetensors without trust_remote_code it is a temporary folder with the checked files only, so that transformers
        sees no other file. with_weights: whether the weight files are in the temporary folder.
        """
        if self.gguf_file is not None:
            # The file's whole path is given, because a bare name would be looked for in the working directory first.
            yield str(self.place), {"gguf_file": str(self.gguf_file)}
        elif self.source.trust_remote_code:
            yield (
                hub_id_or_folder("model", self.source.path),
                {"revision": self.source.revision, "trust_remote_code": True},
            )
        else:
            assert self.config is not None
            with folder_of_links(self.config, self.json_files, self.weights if with_weights else None) as folder:
                yield str(folder), {"trust_remote_code": False}

    @contextmanager
    def as_input_error(self, loaded: str, file: str = "") -> Iterator[None]:
        """Turn a failure of the block into an InputError that starts with "model PATH" (see hub.as_input_error).

        Messages name the model instead of the temporary folder that transformers got. loaded: what transformers loads
        from, the first value of loadable. file: the name of the file that is read; "" where several are read.
        """
        path = self.source.path
        what = f"model {path}: {file}" if file else f"model {path}"
        with as_input_error(what, Path(loaded) if loaded != str(self.place) else None, path):
            yield


def parts_of(source: ModelSource, download: bool) -> Parts:
    """The files of a model, checked as far as is possible without building it or reading a weight.

    download: whether to download the safetensors files of a model on the hub. If not, they are checked only where they
    are in the hub's cache. A GGUF file is downloaded in either case. Raises InputError where a file that is needed is
    missing, damaged or cannot be downloaded, where the model is quantised or names other files to load, where its
    architecture is not known and it brings no code, and where config.json or the metadata of a GGUF file declare wrong
    values or more than the weight files hold. Raises it too where the folder of a safetensors model has a PEFT adapter
    beside the weights, unless source names an adapter and trust_remote_code is false.
    """
    what, place = f"model {source.path}", hub_id_or_folder("model", source.path)
    if source.gguf_file is not None:
        return _of_gguf(source, what, place)
    local = Path(place).is_dir()
    with as_input_error(what):
        revision = None if local else resolve_revision(place, source.revision)
        file = Path(place, "config.json") if local else hub_file(place, "config.json", revision)
        brings_adapter = is_adapter(Path(place)) if local else file is None and optional_file(place, ADAPTER, revision)
    if brings_adapter:
        raise InputError(
            f"{what} is a PEFT adapter; give its base as BASE: pair.tuned=BASE pair.tuned_model.adapter={source.path}"
        )
    if file is None or (local and not file.exists() and not file.is_symlink()):
        raise InputError(f"{what} has no config.json; give the folder that save_pretrained wrote, or a GGUF file")
    config, folder = json_object(file, f"{what}: config.json"), file.parent
    _check_kind(config, what)
    if not local:
        with as_input_error(what):
            complete = _fetch(place, revision, what, download)
    weights = weight_files(folder, what) if local or complete else None
    if (folder / ADAPTER).is_file() and (source.adapter is None or source.trust_remote_code):
        raise InputError(
            f"{what} has a PEFT adapter beside its weights ({ADAPTER}), and nothing says whether the weights "
            f"contain it already: move the adapter's files away to take the weights as they are, or give "
            f"pair.tuned=BASE pair.tuned_model.adapter={source.path} to add the adapter to its base"
        )
    _check_values(config, weights, what)
    json_files = {}
    if (folder / GENERATION).exists():
        json_files[GENERATION] = json_object(folder / GENERATION, f"{what}: {GENERATION}")
        declared.check_end_tokens(json_files[GENERATION].get("eos_token_id"), f"{what}: {GENERATION}")
    return Parts(source, folder, declared.without_code_choices(config), json_files, weights, None)


def configuration(parts: Parts) -> PreTrainedConfig:
    """The model's configuration as transformers reads it, with eager attention whatever the model's files say.

    Raises InputError where transformers cannot read it, and where the architecture is not known.
    """
    file = "config.json" if parts.gguf_file is None else parts.gguf_file.name
    with parts.loadable(with_weights=False) as (place, options), parts.as_input_error(place, file):
        config: PreTrainedConfig = AutoConfig.from_pretrained(place, **options, attn_implementation=ATTENTION)
        config._attn_implementation = ATTENTION  # this also sets it in the parts of a multimodal configuration
        config._name_or_path = parts.source.path
        check_architecture(config.model_type)
    return config


def gguf_path(source: ModelSource) -> Path:
    """The path of a source's GGUF file, downloaded where the hub's cache lacks it.

    Raises InputError where there is no such file, and where it cannot be downloaded.
    """
    what, place = f"model {source.path}", hub_id_or_folder("model", source.path)
    name = str(source.gguf_file)
    if Path(place).is_dir():
        file: Path | None = Path(place, name)
    else:
        with as_input_error(what):
            file = hub_file(place, name, source.revision)
    if file is None or not file.is_file():
        raise InputError(f"gguf_file={name}: there is no such file in {place}")
    return file.absolute()


def _of_gguf(source: ModelSource, what: str, place: str) -> Parts:
    file = gguf_path(source)
    weights = gguf_files(file, what)
    declared.check_metadata(weights, sorted(architectures()), f"{what}: {file.name}")
    return Parts(source, file.parent, None, {}, weights, file)


def _check_kind(config: dict[str, Any], what: str) -> None:
    """Raise InputError where config.json describes a model that cannot be used.

    It cannot be used where it is quantised, where config.json names other files to load, and where its model_type is
    missing or, in a configuration without auto_map, not known.
    """
    declared.check_files_named(config, f"{what}: config.json")
    texts = [config, config.get("text_config")]
    if any(isinstance(part, dict) and part.get("quantization_config") is not None for part in texts):
        raise InputError(f"{what} is quantised; give the checkpoint it was made from, or a GGUF file")
    kind = config.get("model_type")
    if not isinstance(kind, str):
        raise InputError(f"{what}: config.json has no model_type, the name of an architecture")
    # With an auto_map the model may bring the code of its architecture, which needs trust_remote_code.
    if "auto_map" not in config:
        check_architecture(kind)


def _check_values(config: dict[str, Any], weights: WeightFiles | None, what: str) -> None:
    """Raise InputError for counts and sizes in config.json that are wrong or larger than the weight files allow.

    weights: None while they are not known. Whether values are of the right type is checked for known architectures
    only.
    """
    declared.check_bounds(config, weights, f"{what}: config.json")
    if config["model_type"] in architectures():
        declared.check_declared(config, f"{what}: config.json")


def _fetch(model: str, revision: str | None, what: str, download: bool) -> bool:
    """Whether the weight files of a model on the hub can be checked in the hub's cache.

    They can be checked where model.safetensors, or the index and all safetensors files that it names, are in the cache.
    download: download these files and generation_config.json first. The result is then True also where the hub lacks
    some of them: weight_files, which is called next, says what is missing.
    """
    if download:
        optional_file(model, GENERATION, revision)
        if hub_file(model, WEIGHTS, revision):
            return True
        index = hub_file(model, INDEX, revision)
        if index is None:
            return True
    elif cached(model, [WEIGHTS], revision):
        return True
    elif not cached(model, [INDEX], revision):
        return False
    else:
        index = hub_file(model, INDEX, revision)
        assert index is not None
    shard_of = json_object(index, f"{what}: {INDEX}", LARGEST_INDEX).get("weight_map")
    names = sorted({name for name in shard_of.values() if plain_name(name)}) if isinstance(shard_of, dict) else []
    if download:
        for name in names:
            hub_file(model, name, revision)
        return True
    return cached(model, names, revision)
