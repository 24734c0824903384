"""Decides and checks which weight files will be opened, before transformers is called.

Only safetensors and GGUF files are opened. Without these checks transformers would open every file that an index names,
pickled files included, and adapters and other files in the same folder. Therefore transformers does not get the folder
of a safetensors model: it gets a temporary folder with links to the checked files (`folder_of_links`). With
trust_remote_code it gets the model's own folder or hub id.
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
FLOATS = {"F64", "F32", "F16", "BF16"}  # dtypes of safetensors that need no dequantisation
GGUF_INTEGERS = {"24", "25", "26", "27"}  # GGML types I8, I16, I32 and I64
LARGEST_JSON = 4 * 2**20  # most bytes of a config.json or a generation_config.json; some kB are usual
LARGEST_INDEX = 64 * 2**20  # most bytes of a model.safetensors.index.json

# Names of tensors that older checkpoints hold and no forward pass needs: masks, position ids and rotary frequencies,
# which transformers computes, and the value heads of reinforcement learning. A match on attn.bias is not enough: it may
# be a bias that the forward pass needs, and `unused` decides by its shape.
UNUSED = re.compile(
    r"((^|\.)rotary_emb\.inv_freq|(^|\.)attn\.(masked_)?bias|(^|\.)position_ids|^(v_head|value_head)\..*)$"
)


@dataclass(frozen=True)
class WeightFiles:
    """The files that hold a model's weights, and what their headers say.

    files: file name in the model's folder -> path of the file; links of safetensors files are resolved. shard_of: name
    of a weight -> name of the file that holds it, as the index says; None where one file holds all weights. tensors:
    name of a tensor in the files -> its dtype and shape. metadata: of a GGUF file; empty for safetensors.
    """

    files: Mapping[str, Path]
    shard_of: Mapping[str, str] | None
    tensors: Mapping[str, StoredTensor]
    metadata: Mapping[str, Any]

    @property
    def values(self) -> int:
        """How many numbers the files hold, without the tensors that no forward pass needs."""
        return sum(tensor.values for tensor in self.tensors.values() if not unused(tensor))


def unused(tensor: StoredTensor) -> bool:
    """Whether no forward pass needs a tensor, as its name says (UNUSED).

    A tensor named attn.bias is a mask only where it has four dimensions; with fewer or more it is a real bias.
    """
    found = UNUSED.search(tensor.name) is not None
    return found and not (tensor.name.endswith("attn.bias") and len(tensor.shape) != 4)


def json_object(path: Path, what: str, max_bytes: int = LARGEST_JSON) -> dict[str, Any]:
    """The object that a JSON file holds.

    what: the file as the user named it; messages begin with it. Raises InputError where the file cannot be read, is a
    git-lfs pointer, has more than `max_bytes` bytes, is not JSON, gives a key twice or holds no object. `path` may be a
    link that leads out of its folder: the file is read as JSON only, and these messages repeat nothing of it but a key.
    """
    with reading(f"{what}: cannot read the file"):
        refuse_lfs_pointer(path, what)
        found = json_value(file_bytes(path, what, max_bytes), what)
    if not isinstance(found, dict):
        raise InputError(f"{what} must hold a JSON object, got {type(found).__name__}")
    return found


def weight_files(folder: Path, what: str) -> WeightFiles:
    """The safetensors files of the weights in a model's folder, and what their headers say.

    The file is model.safetensors, or where that is missing the files are those that its index names. what: the model as
    the user named it; messages begin with it. Raises InputError
    - where there is neither model.safetensors nor its index,
    - where the index cannot be read, names anything but safetensors files of the folder, or names a missing file,
    - where a file is a link that leads out of the folder, unless it leads from the hub's cache to the cache's blobs,
    - where a header is damaged, or lacks weights that the index says are there,
    - where two files hold a tensor of the same name,
    - where weights that a forward pass needs are of another dtype than FLOATS, such as integers or 8-bit floats.
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
    """A GGUF file of weights, and what its header says.

    file: its path. what: the model as the user named it; messages begin with it. Raises InputError where the file is
    damaged, holds integers, or scales rotary angles in a way that transformers ignores.
    """
    header = gguf_header(file, f"{what}: {file.name}")
    for tensor in header.tensors:
        if tensor.dtype in GGUF_INTEGERS:
            raise InputError(f"{what}: {file.name} holds {tensor.name!r} as integers")
    tensors = {tensor.name: tensor for tensor in header.tensors}
    kind = header.metadata.get("general.architecture")
    scaling = header.metadata.get(f"{kind}.rope.scaling.type", "none")
    if scaling != "none" and header.metadata.get(f"{kind}.rope.scaling.factor") != 1.0:
        raise InputError(_ignored_rope(file, what, f"RoPE scaling of type {scaling!r}"))
    for name in ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"):
        if name in tensors:
            raise InputError(_ignored_rope(file, what, f"RoPE factors ({name})"))
    return WeightFiles({file.name: file}, None, tensors, header.metadata)


@contextmanager
def folder_of_links(
    config: dict[str, Any], json_files: Mapping[str, Any], weights: WeightFiles | None
) -> Iterator[Path]:
    """A context whose value is a temporary folder with the checked files of a model and nothing else.

    config: the content of the config.json that is written into it. json_files: name -> content of other JSON files that
    are written into it. weights: the weight files, to which it holds links, with an index where the model has one;
    None: no weights. The folder is removed when the block ends.
    """
    with TemporaryDirectory(prefix="shiftbench-model-") as name_of_folder:
        place = Path(name_of_folder)
        written = {"config.json": config, **json_files}
        if weights is not None:
            for name, file in weights.files.items():
                (place / name).symlink_to(file)
            if weights.shard_of is not None:
                written[INDEX] = {"metadata": {}, "weight_map": dict(weights.shard_of)}
        for name, content in written.items():
            (place / name).write_text(json.dumps(content), encoding="utf-8")
        yield place


def plain_name(name: Any) -> bool:
    """Whether a value is the name of a safetensors file, without a folder in it and without a dot at its beginning."""
    return isinstance(name, str) and name.endswith(".safetensors") and not re.search(r"[/\\\0]|^\.", name)


def _shards(folder: Path, what: str) -> dict[str, str]:
    """The index of a folder, as a dict from the name of a weight to the name of the file that holds it.

    Raises InputError where the index cannot be read or names no file, and where a file name in it is not a plain_name.
    Whether the files exist is not checked here.
    """
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
    """The path of a file in a folder, links resolved.

    Raises InputError where the file is missing, or is a link that leads out of the folder. Where the folder is in the
    hub's cache, links may lead into the cache's folders of blobs.
    """
    with reading(f"{what}: {name}"):
        real, home = (folder / name).resolve(strict=True), folder.resolve(strict=True)
    allowed = [home]
    if home.parent.name == "snapshots":  # a folder of the hub's cache, whose files are links into a folder of blobs
        allowed += [home.parents[1] / "blobs", home.parents[2] / "blobs"]
    if not any(real.is_relative_to(place) for place in allowed):
        raise InputError(
            f"{what}: {name} is a link that leads out of the folder, to {real}; give the folder that holds the weights"
        )
    return real


def _no_weights(folder: Path, what: str) -> str:
    """The message for a folder without safetensors weights; it names what the folder holds instead."""
    pickled = sorted(file.name for pattern in ("*.bin", "*.pt", "*.pth") for file in folder.glob(pattern))
    others = sorted(file.name for file in folder.glob("*.safetensors"))
    if (folder / "adapter_config.json").is_file() and not pickled:
        return f"{what} is a PEFT adapter; give its base as BASE: pair.tuned=BASE pair.tuned_model.adapter={folder}"
    if pickled:
        held = f"only pickled weights ({pickled[0]})"
    elif others:
        held = f"safetensors files ({others[0]}) but neither {WEIGHTS} nor {INDEX}"
    else:
        held = "no weights"
    return (
        f"{what} has {held}; only safetensors are read, because unpickling runs code: load the model where "
        f"you trust it and save it with save_pretrained"
    )


def _quantised(folder: Path, what: str, held: str) -> str:
    """The message for quantised weights. held: a clause that names the tensor that shows it."""
    names = ("hf_quant_config.json", "quantize_config.json", "quant_config.json")
    beside = next((name for name in names if (folder / name).is_file()), None)
    return (
        f"{what} is quantised: {held}{f', and {beside} is in the folder' if beside else ''}; give the checkpoint it "
        f"was made from, or a GGUF file"
    )


def _ignored_rope(file: Path, what: str, held: str) -> str:
    """The message for a GGUF file with scaled rotary angles, which transformers ignores. held: what the file has."""
    return (
        f"{what}: {file.name} has {held}, which transformers ignores when it reads a GGUF file, so that it "
        f"would compute another model; give the safetensors checkpoint"
    )
