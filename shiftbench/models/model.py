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

# Fields of a configuration that no forward pass depends on; the weights' digest leaves them out.
NOT_COMPUTED = {
    "_name_or_path", "architectures", "bos_token_id", "dtype", "eos_token_id", "id2label", "label2id",
    "pad_token_id", "torch_dtype", "transformers_version", "use_cache",
}  # fmt: skip

# Fields of an adapter's configuration that do not change what it computes; the weights' digest leaves them out too.
NOT_THE_FUNCTION = {
    "auto_mapping", "base_model_name_or_path", "inference_mode", "peft_version", "revision", "task_type",
}  # fmt: skip


@dataclass(frozen=True)
class Model:
    """A loaded model in eval mode with frozen parameters and eager attention.

    name: for messages and reports. source: what the model was loaded from; None where the caller passed a module.
    dtype: of weights and computation, such as "float32". known_digest: the value of weights_digest where it is known
    without reading the weights, as for a null model; else None. notes: remarks for the report on how the model was
    loaded.
    known_tokenizer_digest, known_views: the values of tokenizer_digest and views where they are known; else None.
    """

    name: str
    module: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    source: ModelSource | None
    dtype: str
    known_digest: str | None = None
    notes: tuple[str, ...] = ()
    known_tokenizer_digest: str | None = None
    known_views: WeightViews | None = None

    @cached_property
    def views(self) -> WeightViews:
        """The weight matrices that explainers need. Raises InputError where the architecture is not known."""
        return self.known_views or views_of(self.module)

    @cached_property
    def transformer_or_reason(self) -> tuple[Transformer | None, str]:
        """(the model as data for the engine, ""), or (None, a clause that says why the engine cannot be used).

        Where the engine cannot be used, autograd computes the derivatives.
        """
        if self.dtype not in ("float32", "float64"):
            return None, f"it computes in {self.dtype}"
        try:
            found = self.views.transformer()
        except InputError:
            return None, f"its architecture {self.module.config.model_type!r} is not known to the engine"
        except NotPlainLayer as part:
            return None, f"it has a {part} where a plain layer is expected"
        return (
            found,
            "" if found else f"its architecture {self.module.config.model_type!r} is not written down for the engine",
        )

    @cached_property
    def weights_digest(self) -> str:
        """sha256 (hex) of the weights as loaded, an adapter's included, and of the configuration.

        Where known_digest is given, it is returned instead. The digest covers the names, dtypes, shapes and bytes of
        the tensors. It does not cover the path that they were loaded from. An adapter that is merged and the same
        adapter kept beside the weights give different digests. The configuration is covered, without the fields in
        NOT_COMPUTED, because equal weights with another rotary base or norm epsilon compute something else.
        """
        if self.known_digest is not None:
            return self.known_digest
        tensors = sorted(self.module.state_dict().items())
        with ThreadPoolExecutor() as pool:  # hashing releases the interpreter lock, so threads hash in parallel
            digests = list(pool.map(lambda item: tensor_digest(item[1]), tensors))
        config = {k: v for k, v in self.module.config.to_dict().items() if k not in NOT_COMPUTED}
        named = [[name, digest] for (name, _), digest in zip(tensors, digests, strict=True)]
        # The scaling factor of a kept LoRA is in no tensor and not in the model's configuration.
        scaling = [[name, part.scaling] for name, part in self.module.named_modules() if hasattr(part, "lora_A")]
        content = json.dumps([named, config, scaling, *_adapter_settings(self.module)], sort_keys=True, default=str)
        return hashlib.sha256(content.encode()).hexdigest()

    @cached_property
    def tokenizer_digest(self) -> str:
        """sha256 (hex) of everything that decides token ids. The chat template is not covered."""
        if self.known_tokenizer_digest is not None:
            return self.known_tokenizer_digest
        with as_input_error(f"tokenizer of {self.name}"):
            return tokenizers.digest(self.tokenizer)

    @property
    def context_length(self) -> int:
        """The largest number of tokens in a text that the model is made for.

        It is max_position_embeddings of the configuration, or the tokenizer's model_max_length where that is missing.
        """
        return int(getattr(self.module.config, "max_position_embeddings", None) or self.tokenizer.model_max_length)

    @property
    def input_device(self) -> torch.device:
        """The device of the input embeddings, where token ids must be."""
        weight: Tensor = next(self.module.get_input_embeddings().parameters())
        return weight.device

    @property
    def chat_template(self) -> str | None:
        """The tokenizer's chat template; None where it has none.

        Where the tokenizer has several, it is the one named "default", and None where none has that name. Raises
        InputError where the template is not a string.
        """
        return chat_template(self.tokenizer, self.name)


def _adapter_settings(module: PreTrainedModel) -> list[dict[str, Any]]:
    """The settings of each adapter that is kept in the module's layers, without the fields in NOT_THE_FUNCTION.

    Equal weights with two values of a setting (such as alpha) compute two different functions, so the digest must cover
    the settings. The list is empty where the module has a LoRA layer, because the digest covers the scaling factors of
    a LoRA already. Sets become sorted lists, so that the digest does not depend on their order.
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
    digest = hashlib.sha256(f"{content.dtype} {tuple(content.shape)} ".encode())
    digest.update(content.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
