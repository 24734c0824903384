"""Saves and restores what shiftbench changes in a module that the caller loaded, such as its training mode."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

# Most bytes of a buffer whose content is saved. A larger buffer is taken for a mask or a table that no forward pass
# changes in place.
COPIED = 2**20


class ModuleState:
    """The state of a module at the time of construction; `restore` sets the module back to it.

    It holds, for every submodule: the training mode, which parameters require a gradient, the attention implementation
    of its configuration, its non-persistent buffers, and its attributes that are tensors, numbers or None. Of a buffer
    it holds a copy if it has at most COPIED bytes, and else only which tensor it is; of an attribute that is a tensor
    only which tensor it is. Forward passes of some architectures change buffers and attributes: dynamic RoPE and
    LongRoPE change their frequencies, and RecurrentGemma its recurrent states. RWKV even changes its weights, by exact
    powers of 2; for RWKV the object holds whether the weights were rescaled.
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
        """Restore the saved state, and remove attributes that were added since and are tensors, numbers or None.

        Of the tensors, only the buffers of which there is a copy get their content back.
        """
        rescaled: Any
        # RWKV divides some weights by powers of 2 for eval mode and multiplies them again for training mode. So the
        # mode is set to the one that belongs to the saved scale, whatever the saved mode is, which is restored below.
        for rescaled, before in self._rescaled:
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
    """A model's configuration and the configurations inside it, at every depth."""
    found = [part.config]
    for config in found:
        found += [inner for key in config.sub_configs if (inner := getattr(config, key, None)) is not None]
    return found


def _non_persistent_buffers(parts: list[nn.Module]) -> list[tuple[nn.Module, str]]:
    """(submodule, name of the buffer) of each buffer that is not in a state dict."""
    return [(part, name) for part in parts for name in part._non_persistent_buffers_set if name in part._buffers]


def _copy(buffer: Tensor | None) -> Tensor | None:
    """A copy of a buffer of at most COPIED bytes; None for a larger buffer and for None."""
    return buffer.clone() if buffer is not None and buffer.numel() * buffer.element_size() <= COPIED else None


def _is_value(name: str, value: object) -> bool:
    """Whether an attribute is a tensor, a number or None, and not the training mode, which is saved separately."""
    return name != "training" and (value is None or isinstance(value, (Tensor, int, float)))
