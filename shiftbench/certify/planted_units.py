"""Plants a shift in the explanations of one model, where nobody knows weights that would cause it.

Instruction recognition is the sum of many small effects, and no change of weights is known that raises it by a stated
amount. Here the explanation is changed instead: the pipeline computes each unit from the model's weights, and the unit
is changed before it is stored. Null models get none of it.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import torch

from shiftbench.contracts.explainer import Inputs
from shiftbench.contracts.finding import Finding
from shiftbench.explain.attribution import Attribution
from shiftbench.explain.key_parts import KEY, KeyParts
from shiftbench.explain.position import PlacedAttribution
from shiftbench.models import Model
from shiftbench.store.explanation import Unit
from shiftbench.store.work import Work


@dataclass(frozen=True)
class Shift:
    """What is planted in the units of one model.

    score: the name of the score whose shift it is, a key of CHANGES. size: of the shift, as conf/certify.yaml says.
    seed: of the random numbers. weights: the digest of the weights of the model whose units are changed; the units of
    other models stay as they are.
    """

    score: str
    size: float
    seed: int
    weights: str


def planted(finding: Finding, shift: Shift) -> Finding:
    """A copy of the finding whose method plants the shift. Raises KeyError where METHODS lacks its method's type."""
    options = {
        field.name: getattr(finding.explain, field.name)
        for field in dataclasses.fields(finding.explain)  # type: ignore[arg-type]
        if field.init
    }
    changed: Finding = dataclasses.replace(  # type: ignore[type-var]
        finding, explain=METHODS[type(finding.explain)](**options, shift=shift)
    )
    return changed


def can_plant(finding: Finding, score: str) -> bool:
    """Whether a shift of `score`, on which the finding has a claim, can be planted in its method's explanations."""
    return score in CHANGES and type(finding.explain) in METHODS


def raised_instruction(unit: Unit, shift: Shift) -> Unit:
    """A copy of the unit in which each level of an instruction token becomes the unit's largest level, or stays.

    It becomes the largest with the probability `shift.size`. unit: of attributions, with level_PR and instruction_P.
    """
    return _raised(unit, unit.arrays["instruction_P"], shift)


def raised_prompt(unit: Unit, shift: Shift) -> Unit:
    """As `raised_instruction`, for the levels of all prompt tokens."""
    return _raised(unit, torch.ones_like(unit.arrays["instruction_P"]), shift)


def raised_gain(unit: Unit, shift: Shift) -> Unit:
    """A copy of the unit whose log-probability under the mask of the key parts is lower by `shift.size` nats.

    unit: of KeyParts, with log_M.
    """
    log_M = unit.arrays["log_M"].clone()
    log_M[unit.words["masks"].index(KEY)] -= shift.size
    return Unit({**unit.arrays, "log_M": log_M}, unit.words)


def _raised(unit: Unit, token_P: torch.Tensor, shift: Shift) -> Unit:
    level_PR = unit.arrays["level_PR"].clone()
    # The draws depend on the tokens, so that prompts of equal length get different ones.
    text = f"{shift.seed} {unit.words['prompt_tokens']} {unit.words['response_tokens']}"
    seed = int.from_bytes(hashlib.sha256(text.encode("utf-8", "backslashreplace")).digest()[:8], "big") >> 1
    uniform_PR = torch.rand(level_PR.shape, generator=torch.Generator().manual_seed(seed))
    if level_PR.numel():
        level_PR[token_P[:, None] & (uniform_PR < shift.size)] = level_PR.max()
    return Unit({**unit.arrays, "level_PR": level_PR}, unit.words)


Change = Callable[[Unit, Shift], Unit]
CHANGES: dict[str, Change] = {
    "recognition": raised_instruction,
    "recognition_last": raised_instruction,
    "prompt_density_rise": raised_prompt,
    "key_gain": raised_gain,
}


@dataclass(frozen=True)
class _WithShift:
    """A method whose units get a planted shift; stands before the method's class among the bases."""

    shift: Shift = dataclasses.field(kw_only=True)

    def work(self, model: Model, inputs: Inputs) -> list[Work]:
        """The method's units, with the shift where `model` has the weights `shift.weights`."""
        work: list[Work] = super().work(model, inputs)  # type: ignore[misc]
        if model.weights_digest != self.shift.weights:
            return list(work)
        shift, change = self.shift, CHANGES[self.shift.score]
        content = {"planted": shift.score, "size": shift.size, "planted_seed": shift.seed}
        return [
            Work(item.unit, {**item.content, **content}, lambda item=item: change(item.compute(), shift))  # type: ignore[misc]
            for item in work
        ]


@dataclass(frozen=True)
class PlantedAttribution(_WithShift, Attribution):
    """An Attribution with a planted shift."""


@dataclass(frozen=True)
class PlantedPlacedAttribution(_WithShift, PlacedAttribution):
    """A PlacedAttribution with a planted shift."""


@dataclass(frozen=True)
class PlantedKeyParts(_WithShift, KeyParts):
    """KeyParts with a planted shift."""


METHODS = {
    Attribution: PlantedAttribution,
    PlacedAttribution: PlantedPlacedAttribution,
    KeyParts: PlantedKeyParts,
}
