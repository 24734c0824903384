"""Rotary embeddings whose angles depend on the text's length (dynamic RoPE, LongRoPE).

transformers keeps the angles of an earlier text in the module, so a result could depend on the calls before it.
"""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import PreTrainedConfig

# The end of the name of the buffer that holds the frequencies of a newly loaded model. Where each layer type has
# frequencies of its own, the name begins with the layer type, as in "sliding_attention_original_inv_freq".
ORIGINAL = "original_inv_freq"


def reset_angles(module: nn.Module) -> None:
    """Restore the angles of every rotary embedding of type `dynamic` or `longrope` to those of the newly loaded model.

    For type `dynamic`, transformers keeps the frequencies of the longest text beyond the model's trained length, and
    uses them for later texts that are shorter but not below the trained length. For `longrope` it keeps the frequencies
    of the last text. Rotary embeddings of other types keep nothing of a text and are left alone.
    """
    for part in module.modules():
        if "rope_type" not in part.__dict__:  # a cheap test, because this function runs for each text
            continue
        for name in [name for name in _attribute_names(part) if name.endswith(ORIGINAL)]:
            layer_type = name.removesuffix(ORIGINAL)
            if _follows_length(_rope_type(part, layer_type)):
                own = getattr(part, f"{layer_type}inv_freq")
                original = getattr(part, name).to(own.device).clone()  # a copy, because longrope writes into the buffer
                part.register_buffer(f"{layer_type}inv_freq", original, persistent=False)
                for cached in {f"{layer_type}max_seq_len_cached", "max_seq_len_cached"} & set(_attribute_names(part)):
                    setattr(part, cached, part.original_max_seq_len)


def follows_length(config: PreTrainedConfig) -> str | None:
    """The RoPE type, such as "dynamic" or "longrope", if the model's angles depend on the text's length; else None.

    Where layer types have RoPE types of their own, it is the first one whose angles depend on the length.
    """
    known = getattr(config, "rope_parameters", None) or {}
    nested = [value for value in known.values() if isinstance(value, dict)]
    types = (str(rope.get("rope_type")) for rope in [known, *nested])
    return next((kind for kind in types if _follows_length(kind)), None)


def same_angles(config: PreTrainedConfig, tokens: int, computed: int) -> bool:
    """Whether the model's rotary embedding gives a text of `tokens` tokens the angles of a text of `computed` tokens.

    The engine computes on another number of positions than the text has: it leaves out the last token and pads the
    rest to a multiple of a fixed number of rows. Where angles depend on the length (dynamic RoPE, LongRoPE), the two
    lengths may differ in their angles. The engine must not be used then. For dynamic RoPE the answer is False wherever
    one of the two lengths is beyond the model's max_position_embeddings; for LongRoPE it is False where one of them is
    beyond original_max_position_embeddings and the other is not.
    """
    kind = follows_length(config)
    if kind is None:
        return True
    if kind == "longrope":
        short = config.rope_parameters.get("original_max_position_embeddings", config.max_position_embeddings)
        return bool((tokens > short) == (computed > short))
    return bool(max(tokens, computed) <= config.max_position_embeddings)


def _attribute_names(part: nn.Module) -> list[str]:
    """Names of a module's buffers and plain attributes."""
    return [*part._buffers, *part.__dict__]


def _rope_type(part: nn.Module, layer_type: str) -> str:
    """The RoPE type of a rotary module; where its layer types have RoPE types of their own, that of one layer type.

    layer_type: the layer type with an underscore behind it, or "" where the module has one RoPE type for all.
    """
    kind: Any = getattr(part, "rope_type", "")
    return str(kind.get(layer_type.rstrip("_"), "") if isinstance(kind, dict) else kind)


def _follows_length(kind: str) -> bool:
    """Whether the angles of this RoPE type depend on the text's length."""
    return "dynamic" in kind or kind == "longrope"
