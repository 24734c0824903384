"""Saves and restores what shiftbench changes in a module that the caller loaded: modes, attention and buffers."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

COPIED = 2**20  # bytes; a larger buffer is a mask or a table that no forward pass changes, so it is not copied


class ModuleState:
    """The state of a module at the time of construction; `restore` sets the module back to it.

    It holds, for every submodule: the training mode, which parameters require a gradient, the attention implementation
    of its configuration, its non-persistent buffers, and its attributes that are tensors or numbers. Forward passes of
    some architectures change these: dynamic RoPE and LongRoPE change their frequencies, RecurrentGemma its recurrent
    states, and RWKV even its weights (by exact powers of 2).
    """

    def __init__(self, module: PreTrainedModel) -> None:
        parts = list(module.modules())
        self._training = [(part, part.training) for part in parts]
        self._requires_grad = [(parameter, parameter.requires_grad) for parameter in module.parameters()]
        configs = {id(config): config for part in parts if isinstance(part, PreTrainedModel) for config in _all(part)}
        self._attention = [(config, config._attn_implementation) for config in configs.values()]
        self._buffers = [
            (part, name, part._buffers[name], _copy(part._buffers[name]))
            for part, name in _non_persistent_buffers(parts)
        ]
        self._values = [(part, {n: v for n, v in part.__dict__.items() if _is_value(n, v)}) for part in parts]
        self._rescaled = [(part, part.layers_are_rescaled) for part in parts if hasattr(part, "_rescale_layers")]

    def restore(self) -> None:
        """Restore the saved state, and remove attributes that a forward pass added."""
        rescaled: Any
        for rescaled, before in self._rescaled:  # RWKV rescales its weights when the training mode changed
            rescaled.training = not before
            rescaled._rescale_layers()
        for part, training in self._training:
            part.training = training
        for parameter, requires_grad in self._requires_grad:
            parameter.requires_grad_(requires_grad)
        for config, attention in self._attention:
            # The public setter would also set it in the configurations inside this one.
            config._attn_implementation_internal = attention
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
    """(submodule, name of the buffer) of each buffer that is not in a state dict."""
    return [(part, name) for part in parts for name in part._non_persistent_buffers_set if name in part._buffers]


def _copy(buffer: Tensor | None) -> Tensor | None:
    """A copy of a buffer of at most COPIED bytes; None for a larger one."""
    return buffer.clone() if buffer is not None and buffer.numel() * buffer.element_size() <= COPIED else None


def _is_value(name: str, value: object) -> bool:
    """Whether an attribute is a tensor, a number or None. The training mode is saved separately."""
    return name != "training" and (value is None or isinstance(value, (Tensor, int, float)))
