"""Loads the Model that a ModelSource describes, and checks it before and after the weights are read.

`wrap` makes a Model of a module that the caller loaded.
"""

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

PROBE = "Write a short story about 12 robots."  # the text of the trial forward pass
PROBE_TOKENS = 8  # at most this many tokens from the beginning of PROBE are used
# Parts of the names of tensors that stand beside quantised weights.
QUANTISED = re.compile(r"scale|zero_point|zeros|qweight|g_idx|absmax|quant_map|SCB")


@dataclass(frozen=True)
class ModelShape:
    """Sizes of a model.

    parameters: the number of parameters; an adapter's are not counted, and tied weights are counted once. layers: the
    number of layers. heads: the number of query heads in a layer. width: of the hidden state (D). vocabulary: the
    number of tokens that the configuration declares.
    """

    parameters: int
    layers: int
    heads: int
    width: int
    vocabulary: int


def load(source: ModelSource) -> Model:
    """The model of a source, in eval mode, with frozen parameters and eager attention.

    Files on the hub that the cache lacks are downloaded. Raises InputError as `check`, `load_tokenizer` and
    `adapter.attach` do. Raises it too where the files lack a weight, or hold a weight that a forward pass may need and
    the model has no place for, where a weight is not finite, where a device map offloads a weight, where a trial
    forward pass fails, and where the model and its tokenizer do not go together (see `_try_out`). Raises
    torch.OutOfMemoryError where a GPU has too little memory.
    """
    parts, config = _checked(source, download=True)
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
    """A context whose value is a module that the caller loaded, as a Model.

    The module is put in eval mode, frozen and given eager attention; its earlier state is restored at the end of the
    block, as ModuleState says. If the module is a PEFT model, the Model's module is the base with the adapter in its
    layers, not merged into the weights. No file is read and no weight is checked. Raises InputError where the module is
    neither a PreTrainedModel nor a PEFT model of one, and where the tokenizer gives no character offsets.
    """
    # A PEFT model is recognised by its attributes and not by its type, because peft need not be installed.
    inner = getattr(module, "get_base_model", None)
    if callable(inner) and hasattr(module, "peft_config"):
        module = inner()
    if not isinstance(module, PreTrainedModel):
        raise InputError(f"model must be a transformers PreTrainedModel, got {type(module).__name__}")
    tokenizer = require_fast(tokenizer, "the tokenizer")
    state = ModuleState(module)
    try:
        # transformers warns where a part of a multimodal model has only one implementation of attention.
        with quiet():
            module.set_attn_implementation("eager")
        module.eval().requires_grad_(False)
        name = module.name_or_path or type(module).__name__
        yield Model(name, module, tokenizer, None, str(module.dtype).removeprefix("torch."))
    finally:
        state.restore()


def check(source: ModelSource) -> PreTrainedConfig:
    """The model's configuration, after every check for which the model's own weights need not be read or downloaded.

    The headers of weight files are checked too where the files are on this machine. config.json and an adapter's files
    are downloaded where the hub's cache lacks them, and so is a GGUF file. The adapter is checked against the base. The
    tokenizer is not checked. Raises InputError where a check fails.
    """
    return _checked(source, download=False)[1]


def shape_of(source: ModelSource) -> ModelShape:
    """The sizes of the model that a source describes. Reads no weights. Raises InputError as `check` does."""
    config = check(source)
    with as_input_error(f"model {source.path}"):
        parameters = adapter.skeleton(config, source.trust_remote_code).num_parameters()
    return ModelShape(
        parameters, config.num_hidden_layers, config.num_attention_heads, config.hidden_size, config.vocab_size
    )


def check_weights(module: PreTrainedModel, name: str) -> None:
    """Raise InputError where an entry of the state dict holds NaN or inf, or where a device map has offloaded it.

    name: the model's name, for messages.
    """
    for weight, tensor in module.state_dict().items():
        if tensor.is_meta:
            raise InputError(
                f"{name}: device_map leaves weight {weight!r} outside memory; give devices that hold the model"
            )
        # NaN and inf show in the two extremes; isfinite of the whole weight would allocate a mask of its size.
        if tensor.is_floating_point() and tensor.numel() and not torch.isfinite(torch.stack(tensor.aminmax())).all():
            raise InputError(f"{name}: weight {weight!r} has NaN or inf in it")


def _checked(source: ModelSource, download: bool) -> tuple[Parts, PreTrainedConfig]:
    """A model's files and configuration, checked as far as is possible before the weights are read.

    download: as in parts_of. Raises InputError where a check fails.
    """
    check_dtype_and_device(source)
    parts = parts_of(source, download)
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
    """The module that a model's files describe, without an adapter, in the source's dtype.

    The weights are on the devices of the source's device map, or on the CPU where it has none. Raises InputError where
    transformers fails, where the files lack a weight, and where they hold a weight for which the configuration has no
    place, unless no forward pass needs that weight (`unused`).
    """
    source = parts.source
    with parts.loadable(with_weights=True) as (place, options), parts.as_input_error(place):
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
    if source.gguf_file is not None:  # the weights' digest covers this field, and a folder's path must not change it
        module.config.quantization_config.gguf_file = source.gguf_file
    if report["missing_keys"]:  # transformers has filled them with random numbers
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
                else "without them it would be another model; is its config.json the right one?"
            )
        )
    loaded: PreTrainedModel = module
    return loaded


@torch.no_grad()
def _try_out(model: Model) -> None:
    """Run a forward pass over the start of PROBE, and read those parts of the model that are needed later.

    Some malformed configurations fail only there. Raises InputError where something fails, where the text or the
    tokenizer's vocabulary, added tokens left aside, has token ids for which the model has no embeddings, and where the
    generation configuration has an eos_token_id that is neither a token id nor a list of them.
    """
    with as_input_error(f"model {model.name}"):
        ids = model.tokenizer(PROBE)["input_ids"][:PROBE_TOKENS] or [0]
        rows = model.module.get_input_embeddings().weight.shape[0]
        # Added tokens are not counted: if one has no row of embeddings, that is harmless unless a text holds the token.
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
    """The options of from_pretrained that place weights on devices.

    device_map: as in ModelSource. A list of GPU numbers spreads the weights over these GPUs only, up to the memory that
    is free on each now. Any other value is passed on as it is.
    """
    if not isinstance(device_map, list):
        return {"device_map": device_map}
    return {"device_map": "auto", "max_memory": {gpu: torch.cuda.mem_get_info(gpu)[0] for gpu in device_map}}
