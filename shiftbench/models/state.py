"""What using a module changes on it, remembered and put back: modes, attention, and what a forward pass keeps."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

COPIED = 2**20  # bytes: a larger buffer is a mask or a table that no forward pass writes into, and is not copied


class ModuleState:
    """The state of a module when this was made; `restore` restores it.

    Of every submodule: training mode, which parameters learn, the attention implementation of its configuration, its
    non-persistent buffers and its attributes that are tensors or numbers. Some forward passes change those: dynamic
    RoPE and LongRoPE their frequencies, RecurrentGemma its recurrent states, RWKV even its weights (exact powers of 2).
    """

    def __init__(self, module: PreTrainedModel) -> None:
        parts = list(module.modules())
        self._training = [(part, part.training) for part in parts]
        self._learning = [(parameter, parameter.requires_grad) for parameter in module.parameters()]
        configs = {id(config): config for part in parts if isinstance(part, PreTrainedModel) for config in _all(part)}
        self._attention = [(config, config._attn_implementation) for config in configs.values()]
        self._buffers = [
            (part, name, part._buffers[name], _copy(part._buffers[name]))
            for part, name in _non_persistent_buffers(parts)
        ]
        self._values = [(part, {n: v for n, v in part.__dict__.items() if _is_value(n, v)}) for part in parts]
        self._rescaled = [(part, part.layers_are_rescaled) for part in parts if hasattr(part, "_rescale_layers")]

    def restore(self) -> None:
        """Restore everything; what a forward pass added is removed."""
        rescaled: Any
        for rescaled, before in self._rescaled:  # RWKV: its weights follow the mode, at the next forward pass
            rescaled.training = not before
            rescaled._rescale_layers()
        for part, training in self._training:
            part.training = training
        for parameter, learns in self._learning:
            parameter.requires_grad_(learns)
        for config, attention in self._attention:
            config._attn_implementation_internal = attention  # the public setter would set it in all below it too
        for part, values in self._values:
            for name in [name for name, value in part.__dict__.items() if _is_value(name, value)]:
                if name not in values:
                    delattr(part, name)
            part.__dict__.update(values)
        for part, name, buffer, content in self._buffers:
            if buffer is not None and content is not None:
                buffer.copy_(content)
            part._buffers[name] = buffer


def _all(part: PreTrainedModel) -> list[PreTrainedConfig]:
    """A model's configuration and those inside it."""
    found = [part.config]
    for config in found:
        found += [inner for key in config.sub_configs if (inner := getattr(config, key, None)) is not None]
    return found


def _non_persistent_buffers(parts: list[nn.Module]) -> list[tuple[nn.Module, str]]:
    return [(part, name) for part in parts for name in part._non_persistent_buffers_set if name in part._buffers]


def _copy(buffer: Tensor | None) -> Tensor | None:
    return buffer.clone() if buffer is not None and buffer.numel() * buffer.element_size() <= COPIED else None


def _is_value(name: str, value: object) -> bool:
    return name != "training" and (value is None or isinstance(value, (Tensor, int, float)))
