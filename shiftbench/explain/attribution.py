"""Local explanation: which prompt tokens each response token rests on.

Wu et al. 2023, section 3.1; docs/mathematics.md, 'Attribution of a response to its prompt'.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from shiftbench import ops
from shiftbench.contracts.explainer import Explainer, Inputs
from shiftbench.engine.product import Precision
from shiftbench.errors import InputError
from shiftbench.explain.cost import attribution_flops, layer_parameters
from shiftbench.explain.importance import (
    Definition,
    importance,
    integrated_gradients,
    memory_bytes,
    occlusion,
)
from shiftbench.explain.keys import method_content, text_content
from shiftbench.models import Model, ModelShape, ModelSource
from shiftbench.prompts import EncodedPrompt, token_texts
from shiftbench.store.explanation import Unit
from shiftbench.store.work import Work

MEASURED = 3  # prompts a model on which a precision is compared with float32


@dataclass(frozen=True)
class Agreement:
    """One prompt in another precision against float32.

    error_R: of each response token's importance, the largest difference over the largest importance. equal: share of
    levels that are the same.
    """

    error_R: Tensor
    equal: float


@dataclass(frozen=True)
class Attribution(Explainer):
    """Importance of prompt tokens for response tokens, as levels 0..levels.

    by: one of explain.importance.Definition. steps: points of integrated gradients' path, and of nothing else's.
    memory: MiB that the engine may fill, None: by the device (memory_bytes); changes no result beyond rounding.
    precision: of the derivatives, one of engine.product.Precision; the forward pass stays in the model's own.
    """

    levels: int
    memory: int | None
    precision: str
    by: str = Definition.GRAD_X_INPUT.value
    steps: int = 32
    measured: dict[str, list[Agreement]] = field(default_factory=dict, init=False, compare=False, repr=False)
    method: ClassVar[str] = "attribution"
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if not 1 <= self.levels <= 255:
            raise InputError(f"attribution: levels={self.levels} must lie between 1 and 255")
        if self.memory is not None and self.memory < 1:
            raise InputError(f"attribution: memory={self.memory} (MiB) must be at least 1")
        for option, value, known in (("precision", self.precision, Precision), ("method", self.by, Definition)):
            names = [member.value for member in known]
            if value not in names:
                raise InputError(f"attribution: {option}={value!r} is not known; choose from {', '.join(names)}")
        if self.steps < 1:
            raise InputError(f"attribution: steps={self.steps} must be at least 1")
        if self.by == Definition.OCCLUSION.value and self.precision != Precision.FLOAT32.value:
            raise InputError(
                f"attribution: precision={self.precision} is of derivatives, and method=occlusion takes none; "
                "use precision=float32"
            )

    def check_source(self, source: ModelSource) -> None:
        """Refuse, by InputError, a precision that a model cannot have, before its weights are read."""
        self._refuse(source.name, source.dtype, None if source.device_map else source.torch_device(), "")

    def check_model(self, model: Model) -> None:
        """The same of a loaded model."""
        self._refuse(model.name, model.dtype, model.input_device, model.transformer_or_reason[1])

    def _refuse(self, name: str, dtype: str, device: torch.device | None, by_autograd: str) -> None:
        if self.precision == Precision.FLOAT32.value:
            return
        if dtype != "float32":
            why = f"is for models in float32, and {name} computes in {dtype}"
        elif by_autograd:
            why = f"is for models that the engine knows, and {name} goes by autograd: {by_autograd}"
        elif self.precision == Precision.TF32.value and device is not None and device.type != "cuda":
            why = f"is for GPUs, and {name} is on the {device.type}"
        else:
            return
        raise InputError(f"attribution: precision={self.precision} {why}; use precision=float32")

    def work(self, model: Model, inputs: Inputs) -> list[Work]:
        """A unit a prompt: level_PR (uint8, uncut), probability_R (float32), instruction_P and context_P (bool)."""
        self.check_model(model)
        # Float32 and gradient times input stand in no key: units of them are older than the options.
        narrow = {} if self.precision == Precision.FLOAT32.value else {"precision": self.precision}
        common = method_content(self, model, {"levels": self.levels, **narrow, **self._definition()})
        if narrow:
            self.measured.setdefault(model.name, [])
        return [
            Work(
                unit=prompt.prompt.id,
                content={
                    **common,
                    **text_content(prompt, response),
                    # The masks are stored with the levels, so they belong to what is stored.
                    "instruction": prompt.instruction_P.nonzero()[:, 0].tolist(),
                    "context": prompt.context_P.nonzero()[:, 0].tolist(),
                },
                compute=lambda prompt=prompt, response=response: self._unit(model, prompt, response),  # type: ignore[misc]
            )
            for prompt, response in inputs.prompts
        ]

    def _definition(self) -> dict[str, str | int]:
        """What the key says of the definition, and of the options that matter under it."""
        if self.by == Definition.GRAD_X_INPUT.value:
            return {}
        steps = {"steps": self.steps} if self.by == Definition.INTEGRATED_GRADIENTS.value else {}
        return {"method": self.by, **steps}

    def _importance(
        self, model: Model, prompt: EncodedPrompt, response: tuple[int, ...], precision: Precision
    ) -> tuple[Tensor, Tensor]:
        if self.by == Definition.OCCLUSION.value:
            return occlusion(model, prompt, response, self.memory)
        if self.by == Definition.INTEGRATED_GRADIENTS.value:
            return integrated_gradients(model, prompt, response, self.memory, self.steps, precision)
        return importance(model, prompt, response, self.memory, precision)

    def _unit(self, model: Model, prompt: EncodedPrompt, response: tuple[int, ...]) -> Unit:
        importance_PR, probability_R = self._importance(model, prompt, response, Precision(self.precision))
        level_PR = ops.importance_levels(importance_PR, self.levels)
        measured = self.measured.get(model.name)  # None in float32
        if measured is not None and len(measured) < MEASURED and response:
            wanted_PR, _ = self._importance(model, prompt, response, Precision.FLOAT32)
            measured.append(agreement(importance_PR, wanted_PR, self.levels))
        arrays = {
            "level_PR": level_PR,
            "probability_R": probability_R.float(),
            "instruction_P": prompt.instruction_P,
            "context_P": prompt.context_P,
        }
        words = {
            "prompt_tokens": list(prompt.tokens),
            "response_tokens": list(token_texts(model.tokenizer, response)),
        }
        return Unit(arrays, words)

    def flops(self, shape: ModelShape, prompt_tokens: Sequence[int], response_tokens: int) -> float:
        """Of a forward pass and of derivatives on P R rows, at 2 operations a parameter and row."""
        return attribution_flops(shape, prompt_tokens, response_tokens)

    def engine_bytes(self, device: torch.device) -> int:
        """What `memory` says, or the default of the device."""
        return memory_bytes(self.memory, device)

    def extra_weight_bytes(self, shape: ModelShape) -> float:
        """The layers' weights once more where derivatives are multiplied in bfloat16."""
        return 2.0 * layer_parameters(shape) if self.precision == Precision.BFLOAT16.value else 0.0

    def notes(self) -> list[str]:
        """A remark a model on how well what was made in this run agrees with float32; none where that was asked for."""
        return [_remark(name, self.precision, measured) for name, measured in self.measured.items()]


def attribution(method: str, steps: int, levels: int, memory: int | None, precision: str) -> Attribution:
    """The attribution that conf/explain/attribution.yaml describes; its `method` is Attribution.by."""
    return Attribution(levels, memory, precision, method, steps)


def agreement(found_PR: Tensor, wanted_PR: Tensor, levels: int) -> Agreement:
    """Of importance in some precision with that in float32."""
    smallest = torch.finfo(wanted_PR.dtype).tiny  # a column that is 0 in both agrees
    error_R = (found_PR - wanted_PR).abs().amax(0) / wanted_PR.abs().amax(0).clamp_min(smallest)
    found, wanted = (ops.importance_levels(x, levels) for x in (found_PR, wanted_PR))
    return Agreement(error_R, float((found == wanted).double().mean()))


def _remark(name: str, precision: str, measured: Sequence[Agreement]) -> str:
    said = f"{name} was explained with derivatives in {precision}"
    if not measured:
        return f"{said}; all came from the store, so their agreement with float32 was not measured in this run."
    error = torch.cat([one.error_R for one in measured])
    equal = sum(one.equal for one in measured) / len(measured)
    return (
        f"{said}. Beside float32, on {len(measured)} prompts: a response token's importance is off by "
        f"{float(error.median()):.1e} (median) and {float(error.max()):.1e} (worst) of its largest, and {equal:.2%} of "
        "levels are equal."
    )
