"""PEFT adapters: whether one belongs to a base, and putting it on. peft is imported where an adapter is at hand."""

from __future__ import annotations

from typing import Any

import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.utils import cached_file

from shiftbench.errors import InputError
from shiftbench.models.hub import quiet, refusing
from shiftbench.models.source import DTYPES, ModelSource, place_of


def skeleton(config: PreTrainedConfig, trust_remote_code: bool) -> PreTrainedModel:
    """The model of a configuration without memory: shapes and names only."""
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)


def check_fits(source: ModelSource, config: PreTrainedConfig) -> None:
    """Refuse an adapter that is no weight adapter, is pickled, or was made for a base of other shapes.

    Reads the adapter's configuration and the header of its weights, never the base's weights.
    """
    import peft

    place = place_of("adapter", str(source.adapter))
    with refusing(f"adapter {source.adapter}"):
        wanted = peft.PeftConfig.from_pretrained(place)
        file = cached_file(place, "adapter_model.safetensors", _raise_exceptions_for_missing_entries=False)
    if file is None:
        raise InputError(f"adapter {source.adapter} has no adapter_model.safetensors; only safetensors are read")
    if wanted.is_prompt_learning:
        raise InputError(
            f"adapter {source.adapter} is of type {wanted.peft_type.value}: it adds virtual tokens and "
            f"changes no weight, so there is nothing to compare; give an adapter of weights such as LoRA"
        )
    with refusing(f"adapter {source.adapter}"):
        held = _shapes_in_file(file)
    made_for = wanted.base_model_name_or_path  # trying it on overwrites this
    misfit = _misfit(wanted, skeleton(config, source.trust_remote_code), held)
    if misfit:
        raise InputError(
            f"adapter {source.adapter} does not fit: it was made for {made_for}, and on {source.path} {misfit}"
        )


def attach(module: PreTrainedModel, source: ModelSource) -> PreTrainedModel:
    """The module with its adapter merged into the weights, or kept in its layers."""
    import peft

    with refusing(f"adapter {source.adapter}"):
        adapted: Any = peft.PeftModel.from_pretrained(module, place_of("adapter", str(source.adapter)))
        merged: PreTrainedModel = adapted.merge_and_unload() if source.merge_adapter else adapted.get_base_model()
    for parameter in merged.parameters():  # PEFT keeps an adapter's own dtype, which would set that of the computation
        parameter.data = parameter.data.to(DTYPES[source.dtype])
    return merged


def _misfit(wanted: Any, module: PreTrainedModel, held: dict[str, tuple[int, ...]]) -> str | None:
    """The first thing in which an adapter's weights are not those that the module would want, in words."""
    import peft
    from peft.utils import get_peft_model_state_dict

    if hasattr(wanted, "init_lora_weights"):
        wanted.init_lora_weights = True  # others compute from the base's values, and a skeleton has none
    try:
        with quiet():
            adapted = peft.get_peft_model(module, wanted)
    except ValueError as error:
        return str(error).splitlines()[0]
    expected = {
        name: tuple(t.shape) for name, t in get_peft_model_state_dict(adapted, save_embedding_layers=False).items()
    }
    for name in sorted(expected):
        if name not in held:
            return f"there is no weight {name!r} in it"
        if held[name] != expected[name]:
            return f"weight {name!r} would have shape {expected[name]}, not {held[name]}"
    beyond = [name for name in sorted(held) if name not in expected and "lora_" in name]
    return f"there is no place for its weight {beyond[0]!r}" if beyond else None


def _shapes_in_file(file: str) -> dict[str, tuple[int, ...]]:
    with safe_open(file, framework="pt") as weights:
        return {name: tuple(weights.get_slice(name).get_shape()) for name in weights.keys()}
