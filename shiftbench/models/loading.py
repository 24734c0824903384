"""From a ModelSource to a Model, with everything refused that can be before and after its weights are read."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from shiftbench.errors import InputError
from shiftbench.models import adapter
from shiftbench.models.declared import check_built, check_end_tokens
from shiftbench.models.hub import as_input_error, quiet
from shiftbench.models.model import Model
from shiftbench.models.parts import ATTENTION, Parts, configuration, parts_of
from shiftbench.models.source import DTYPES, ModelSource, check_dtype_and_device
from shiftbench.models.state import ModuleState
from shiftbench.models.tokenizer import load_tokenizer, require_fast
from shiftbench.models.weight_files import unused

PROBE = "Write a short story about 12 robots."
PROBE_TOKENS = 8
QUANTISED = re.compile(r"scale|zero_point|zeros|qweight|g_idx|absmax|quant_map|SCB")  # beside quantised weights


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

    Raises InputError as check does, and where the files lack a weight or hold one that the model has no place for, a
    weight is not finite, a device map leaves one on disk, or the model cannot compute. Raises torch.OutOfMemoryError
    where the device is too small.
    """
    parts, config = _checked(source, whole=True)
    tokenizer = load_tokenizer(source)
    read = partial(_read, parts, config)
    module, notes = (read(), ()) if source.adapter is None else adapter.attach(source, read)
    if source.device_map is None:
        nn.Module.to(module, source.torch_device())
    module.eval().requires_grad_(False)
    check_weights(module, source.name)
    model = Model(source.name, module, tokenizer, source, source.dtype, notes=notes)
    _try_out(model)
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
    tokenizer = require_fast(tokenizer, "the tokenizer")
    state = ModuleState(module)
    try:
        with quiet():  # some parts of a multimodal model have one attention only, and transformers warns of them
            module.set_attn_implementation("eager")
        module.eval().requires_grad_(False)
        name = module.name_or_path or type(module).__name__
        yield Model(name, module, tokenizer, None, str(module.dtype).removeprefix("torch."))
    finally:
        state.restore()


def check(source: ModelSource) -> PreTrainedConfig:
    """The model's configuration, once all has been refused that can be without reading its weights."""
    return _checked(source, whole=False)[1]


def shape_of(source: ModelSource) -> ModelShape:
    """How large the model of a source is; raises as check does and reads no weights."""
    config = check(source)
    with as_input_error(f"model {source.path}"):
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


def _checked(source: ModelSource, whole: bool) -> tuple[Parts, PreTrainedConfig]:
    """A model's parts and configuration, with everything refused that can be before its weights are read.

    whole: download the weights of a model on the hub too.
    """
    check_dtype_and_device(source)
    parts = parts_of(source, whole)
    config = configuration(parts)
    if parts.weights is not None:
        what = f"model {source.path}"
        with as_input_error(what):
            built = adapter.skeleton(copy.deepcopy(config), source.trust_remote_code)
        file = "config.json" if parts.gguf_file is None else parts.gguf_file.name
        check_built(built, parts.weights, f"{what}: {file}")
    if source.adapter is not None:
        adapter.check_fits(source, config)
    return parts, config


def _read(parts: Parts, config: PreTrainedConfig) -> PreTrainedModel:
    """The base's module as it is on disk, in the dtype asked for."""
    source = parts.source
    with parts.loadable(whole=True) as (place, options), parts.as_input_error(place):
        read: Any = AutoModelForCausalLM.from_pretrained(
            place,
            config=config,
            **options,
            dtype=DTYPES[source.dtype],
            **_device_options(source.device_map),
            attn_implementation=ATTENTION,
            use_safetensors=True,
            output_loading_info=True,
        )
    module, report = read
    module.config.name_or_path = module.name_or_path = source.path
    if source.gguf_file is not None:  # in the model's digest, which a path must not change
        module.config.quantization_config.gguf_file = source.gguf_file
    if report["missing_keys"]:  # transformers would go on with random numbers in its place
        missing = sorted(report["missing_keys"])
        raise InputError(f"model {source.path}: no weight {missing[0]!r} in its files ({len(missing)} are missing)")
    held = parts.weights.tensors if parts.weights is not None else {}
    left = sorted(name for name in report["unexpected_keys"] if name not in held or not unused(held[name]))
    if left:
        quantised = next((name for name in left if QUANTISED.search(name)), None)
        raise InputError(
            f"model {source.path}: its files hold {quantised or left[0]!r} ({len(left)} such weights), for which its "
            f"configuration has no place; "
            + (
                "it looks quantised: give the checkpoint it was made from, or a GGUF file"
                if quantised
                else "without them it would be another model: is its config.json the right one?"
            )
        )
    return module  # type: ignore[no-any-return]


@torch.no_grad()
def _try_out(model: Model) -> None:
    """One pass over a few tokens, and what is read of the configuration later: some malformed ones fail only there."""
    with as_input_error(f"model {model.name}"):
        ids = model.tokenizer(PROBE)["input_ids"][:PROBE_TOKENS] or [0]
        rows = model.module.get_input_embeddings().weight.shape[0]
        # Tokens that were added later may have no row yet, as long as no text holds them.
        added = model.tokenizer.get_added_vocab()
        largest = max([*ids, *(i for token, i in model.tokenizer.get_vocab().items() if token not in added)])
        if largest >= rows:
            raise InputError(
                f"model {model.name}: its tokenizer gives token id {largest}, and the model has {rows} rows of "
                f"embeddings; is it the tokenizer of this model?"
            )
        model.module(input_ids=torch.tensor([ids], device=model.input_device), use_cache=False)
        check_end_tokens(getattr(model.module.generation_config, "eos_token_id", None), f"model {model.name}")
        _ = model.views.layers, model.context_length, model.transformer_or_reason


def _device_options(device_map: Any) -> dict[str, Any]:
    """What transformers is told of devices; a list of GPUs means: spread over these alone."""
    if not isinstance(device_map, list):
        return {"device_map": device_map}
    return {"device_map": "auto", "max_memory": {gpu: torch.cuda.mem_get_info(gpu)[0] for gpu in device_map}}
