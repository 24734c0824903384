"""Which files of weights will be opened, decided and checked before transformers is called.

Only safetensors and GGUF are opened. transformers' own choice follows an index wherever it leads, reads pickled weights
where the index names them, and looks at adapters and further files that lie beside; so a loader is shown a folder of
links to the checked files alone (`folder_of_links`), never the model's own folder.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from shiftbench.errors import InputError
from shiftbench.readers import file_bytes, json_value, reading
from shiftbench.readers.tensor_headers import StoredTensor, gguf_header, refuse_lfs_pointer, safetensors_header

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
FLOATS = {"F64", "F32", "F16", "BF16"}  # dtypes of safetensors that are weights as they are
GGUF_INTEGERS = {"24", "25", "26", "27"}  # I8, I16, I32, I64
LARGEST_JSON = 4 * 2**20  # bytes of a config.json or a generation_config.json; usual are some kB
LARGEST_INDEX = 64 * 2**20

# Tensors that older checkpoints hold and no forward pass needs: masks and rotary frequencies, which are computed, and
# the value heads of reinforcement learning, which stand beside the output embeddings.
UNUSED = re.compile(
    r"((^|\.)rotary_emb\.inv_freq|(^|\.)attn\.(masked_)?bias|(^|\.)position_ids|^(v_head|value_head)\..*)$"
)


@dataclass(frozen=True)
class WeightFiles:
    """The files that hold a model's weights.

    files: name in the model's folder -> the file itself, links followed. shard_of: of an index, weight -> file name;
    None where one file holds all. tensors: by their names in the files. metadata: of a GGUF file, else empty.
    """

    files: Mapping[str, Path]
    shard_of: Mapping[str, str] | None
    tensors: Mapping[str, StoredTensor]
    metadata: Mapping[str, Any]

    @property
    def values(self) -> int:
        """How many numbers the files hold, those that no forward pass needs left out."""
        return sum(tensor.values for tensor in self.tensors.values() if not unused(tensor))


def unused(tensor: StoredTensor) -> bool:
    """Whether a tensor is one that no forward pass needs; an attention's real bias has one dimension, a mask four."""
    found = UNUSED.search(tensor.name) is not None
    return found and not (tensor.name.endswith("attn.bias") and len(tensor.shape) != 4)


def json_object(path: Path, what: str, most: int = LARGEST_JSON) -> dict[str, Any]:
    """The object that a JSON file holds.

    what: the file as the user named it, which messages begin with. Raises InputError where the file cannot be read, is
    a git-lfs pointer, has more than `most` bytes, is not JSON, gives a key twice or holds something else. A link may
    lead out of the folder: the file is only ever read as JSON, and nothing of it but names reaches a message.
    """
    with reading(f"{what}: cannot read the file"):
        refuse_lfs_pointer(path, what)
        found = json_value(file_bytes(path, what, most), what)
    if not isinstance(found, dict):
        raise InputError(f"{what} must hold a JSON object, got {type(found).__name__}")
    return found


def weight_files(folder: Path, what: str) -> WeightFiles:
    """The safetensors files that a model's folder holds.

    what: the model as the user named it, which messages begin with. Raises InputError where there is neither
    model.safetensors nor its index, where the index names what is no safetensors file of the folder, where a link leads
    out of it, where a header is damaged or does not hold the weights that the index promises, and where weights are
    integers or 8-bit floats.
    """
    if (folder / WEIGHTS).is_file():
        names, shard_of = {WEIGHTS}, None
    elif (folder / INDEX).is_file():
        shard_of = _shards(folder, what)
        names = set(shard_of.values())
    else:
        raise InputError(_no_weights(folder, what))
    files = {name: _inside(folder, name, what) for name in sorted(names)}
    tensors: dict[str, StoredTensor] = {}
    place: dict[str, str] = {}
    for name, file in files.items():
        for tensor in safetensors_header(file, f"{what}: {name}"):
            if tensor.name in place:
                raise InputError(f"{what}: {place[tensor.name]} and {name} both hold {tensor.name!r}")
            tensors[tensor.name], place[tensor.name] = tensor, name
    for weight, name in (shard_of or {}).items():
        if place.get(weight) != name:
            raise InputError(f"{what}: {INDEX} says that {name} holds {weight!r}, and it does not; copy both again")
    for tensor in tensors.values():
        if tensor.dtype not in FLOATS and not unused(tensor):
            raise InputError(_quantised(folder, what, f"{place[tensor.name]} holds {tensor.name!r} as {tensor.dtype}"))
    return WeightFiles(files, shard_of, tensors, {})


def gguf_files(file: Path, what: str) -> WeightFiles:
    """A GGUF file of weights; raises InputError where it is damaged, or scales angles in a way that is not read."""
    header = gguf_header(file, f"{what}: {file.name}")
    for tensor in header.tensors:
        if tensor.dtype in GGUF_INTEGERS:
            raise InputError(f"{what}: {file.name} holds {tensor.name!r} as integers")
    tensors = {tensor.name: tensor for tensor in header.tensors}
    kind = header.metadata.get("general.architecture")
    scaling = header.metadata.get(f"{kind}.rope.scaling.type", "none")
    if scaling != "none" and header.metadata.get(f"{kind}.rope.scaling.factor") != 1.0:
        raise InputError(_rope_is_left_out(file, what, f"RoPE scaling of type {scaling!r}"))
    for name in ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"):
        if name in tensors:
            raise InputError(_rope_is_left_out(file, what, f"RoPE factors ({name})"))
    return WeightFiles({file.name: file}, None, tensors, header.metadata)


@contextmanager
def folder_of_links(config: dict[str, Any], beside: Mapping[str, Any], weights: WeightFiles | None) -> Iterator[Path]:
    """A folder, gone afterwards, that holds a configuration and links to checked files and nothing else.

    beside: name -> content of the JSON files to be written beside config.json.
    """
    with TemporaryDirectory(prefix="shiftbench-model-") as made:
        place = Path(made)
        written = {"config.json": config, **beside}
        if weights is not None:
            for name, file in weights.files.items():
                (place / name).symlink_to(file)
            if weights.shard_of is not None:
                written[INDEX] = {"metadata": {}, "weight_map": dict(weights.shard_of)}
        for name, content in written.items():
            (place / name).write_text(json.dumps(content), encoding="utf-8")
        yield place


def plain_name(name: Any) -> bool:
    """Whether a text is the name of a safetensors file and leads nowhere else."""
    return isinstance(name, str) and name.endswith(".safetensors") and not re.search(r"[/\\\0]|^\.", name)


def _shards(folder: Path, what: str) -> dict[str, str]:
    index = json_object(folder / INDEX, f"{what}: {INDEX}", LARGEST_INDEX)
    shard_of = index.get("weight_map")
    if not isinstance(shard_of, dict) or not shard_of:
        raise InputError(f"{what}: {INDEX} has no weight_map that names the file of each weight")
    for weight, name in shard_of.items():
        if not plain_name(name):
            raise InputError(
                f"{what}: {INDEX} says that {weight!r} is in {name!r}, which is no safetensors file of the folder; "
                f"only those are opened, because unpickling runs code: load the model where you trust it and save it "
                f"with save_pretrained"
            )
    return shard_of


def _inside(folder: Path, name: str, what: str) -> Path:
    """The file itself, links followed; InputError where there is none or a link leads out of the folder."""
    with reading(f"{what}: {name}"):
        real, home = (folder / name).resolve(strict=True), folder.resolve(strict=True)
    allowed = [home]
    if home.parent.name == "snapshots":  # of the hub's cache, whose snapshots are links into the blobs beside them
        allowed += [home.parents[1] / "blobs", home.parents[2] / "blobs"]
    if not any(real.is_relative_to(place) for place in allowed):
        raise InputError(
            f"{what}: {name} is a link that leads out of the folder, to {real}; give the folder that holds the weights"
        )
    return real


def _no_weights(folder: Path, what: str) -> str:
    pickled = sorted(file.name for pattern in ("*.bin", "*.pt", "*.pth") for file in folder.glob(pattern))
    others = sorted(file.name for file in folder.glob("*.safetensors"))
    if (folder / "adapter_config.json").is_file() and not pickled:
        return f"{what} is a PEFT adapter; give its base as BASE: pair.tuned=BASE pair.tuned_model.adapter={folder}"
    if pickled:
        held = f"only pickled weights ({pickled[0]})"
    elif others:
        held = f"no {WEIGHTS} and no {INDEX}, which alone are read of its safetensors files ({others[0]})"
    else:
        held = "no weights"
    return (
        f"{what} has {held}; only safetensors are read, because unpickling runs code: load the model where "
        f"you trust it and save it with save_pretrained"
    )


def _quantised(folder: Path, what: str, held: str) -> str:
    names = ("hf_quant_config.json", "quantize_config.json", "quant_config.json")
    beside = next((name for name in names if (folder / name).is_file()), None)
    return (
        f"{what} is quantised: {held}{f', and {beside} lies beside' if beside else ''}; give the checkpoint it was "
        f"made from, or a GGUF file"
    )


def _rope_is_left_out(file: Path, what: str, held: str) -> str:
    return (
        f"{what}: {file.name} has {held}, which transformers leaves out when it reads a GGUF file, so that every "
        f"number would be another model's; give the safetensors checkpoint"
    )
