"""Local explanation: how important each prompt token is for each response token.

Wu et al. 2023, section 3.1; docs/mathematics.md, 'Attribution of a response to its prompt'.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, TypeVar

import torch
from torch import Tensor

from shiftbench import ops
from shiftbench.contracts.explainer import Explainer, Inputs
from shiftbench.engine.product import Precision
from shiftbench.errors import InputError
from shiftbench.explain.cost import attribution_flops, layer_parameters, occlusion_flops
from shiftbench.explain.importance import (
    ZERO,
    Completeness,
    Definition,
    Options,
    check_path,
    importance_by,
    memory_bytes,
)
from shiftbench.explain.keys import method_content, text_content
from shiftbench.explain.masks import Masking, mask_named
from shiftbench.explain.methods import AttributionMethod, method_named
from shiftbench.models import Model, ModelShape, ModelSource
from shiftbench.prompts import EncodedPrompt, token_texts
from shiftbench.readers.numbers import as_typed, check_number, check_whole
from shiftbench.store.explanation import Unit
from shiftbench.store.work import Work

AUTO = "auto"  # the method that a check of the attributions chooses (pipeline/choosing.py)
COMPARED_PROMPTS = 3  # the most prompts of each model on which another precision is compared with float32


@dataclass(frozen=True)
class Agreement:
    """How well the importance of one prompt in another precision agrees with that in float32.

    error_R: for each response token, the largest absolute difference of its importances over the largest absolute
    importance in float32. equal: the share of the prompt's levels [P, R] that are the same in both.
    """

    error_R: Tensor
    equal: float


@dataclass(frozen=True)
class Attribution(Explainer):
    """Importance of prompt tokens for response tokens, as levels 0..levels.

    memory: MiB that the engine may fill; None for the device's default (memory_bytes). It changes results by rounding
    only. precision: of the derivatives, a value of engine.product.Precision; the forward pass keeps the model's dtype.
    definition: a value of explain.importance.Definition, or AUTO until a method is chosen. leaves_out: ids of prompts
    that are not explained, because the method was chosen on them. was_open: whether the method was chosen by the check.
    steps, masking, tolerance, noise: those of explain.importance.Options, which says what definitions use them.
    agreements: by model name, one Agreement for each prompt that was computed in float32 too, at most COMPARED_PROMPTS
    of each model; empty where precision is float32. completeness: by model name, one Completeness for each prompt with
    a response that was computed by integrated gradients; empty by another definition. unanswered: the names of the
    models of which a prompt with an empty response was computed.
    Raises InputError where an option is not known or out of range, for occlusion in a precision other than float32, and
    for integrated gradients with a mask that deletes tokens.
    """

    levels: int
    memory: int | None
    precision: str
    definition: str = Definition.GRAD_X_INPUT.value
    steps: int = 32
    masking: Masking = ZERO
    tolerance: float | None = None
    noise: float = 0.1
    leaves_out: frozenset[str] = frozenset()
    was_open: bool = False
    agreements: dict[str, list[Agreement]] = field(default_factory=dict, init=False, compare=False, repr=False)
    completeness: dict[str, list[Completeness]] = field(default_factory=dict, init=False, compare=False, repr=False)
    unanswered: set[str] = field(default_factory=set, init=False, compare=False, repr=False)
    method: ClassVar[str] = "attribution"
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_whole("attribution: levels", self.levels, 1, 255)
        check_whole("attribution: memory", self.memory, 1, null="the device's default (MiB)")
        precisions = [precision.value for precision in Precision]
        definitions = [AUTO, *(definition.value for definition in Definition)]
        for option, value, names in (
            ("precision", self.precision, precisions),
            ("method", self.definition, definitions),
        ):
            if value not in names:
                raise InputError(f"attribution: {option}={value!r} is not known; choose from {', '.join(names)}")
        check_whole("attribution: steps", self.steps, 1)
        _check_above_zero("attribution: noise", self.noise)
        _check_above_zero("attribution: tolerance", self.tolerance, null="a fixed number of points")
        if self.definition == Definition.INTEGRATED_GRADIENTS.value:
            check_path(self.masking)
        if self.definition == Definition.OCCLUSION.value and self.precision != Precision.FLOAT32.value:
            raise InputError(
                f"attribution: precision={self.precision} is that of derivatives, and method=occlusion computes none; "
                "use precision=float32"
            )

    @property
    def is_open(self) -> bool:
        """Whether the method is still to be chosen."""
        return self.definition == AUTO

    @property
    def method_name(self) -> str:
        """The method's name, with its mask where it uses one, as explain.methods writes it; AUTO while it is open."""
        return AUTO if self.is_open else self._named.name

    @property
    def _named(self) -> AttributionMethod:
        """The method with its options; there is none while it is open."""
        return AttributionMethod(Definition(self.definition), self._options)

    def chosen(self, method: AttributionMethod, leaves_out: frozenset[str]) -> Attribution:
        """This explainer with the method that was chosen. leaves_out: ids of the prompts on which it was chosen."""
        options = method.options
        precision = self.precision if method.definition is not Definition.OCCLUSION else Precision.FLOAT32.value
        return replace(
            self,
            definition=method.definition.value,
            steps=options.steps,
            masking=options.masking,
            tolerance=options.tolerance,
            noise=options.noise,
            precision=precision,
            leaves_out=leaves_out,
            was_open=True,
        )

    def check_source(self, source: ModelSource) -> None:
        """Raise InputError where the model cannot be explained in this precision, as far as its dtype and device tell.

        The device is not known yet where the source has a device map.
        """
        self._check_precision(source.name, source.dtype, None if source.device_map else source.torch_device(), "")

    def check_model(self, model: Model) -> None:
        """Raise InputError where the loaded model cannot be explained in this precision or with this mask."""
        self._check_precision(model.name, model.dtype, model.input_device, model.transformer_or_reason[1])
        if not self.is_open and self._named.uses_mask:
            self.masking.check(model)

    def _check_precision(self, name: str, dtype: str, device: torch.device | None, by_autograd: str) -> None:
        """Raise InputError unless precision is float32, or the model can be explained in it.

        Other precisions need a model in float32 that the engine can compute; tf32 also needs a GPU. name, dtype: of the
        model. device: of its input; None where it is not known yet. by_autograd: why the engine cannot compute the
        model; "" where it can, or where that is not known yet.
        """
        if self.precision == Precision.FLOAT32.value:
            return
        if dtype != "float32":
            why = f"is for models in float32, and {name} computes in {dtype}"
        elif by_autograd:
            why = f"is for models that the engine knows, and autograd computes {name}: {by_autograd}"
        elif self.precision == Precision.TF32.value and device is not None and device.type != "cuda":
            why = f"is for GPUs, and {name} is on the {device.type}"
        else:
            return
        raise InputError(f"attribution: precision={self.precision} {why}; use precision=float32")

    def work(self, model: Model, inputs: Inputs) -> list[Work]:
        """A unit for each prompt: level_PR (uint8), probability_R (float32), instruction_P and context_P (bool).

        level_PR: the levels of importance; a finding applies its cutoff to them, not this method. probability_R: the
        probability of each response token. instruction_P, context_P: which prompt tokens belong to the instruction and
        to the context. By integrated gradients a unit also has path_error_1 and path_points_1 (float32), the numbers of
        its Completeness; units that were stored before there was a Completeness do not have them. Words `prompt_tokens`
        and `response_tokens` are the tokens' texts. Raises InputError where `check_model` does.
        """
        if self.is_open:
            raise ValueError("the attribution method is still to be chosen (pipeline/choosing.py)")
        self.check_model(model)
        if self.definition == Definition.OCCLUSION.value:
            self.masking.check_prompts([prompt for prompt, _ in inputs.prompts])
        # The default precision and definition are not in the key: their units were stored before these options existed.
        precision_content = {} if self.precision == Precision.FLOAT32.value else {"precision": self.precision}
        common = method_content(self, model, {"levels": self.levels, **precision_content, **self._definition_content()})
        if precision_content:
            self.agreements.setdefault(model.name, [])
        if self.definition == Definition.INTEGRATED_GRADIENTS.value:
            self.completeness.setdefault(model.name, [])
        return [
            Work(
                unit=prompt.prompt.id,
                content={
                    **common,
                    **text_content(prompt, response),
                    # The unit holds instruction_P and context_P too, so its key depends on them.
                    "instruction": prompt.instruction_P.nonzero()[:, 0].tolist(),
                    "context": prompt.context_P.nonzero()[:, 0].tolist(),
                },
                compute=lambda prompt=prompt, response=response: self._unit(model, prompt, response),  # type: ignore[misc]
            )
            for prompt, response in inputs.prompts
            if prompt.prompt.id not in self.leaves_out
        ]

    @property
    def _options(self) -> Options:
        return Options(self.steps, self.masking, self.tolerance, self.noise)

    def _definition_content(self) -> Mapping[str, str | int | float]:
        """The part of the content that names the definition and the options it depends on; empty for grad_x_input."""
        if self.definition == Definition.GRAD_X_INPUT.value:
            return {}
        return {"method": self.definition, **self._options.content(Definition(self.definition))}

    def _importance(
        self, model: Model, prompt: EncodedPrompt, response: tuple[int, ...], precision: Precision
    ) -> tuple[Tensor, Tensor, Completeness | None]:
        definition = Definition(self.definition)
        return importance_by(definition, self._options, model, prompt, response, self.memory, precision)

    def _unit(self, model: Model, prompt: EncodedPrompt, response: tuple[int, ...]) -> Unit:
        importance_PR, probability_R, completeness = self._importance(
            model, prompt, response, Precision(self.precision)
        )
        level_PR = ops.importance_levels(importance_PR, self.levels)
        if not response:
            self.unanswered.add(model.name)
        agreements = self.agreements.get(model.name)  # None where precision is float32
        if agreements is not None and len(agreements) < COMPARED_PROMPTS and response:
            float32_PR, _, _ = self._importance(model, prompt, response, Precision.FLOAT32)
            agreements.append(agreement(importance_PR, float32_PR, self.levels))
        if completeness is not None and response:
            self.completeness.setdefault(model.name, []).append(completeness)
        arrays = {
            "level_PR": level_PR,
            "probability_R": probability_R.float(),
            "instruction_P": prompt.instruction_P,
            "context_P": prompt.context_P,
            **_path_arrays(completeness),
        }
        words = {
            "prompt_tokens": list(prompt.tokens),
            "response_tokens": list(token_texts(model.tokenizer, response)),
        }
        return Unit(arrays, words)

    def flops(self, shape: ModelShape, prompt_tokens: Sequence[int], response_tokens: int) -> float:
        """About the operations of the definition, summed over all prompts.

        Gradient times input takes a forward pass and derivatives on P R rows, and definitions by several gradients take
        as much for each of them; with a tolerance they are counted as if none were small enough before `steps` points.
        Occlusion takes a masked forward pass for each prompt token. A method that is still to be chosen counts as
        occlusion, the most expensive of those that the check tries by default.
        """
        if self.is_open or self.definition == Definition.OCCLUSION.value:
            return occlusion_flops(shape, prompt_tokens, response_tokens)
        points = 1 if self.is_open else self._options.points(Definition(self.definition))
        return points * attribution_flops(shape, prompt_tokens, response_tokens)

    def engine_bytes(self, device: torch.device) -> int:
        """The bytes that the engine may fill: what `memory` says, or the device's default where it is None."""
        return memory_bytes(self.memory, device)

    def extra_weight_bytes(self, shape: ModelShape) -> float:
        """About the bytes of the second copy of the layers' weights that precision=bfloat16 needs; else 0."""
        return 2.0 * layer_parameters(shape) if self.precision == Precision.BFLOAT16.value else 0.0

    def notes(self) -> list[str]:
        """Remarks on each model: on the prompts in `agreements`, and on those in `completeness`.

        A remark of the first kind says how well importances agree with those in float32; there is none where precision
        is float32. One of the second kind says how well integrated gradients sum to what the prompt adds; there is none
        by another definition. Where no prompt of the model with a response was computed in this run, a remark says that
        this was not measured, and why: all came from the store, or what was computed has empty responses.
        """
        return [
            _remark(name, self.precision, agreements, name in self.unanswered)
            for name, agreements in self.agreements.items()
        ] + [
            _path_remark(name, found, self.tolerance, name in self.unanswered)
            for name, found in self.completeness.items()
        ]


Kind = TypeVar("Kind", bound=Attribution)


def attribution(
    method: str,
    steps: int,
    tolerance: float | None,
    mask: str,
    draws: int,
    noise: float,
    seed: int,
    levels: int,
    memory: int | None,
    precision: str,
    explainer: type[Kind] = Attribution,  # type: ignore[assignment]
) -> Kind:
    """The explainer that conf/explain/attribution.yaml describes. `method` becomes its field `definition`.

    method: may name the mask too, as 'occlusion:mean'; `mask` then has no effect. explainer: Attribution, or a class
    derived from it. Raises InputError where a value is not known or out of range.
    """
    masking = Masking(mask_named("attribution: mask", mask), draws, seed)
    if ":" in str(method):
        named = method_named("attribution: method", method, Options(masking=masking))
        method, masking = named.definition.value, named.options.masking
    return explainer(levels, memory, precision, method, steps, masking, tolerance, noise)


def agreement(found_PR: Tensor, wanted_PR: Tensor, levels: int) -> Agreement:
    """How well found_PR, a prompt's importance in some precision, agrees with wanted_PR, its importance in float32.

    levels: the largest level, with which both are turned into levels.
    """
    smallest = torch.finfo(wanted_PR.dtype).tiny  # so that a response token whose importance is 0 in both has error 0
    error_R = (found_PR - wanted_PR).abs().amax(0) / wanted_PR.abs().amax(0).clamp_min(smallest)
    found, wanted = (ops.importance_levels(x, levels) for x in (found_PR, wanted_PR))
    return Agreement(error_R, float((found == wanted).double().mean()))


def _check_above_zero(option: str, value: object, null: str | None = None) -> None:
    """Raise InputError unless the value of an option is a finite number above 0, or null where `null` says its meaning.

    option: the option's full name.
    """
    check_number(option, value, null)
    if isinstance(value, int | float) and value <= 0:
        raise InputError(f"{option}={as_typed(value)} must be above 0" + (f", or null for {null}" if null else ""))


def _path_arrays(completeness: Completeness | None) -> dict[str, Tensor]:
    """The arrays path_error_1 and path_points_1 (float32) of a unit; none where completeness is None."""
    if completeness is None:
        return {}
    return {
        "path_error_1": torch.tensor([completeness.error], dtype=torch.float32),
        "path_points_1": torch.tensor([completeness.points], dtype=torch.float32),
    }


def _why_not_measured(unanswered: bool) -> str:
    """unanswered: whether a prompt of the model with an empty response was computed."""
    return "only prompts with empty responses were computed" if unanswered else "all came from the store"


def _path_remark(name: str, found: Sequence[Completeness], tolerance: float | None, unanswered: bool) -> str:
    """unanswered: whether a prompt of the model with an empty response was computed."""
    explained = f"{name} was explained by integrated gradients"
    if not found:
        why = _why_not_measured(unanswered)
        return f"{explained}; {why}, so how well they sum to what the prompt adds was not measured in this run."
    error = torch.tensor([each.error for each in found], dtype=torch.float64)
    most = max(each.points for each in found)
    remark = (
        f"{explained}, with at most {most} points on a path. On {len(found)} prompts their sum is off by "
        f"{float(error.median()):.1e} (median) and {float(error.max()):.1e} (worst) of what the prompt adds to the "
        "response's probabilities."
    )
    if tolerance is None:
        return remark
    return f"{remark} On {int((error > tolerance).sum())} of them the error is above the tolerance of {tolerance:g}."


def _remark(name: str, precision: str, agreements: Sequence[Agreement], unanswered: bool) -> str:
    """unanswered: whether a prompt of the model with an empty response was computed."""
    explained = f"{name} was explained with derivatives in {precision}"
    if not agreements:
        why = _why_not_measured(unanswered)
        return f"{explained}; {why}, so their agreement with float32 was not measured in this run."
    error = torch.cat([each.error_R for each in agreements])
    equal = sum(each.equal for each in agreements) / len(agreements)
    return (
        f"{explained}. Beside float32, on {len(agreements)} prompts: a response token's importance is off by "
        f"{float(error.median()):.1e} (median) and {float(error.max()):.1e} (worst) of its largest, and {equal:.2%} of "
        "levels are equal."
    )
