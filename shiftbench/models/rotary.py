"""Rotary embeddings whose angles follow the text's length: transformers keeps what the longest text changed in them."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import PreTrainedConfig

ORIGINAL = "original_inv_freq"  # a rotary module's frequencies as it was made with them; a layer type stands in front


def reset_angles(module: nn.Module) -> None:
    """Put the angles of every rotary embedding back to what the model was made with, whatever was computed before.

    For `dynamic`, transformers keeps the frequencies of the longest text beyond the model's own length, and uses them
    for shorter ones; for `longrope` it keeps those of the last text. Without this, a result depends on the calls
    before it. Rotary embeddings of other types keep nothing and are left alone.
    """
    for part in module.modules():
        if "rope_type" not in part.__dict__:  # looked up for every text, so cheaply
            continue
        for name in [name for name in _attribute_names(part) if name.endswith(ORIGINAL)]:
            layer_type = name.removesuffix(ORIGINAL)
            if _follows_length(_rope_type(part, layer_type)):
                own = getattr(part, f"{layer_type}inv_freq")
                as_made = getattr(part, name).to(own.device).clone()  # a copy: longrope writes into the buffer
                part.register_buffer(f"{layer_type}inv_freq", as_made, persistent=False)
                for cached in {f"{layer_type}max_seq_len_cached", "max_seq_len_cached"} & set(_attribute_names(part)):
                    setattr(part, cached, part.original_max_seq_len)


def follows_length(config: PreTrainedConfig) -> str | None:
    """The RoPE type, "dynamic" or "longrope", where the model's angles follow the text's length; else None."""
    known = getattr(config, "rope_parameters", None) or {}
    nested = [value for value in known.values() if isinstance(value, dict)]
    types = (str(rope.get("rope_type")) for rope in [known, *nested])
    return next((kind for kind in types if _follows_length(kind)), None)


def same_angles(config: PreTrainedConfig, tokens: int, computed: int) -> bool:
    """Whether the model's rotary embedding gives a text of `tokens` tokens the angles of a text of `computed` tokens.

    The engine computes on another number of positions than the text has: it leaves the last token out and pads the
    rest to a round number of rows. Where angles follow the length (dynamic RoPE, LongRoPE), the two numbers may have
    different angles, and the engine must not be used.
    """
    kind = follows_length(config)
    if kind is None:
        return True
    if kind == "longrope":
        short = config.rope_parameters.get("original_max_position_embeddings", config.max_position_embeddings)
        return bool((tokens > short) == (computed > short))
    return bool(max(tokens, computed) <= config.max_position_embeddings)


def _attribute_names(part: nn.Module) -> list[str]:
    return [*part._buffers, *part.__dict__]


def _rope_type(part: nn.Module, layer_type: str) -> str:
    kind: Any = getattr(part, "rope_type", "")
    return str(kind.get(layer_type.rstrip("_"), "") if isinstance(kind, dict) else kind)


def _follows_length(kind: str) -> bool:
    return "dynamic" in kind or kind == "longrope"
