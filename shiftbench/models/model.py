"""Model: a loaded model, its tokenizer, its weight views, and the digests that identify them."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from shiftbench.errors import InputError
from shiftbench.models import tokenizer as tokenizers
from shiftbench.models.block import Transformer
from shiftbench.models.hub import as_input_error
from shiftbench.models.source import ModelSource
from shiftbench.models.views import NotPlainLayer, WeightViews, views_of
from shiftbench.readers.templates import chat_template

# Of a configuration: bookkeeping that no forward pass depends on.
NOT_COMPUTED = {
    "_name_or_path", "architectures", "bos_token_id", "dtype", "eos_token_id", "id2label", "label2id",
    "pad_token_id", "torch_dtype", "transformers_version", "use_cache",
}  # fmt: skip


# Of an adapter's configuration: bookkeeping.
NOT_THE_FUNCTION = {
    "auto_mapping", "base_model_name_or_path", "inference_mode", "peft_version", "revision", "task_type",
}  # fmt: skip


@dataclass(frozen=True)
class Model:
    """A loaded model in eval mode with frozen parameters and eager attention.

    source: what it was loaded from; None where it was given as a module. dtype: of weights and computation.
    known_digest: what weights_digest is, where whoever made the weights can say it without reading them.
    notes: remarks for the reader on how it was loaded.
    """

    name: str
    module: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    source: ModelSource | None
    dtype: str
    known_digest: str | None = None
    notes: tuple[str, ...] = ()

    @cached_property
    def views(self) -> WeightViews:
        """Weight views; InputError where the architecture has none."""
        return views_of(self.module)

    @cached_property
    def transformer_or_reason(self) -> tuple[Transformer | None, str]:
        """(the model as data for the engine, "") or (None, why there is none): then autograd does the engine's work."""
        if self.dtype not in ("float32", "float64"):
            return None, f"it computes in {self.dtype}"
        try:
            found = self.views.transformer()
        except InputError:
            return None, f"its architecture {self.module.config.model_type!r} is not known to the engine"
        except NotPlainLayer as part:
            return None, f"it has a {part} where a plain layer is expected"
        return found, "" if found else f"nobody has written {self.module.config.model_type!r} down for the engine"

    @cached_property
    def weights_digest(self) -> str:
        """sha256 (hex) of the weights as loaded, an adapter's included, and of the configuration they compute under.

        Over names, dtypes, shapes and bytes; never over a path. A merged and a kept adapter differ. The configuration
        belongs in it because equal weights under another rotary base or norm epsilon give other numbers.
        """
        if self.known_digest is not None:
            return self.known_digest
        tensors = sorted(self.module.state_dict().items())
        with ThreadPoolExecutor() as pool:  # hashing releases the interpreter lock
            digests = list(pool.map(lambda item: tensor_digest(item[1]), tensors))
        config = {k: v for k, v in self.module.config.to_dict().items() if k not in NOT_COMPUTED}
        named = [[name, digest] for (name, _), digest in zip(tensors, digests, strict=True)]
        # The factor of a kept adapter is in no tensor and in no configuration of the model's.
        scaling = [[name, part.scaling] for name, part in self.module.named_modules() if hasattr(part, "lora_A")]
        content = json.dumps([named, config, scaling, *_settings(self.module)], sort_keys=True, default=str)
        return hashlib.sha256(content.encode()).hexdigest()

    @cached_property
    def tokenizer_digest(self) -> str:
        """sha256 (hex) of all that decides token ids; not of the chat template."""
        with as_input_error(f"tokenizer of {self.name}"):
            return tokenizers.digest(self.tokenizer)

    @property
    def context_length(self) -> int:
        """Most tokens that the model was made for."""
        return int(getattr(self.module.config, "max_position_embeddings", None) or self.tokenizer.model_max_length)

    @property
    def input_device(self) -> torch.device:
        """Where token ids must be: the input embeddings' device."""
        return next(self.module.get_input_embeddings().parameters()).device

    @property
    def chat_template(self) -> str | None:
        """The tokenizer's chat template, the default one where it has several; InputError where it is no text."""
        return chat_template(self.tokenizer, self.name)


def _settings(module: PreTrainedModel) -> list[dict[str, Any]]:
    """The settings of each kept adapter that is no LoRA, as far as what it computes depends on them.

    Two values of a setting (such as alpha) give two functions of equal weights, so the digest must hold it. A LoRA
    needs none: its factors (`scaling`) are in the digest already.
    """
    found = []
    for settings in getattr(module, "peft_config", {}).values():
        if not any(hasattr(part, "lora_A") for part in module.modules()):
            fields = {name: value for name, value in settings.to_dict().items() if name not in NOT_THE_FUNCTION}
            found.append({name: sorted(v, key=str) if isinstance(v, set) else v for name, v in fields.items()})
    return found


def tensor_digest(tensor: Tensor) -> str:
    """sha256 (hex) of a tensor's dtype, shape and bytes."""
    content = tensor.detach().cpu().contiguous()
    made = hashlib.sha256(f"{content.dtype} {tuple(content.shape)} ".encode())
    made.update(content.flatten().view(torch.uint8).numpy().data)
    return made.hexdigest()
