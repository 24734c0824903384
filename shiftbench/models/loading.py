"""From a ModelSource to a Model, with everything refused that can be before and after its weights are read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from shiftbench.errors import InputError
from shiftbench.models import adapter
from shiftbench.models.hub import quiet, refusing
from shiftbench.models.model import Model
from shiftbench.models.source import DTYPES, ModelSource, check_computation, check_weight_files, is_adapter, place_of
from shiftbench.models.state import State
from shiftbench.models.tokenizer import fast, load_tokenizer
from shiftbench.models.views import check_architecture


@dataclass(frozen=True)
class ModelShape:
    """How large a model is; parameters: of the model without an adapter, tied ones once."""

    parameters: int
    layers: int
    heads: int
    width: int
    vocabulary: int


def load(source: ModelSource) -> Model:
    """The model of a source: eval mode, parameters frozen, eager attention.

    Raises InputError as check does, and where the files lack a weight, a weight is not finite or a device map leaves
    one on disk. Raises torch.OutOfMemoryError where the device is too small.
    """
    check(source)
    tokenizer = load_tokenizer(source)
    module = _read(source)
    if source.adapter is not None:
        module = adapter.attach(module, source)
    if source.device_map is None:
        nn.Module.to(module, source.torch_device())
    module.eval().requires_grad_(False)
    check_weights(module, source.name)
    model = Model(source.name, module, tokenizer, source, source.dtype)
    assert model.views.layers  # made here, so that nothing is left to refuse once work has begun
    return model


@contextmanager
def wrap(module: nn.Module, tokenizer: PreTrainedTokenizerBase) -> Iterator[Model]:
    """A module that the caller loaded, as a Model; what this changes on it is put back at the end.

    A PEFT model is taken with its adapter in place. No file is read and no weight is checked.
    """
    inner = getattr(
        module, "get_base_model", None
    )  # of a PEFT model, which is not told by its type: peft may be absent
    if callable(inner) and hasattr(module, "peft_config"):
        module = inner()
    if not isinstance(module, PreTrainedModel):
        raise InputError(f"model must be a transformers PreTrainedModel, got {type(module).__name__}")
    tokenizer = fast(tokenizer, "the tokenizer")
    state = State(module)
    try:
        with quiet():  # some parts of a multimodal model have one attention only, and transformers warns of them
            module.set_attn_implementation("eager")
        module.eval().requires_grad_(False)
        name = module.name_or_path or type(module).__name__
        yield Model(name, module, tokenizer, None, str(module.dtype).removeprefix("torch."))
    finally:
        state.put_back()


def check(source: ModelSource) -> PreTrainedConfig:
    """The model's configuration, once all has been refused that can be without reading its weights."""
    check_computation(source)
    place = Path(place_of("model", source.path))
    if is_adapter(place):
        raise InputError(f"model {source.path} is a PEFT adapter; give its base as the model and it as `adapter`")
    if place.is_dir() and (source.gguf_file or (place / "config.json").is_file()):
        check_weight_files(place, source.gguf_file)
    with refusing(f"model {source.path}"):
        config = AutoConfig.from_pretrained(str(place), **source.hub_options())
    check_architecture(config)
    if getattr(config, "quantization_config", None) is not None:
        raise InputError(f"model {source.path} is quantised; give the checkpoint it was made from, or a GGUF file")
    if source.adapter is not None:
        adapter.check_fits(source, config)
    return config


def shape_of(source: ModelSource) -> ModelShape:
    """How large the model of a source is; raises as check does and reads no weights."""
    config = check(source)
    with quiet():
        parameters = adapter.skeleton(config, source.trust_remote_code).num_parameters()
    return ModelShape(
        parameters, config.num_hidden_layers, config.num_attention_heads, config.hidden_size, config.vocab_size
    )


def check_weights(module: PreTrainedModel, name: str) -> None:
    """Refuse weights with NaN or inf in them, and weights that are not in memory."""
    for weight, tensor in module.state_dict().items():
        if tensor.is_meta:
            raise InputError(
                f"{name}: device_map leaves weight {weight!r} outside memory; give devices that hold the model"
            )
        # The extremes show NaN and inf without a mask as large as the weight.
        if tensor.is_floating_point() and tensor.numel() and not torch.isfinite(torch.stack(tensor.aminmax())).all():
            raise InputError(f"{name}: weight {weight!r} has NaN or inf in it")


def _read(source: ModelSource) -> PreTrainedModel:
    """The base's module as it is on disk, in the dtype asked for."""
    with refusing(f"model {source.path}"):
        read: Any = AutoModelForCausalLM.from_pretrained(
            place_of("model", source.path),
            **source.hub_options(),
            dtype=DTYPES[source.dtype],
            **_spread(source.device_map),
            attn_implementation="eager",
            use_safetensors=True,
            output_loading_info=True,
        )
    module, report = read
    if report["missing_keys"]:  # transformers would go on with random numbers in its place
        missing = sorted(report["missing_keys"])
        raise InputError(f"model {source.path}: no weight {missing[0]!r} in its files ({len(missing)} are missing)")
    return module  # type: ignore[no-any-return]


def _spread(device_map: Any) -> dict[str, Any]:
    """What transformers is told of devices; a list of GPUs means: spread over these alone."""
    if not isinstance(device_map, list):
        return {"device_map": device_map}
    return {"device_map": "auto", "max_memory": {gpu: torch.cuda.mem_get_info(gpu)[0] for gpu in device_map}}
