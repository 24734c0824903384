"""Checks of the counts and sizes that a configuration declares, before anything is built from them.

They are compared with fixed limits and with the weight files. Without these checks a damaged config.json could fill the
memory: transformers builds as many layers as it declares before it opens a weight file.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from shiftbench.errors import InputError
from shiftbench.models.weight_files import WeightFiles

LAYERS = {"num_hidden_layers", "n_layer", "n_layers", "num_layers", "block_count"}
SIZES = {
    "vocab_size", "hidden_size", "n_embd", "intermediate_size", "n_inner", "num_attention_heads", "n_head",
    "num_key_value_heads", "head_dim", "embedding_length", "feed_forward_length", "head_count",
    "head_count_kv", "key_length", "value_length",
}  # fmt: skip
# Counts of positions. With rotary embeddings no weight has as many rows, so the weight files do not limit them.
POSITIONS = {"max_position_embeddings", "n_positions", "sliding_window"}
# Fields that may be null. A sliding_window of null means no window; for the others most architectures derive a value.
OPTIONAL = {"n_inner", "num_key_value_heads", "head_dim", "sliding_window"}
MOST_LAYERS = 10_000  # largest accepted value of a field in LAYERS while the weight files are not known
# Largest accepted value of a field in SIZES while the weight files are not known. Once they are, it is their count of
# numbers.
MOST = 2**31
MOST_LABELS = 100_000  # most names of classes in one field of a configuration; a language model needs none
DEEPEST = 50  # most levels of objects and lists inside each other

# Fields that choose the code to compute with. shiftbench needs eager attention; other choices can make transformers
# download kernels.
CHOOSES_CODE = {
    "attn_implementation", "_attn_implementation", "_attn_implementation_internal", "experts_implementation",
    "_experts_implementation", "_experts_implementation_internal", "fusion_config", "distributed_config",
}  # fmt: skip
# Fields that make transformers open other files than the checked ones.
NAMES_FILES = ("transformers_weights", "configuration_files")
ROPE = ("rope_scaling", "rope_parameters")


def without_code_choices(config: dict[str, Any]) -> dict[str, Any]:
    """A copy of the configuration without the fields in CHOOSES_CODE, in it and in the objects inside it.

    Objects that stand in a list are left as they are.
    """
    return {
        name: without_code_choices(value) if isinstance(value, dict) else value
        for name, value in config.items()
        if name not in CHOOSES_CODE
    }


def check_declared(config: dict[str, Any], what: str) -> None:
    """Check some of the outermost fields in the configuration of a known architecture.

    config: the content of config.json. what: the configuration as the user named it; messages begin with it. A field
    that is absent is not checked. Raises InputError where a field in LAYERS, SIZES or POSITIONS is not a positive whole
    number (those in OPTIONAL may be null), where dtype or torch_dtype is neither null nor the name of a dtype of torch,
    and where a field in ROPE has a type of rotary embeddings that transformers does not know.
    """
    for name in sorted(LAYERS | SIZES | POSITIONS):
        value = config.get(name)
        if name in config and not (value is None and name in OPTIONAL) and not (type(value) is int and value > 0):
            raise InputError(f"{what}: {name} must be a whole number of at least 1, got {value!r}")
    for name in ("dtype", "torch_dtype"):
        dtype = config.get(name)
        if dtype is not None and not (isinstance(dtype, str) and isinstance(getattr(torch, dtype, None), torch.dtype)):
            raise InputError(f"{what}: {name} is {dtype!r}, which is no dtype of torch")
    for name in ROPE:
        _check_rope(config.get(name), f"{what}: {name}")


def check_files_named(config: dict[str, Any], what: str) -> None:
    """Raise InputError where an outermost field of a configuration is in NAMES_FILES and is not null.

    transformers would open the files that such a field names. what: the configuration as the user named it; the message
    begins with it.
    """
    for name in NAMES_FILES:
        if config.get(name) is not None:
            raise InputError(f"{what}: {name} names other files than the model's own; remove it")


def check_end_tokens(found: Any, what: str) -> None:
    """Raise InputError unless eos_token_id is absent or null, a token id, or a list of token ids.

    found: the value of eos_token_id, None where it is absent. A token id is a whole number of at least 0. what: the
    file or the model as the user named it; the message begins with it.
    """
    ends = found if isinstance(found, list) else [] if found is None else [found]
    if not all(type(end) is int and end >= 0 for end in ends):
        raise InputError(f"{what}: eos_token_id must be the id of a token or a list of such, got {found!r}"[:600])


def check_bounds(config: dict[str, Any], weights: WeightFiles | None, what: str) -> None:
    """Raise InputError where a count or size, at any depth of a configuration, exceeds what the weight files can hold.

    A field in LAYERS may not exceed the count of tensors in the files, and a field in SIZES may not exceed the count of
    numbers in them. weights: None while the weight files are not known; the limits are MOST_LAYERS and MOST then. Names
    of classes have the limit MOST_LABELS, and nesting has the limit DEEPEST, in any case. what: the configuration as
    the user named it; messages begin with it.
    """
    for part in _objects(config, what):
        for name, value in part.items():
            _check_count(name, value, weights, what)


def check_metadata(weights: WeightFiles, known: list[str], what: str) -> None:
    """Raise InputError where a GGUF file has an unknown architecture, or its metadata declare more than it holds.

    weights: what the file's header says. known: the values of general.architecture that are accepted. Counts and sizes
    in the metadata have the limits of check_bounds; values that are no whole numbers are not compared. what: the file
    as the user named it; messages begin with it.
    """
    kind = weights.metadata.get("general.architecture")
    if kind not in known:
        raise InputError(f"{what}: architecture {kind!r} is not known; known are {', '.join(known)}")
    for key, value in weights.metadata.items():
        name = key.rpartition(".")[2]
        if type(value) is int:
            _check_count(name, value, weights, what)


def check_built(module: PreTrainedModel, weights: WeightFiles, what: str) -> None:
    """Raise InputError where a model's configuration and its weight files contradict each other.

    They do so where a weight has another shape in a safetensors file than in the model, and where the model has more
    than twice as many numbers as the files. Missing weights are reported later, when the files are read; up to a factor
    of 2 the memory that they would take is harmless. A GGUF file must not hold more numbers than the model has, because
    transformers silently leaves out those that it has no place for. Shapes in a GGUF file are not compared.
    module: the model on the meta device. what: the file that describes the model; messages begin with it.
    """
    for name, shape in _shapes(module):
        stored = weights.tensors.get(name) or weights.tensors.get(name.removeprefix(f"{module.base_model_prefix}."))
        if stored is not None and not weights.metadata and stored.shape != shape:
            raise InputError(f"{what} describes {name!r} with shape {shape}, and its files hold it as {stored.shape}")
    wanted, held = module.num_parameters(), weights.values
    if wanted > 2 * held:
        raise InputError(f"{what} describes a model of {wanted:,} weights, and its files hold {held:,}")
    if weights.metadata and wanted < held:
        raise InputError(
            f"{what} holds {held:,} weights, and the model that it describes has {wanted:,}: some would be left out; "
            f"give the safetensors checkpoint"
        )


def _shapes(module: PreTrainedModel) -> Iterator[tuple[str, tuple[int, ...]]]:
    return ((name, tuple(parameter.shape)) for name, parameter in module.named_parameters())


def _objects(found: Any, what: str, depth: int = 0) -> Iterator[dict[str, Any]]:
    """Every object in a JSON value, first the value itself if it is one; InputError beyond DEEPEST nested levels."""
    if depth > DEEPEST:
        raise InputError(f"{what} nests more than {DEEPEST} deep")
    if isinstance(found, dict):
        yield found
        found = list(found.values())
    if isinstance(found, list):
        for value in found:
            yield from _objects(value, what, depth + 1)


def _check_count(name: str, value: Any, weights: WeightFiles | None, what: str) -> None:
    """Raise InputError where a field declares more layers, numbers or labels than its limit (see check_bounds).

    name, value: of the field. A list or an object of labels counts by its entries. Fields that count none of these are
    accepted, and so are all other values that are no numbers.
    """
    if name in ("id2label", "label2id", "num_labels"):
        labels = len(value) if isinstance(value, dict | list) else value
        if isinstance(labels, int | float) and labels > MOST_LABELS:
            raise InputError(f"{what}: {name} declares {labels:,} labels; a language model has none")
    if not isinstance(value, int | float) or name not in LAYERS | SIZES:
        return
    if name in LAYERS:
        limit, held = (MOST_LAYERS, "") if weights is None else (len(weights.tensors), " tensors")
    else:
        limit, held = (MOST, "") if weights is None else (weights.values, " weights")
    if value > limit:
        why = f"its files hold {limit:,}{held}" if held else f"at most {limit:,} are allowed"
        raise InputError(f"{what}: {name} is {value:,}, and {why}")


def _check_rope(found: Any, what: str) -> None:
    """Raise InputError where transformers does not know a type of rotary embeddings.

    found: the value of a field in ROPE. It is an object with the type in it, or an object with one such object for each
    kind of layer; every type is checked. A value that is no object and an object without a type are accepted. what: the
    field, for the message.
    """
    if not isinstance(found, dict):
        return
    for part in _objects(found, what):
        kind = part.get("rope_type", part.get("type"))
        known = {"default", *ROPE_INIT_FUNCTIONS}
        if kind is not None and (not isinstance(kind, str) or kind not in known):
            raise InputError(
                f"{what} is of type {kind!r}, which this version of transformers does not know; known are "
                f"{', '.join(sorted(known))}"
            )
