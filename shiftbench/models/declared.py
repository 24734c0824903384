"""What a configuration declares, held against limits and against the files of weights before anything is built of it.

transformers builds lists as long as a configuration says, layer by layer, before it opens a file of weights.
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
POSITIONS = {"max_position_embeddings", "n_positions", "sliding_window"}  # no weight need have as many rows
OPTIONAL = {
    "n_inner",
    "num_key_value_heads",
    "head_dim",
    "sliding_window",
}  # may be null: then they follow from the others
MOST_LAYERS = 10_000  # where the files are not at hand yet
MOST = 2**31
MOST_LABELS = 100_000  # names of classes, of which a language model needs none
DEEPEST = 50  # objects and lists inside each other

# What chooses code to compute with. We ask for eager attention; another choice makes transformers fetch kernels.
CHOOSES_CODE = {
    "attn_implementation", "_attn_implementation", "_attn_implementation_internal", "experts_implementation",
    "_experts_implementation", "_experts_implementation_internal", "fusion_config", "distributed_config",
}  # fmt: skip
# What sends transformers to other files than those that are checked.
NAMES_FILES = ("transformers_weights", "configuration_files")
ROPE = ("rope_scaling", "rope_parameters")


def without_code_choices(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration, at every depth, without what chooses code to compute with."""
    return {
        name: without_code_choices(value) if isinstance(value, dict) else value
        for name, value in config.items()
        if name not in CHOOSES_CODE
    }


def check_declared(config: dict[str, Any], what: str) -> None:
    """Refuse, in the configuration of a known architecture, sizes that are none, and unknown rotary embeddings.

    config: as config.json gives it. what: the configuration as the user named it, which messages begin with.
    """
    for name in sorted(LAYERS | SIZES | POSITIONS):
        value = config.get(name)
        if name in config and not (value is None and name in OPTIONAL) and not (type(value) is int and value > 0):
            raise InputError(f"{what}: {name} must be a whole number of at least 1, got {value!r}")
    for name in ("dtype", "torch_dtype"):
        dtype = config.get(name)
        if dtype is not None and not (isinstance(dtype, str) and isinstance(getattr(torch, dtype, None), torch.dtype)):
            raise InputError(f"{what}: {name} is {dtype!r}, which is no dtype")
    for name in ROPE:
        _check_rope(config.get(name), f"{what}: {name}")


def check_files_named(config: dict[str, Any], what: str) -> None:
    """Refuse a configuration that sends transformers to other files than the model's own."""
    for name in NAMES_FILES:
        if config.get(name) is not None:
            raise InputError(f"{what}: {name} names other files than the model's own; remove it")


def check_end_tokens(found: Any, what: str) -> None:
    """Refuse ids of tokens that end a text which are no whole numbers; what: as in check_declared."""
    ends = found if isinstance(found, list) else [] if found is None else [found]
    if not all(type(end) is int and end >= 0 for end in ends):
        raise InputError(f"{what}: eos_token_id must be the id of a token or a list of such, got {found!r}"[:600])


def check_bounds(config: dict[str, Any], weights: WeightFiles | None, what: str) -> None:
    """Refuse counts and sizes, at every depth of a configuration, beyond what the files of weights can hold.

    weights: None where the files are not at hand: then fixed limits hold. what: as in check_declared.
    """
    for part in _objects(config, what):
        for name, value in part.items():
            _check_count(name, value, weights, what)


def check_metadata(weights: WeightFiles, known: list[str], what: str) -> None:
    """Refuse a GGUF file of an architecture that is not known, or whose metadata declare more than it holds.

    known: GGUF names of architectures. what: the file as the user named it, which messages begin with.
    """
    kind = weights.metadata.get("general.architecture")
    if kind not in known:
        raise InputError(f"{what}: architecture {kind!r} is not known; known are {', '.join(known)}")
    for key, value in weights.metadata.items():
        name = key.rpartition(".")[2]
        if type(value) is int:
            _check_count(name, value, weights, what)


def check_built(module: PreTrainedModel, weights: WeightFiles, what: str) -> None:
    """Refuse a model, built without memory, whose weights have other shapes than in its files or are far more.

    Weights that are missing are named when the files are read, for which the model may need twice their memory.
    A GGUF file must hold no more than the model has: transformers leaves out what it has no place for.
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
    """Every object in a JSON value, itself first."""
    if depth > DEEPEST:
        raise InputError(f"{what} nests more than {DEEPEST} deep")
    if isinstance(found, dict):
        yield found
        found = list(found.values())
    if isinstance(found, list):
        for value in found:
            yield from _objects(value, what, depth + 1)


def _check_count(name: str, value: Any, weights: WeightFiles | None, what: str) -> None:
    if name in ("id2label", "label2id", "num_labels"):
        labels = len(value) if isinstance(value, dict | list) else value
        if isinstance(labels, int | float) and labels > MOST_LABELS:
            raise InputError(f"{what}: {name} declares {labels:,} labels; a language model has none")
    if not isinstance(value, int | float) or name not in LAYERS | SIZES:
        return
    if name in LAYERS:
        most, held = (MOST_LAYERS, "") if weights is None else (len(weights.tensors), " tensors")
    else:
        most, held = (MOST, "") if weights is None else (weights.values, " weights")
    if value > most:
        why = f"its files hold {most:,}{held}" if held else f"at most {most:,} are taken"
        raise InputError(f"{what}: {name} is {value:,}, and {why}")


def _check_rope(found: Any, what: str) -> None:
    """Refuse a type of rotary embeddings that transformers does not know; each kind of layer may have its own."""
    if not isinstance(found, dict):
        return
    for part in _objects(found, what):
        kind = part.get("rope_type", part.get("type"))
        known = {"default", *ROPE_INIT_FUNCTIONS}
        if kind is not None and (not isinstance(kind, str) or kind not in known):
            raise InputError(
                f"{what} is of type {kind!r}, which this transformers does not know; known are "
                f"{', '.join(sorted(known))}"
            )
