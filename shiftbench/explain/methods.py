"""Attribution methods by name: a definition, and after a colon the mask that it uses, as `occlusion:mean`.

Of integrated gradients it is the mask at which the path begins, as `integrated_gradients:mean`.
"""

from __future__ import annotations

from dataclasses import dataclass

from shiftbench.errors import InputError
from shiftbench.explain.importance import Definition, Options, check_path
from shiftbench.explain.masks import Mask, Masking, mask_named

# Which definitions depend on what a masked token becomes.
MASKED = (Definition.OCCLUSION, Definition.INTEGRATED_GRADIENTS)


@dataclass(frozen=True)
class AttributionMethod:
    """A definition of importance with its options.

    name: as it is typed, for example 'occlusion:mean'; the mask is left out where it is zero.
    """

    definition: Definition
    options: Options

    @property
    def name(self) -> str:
        """The definition's name, with the mask after a colon where the definition uses one that is not zero."""
        mask = self.mask
        return self.definition.value if mask in (None, Mask.ZERO) else f"{self.definition.value}:{mask.value}"

    @property
    def mask(self) -> Mask | None:
        """The mask that the definition uses; None where it uses none."""
        return self.options.masking.kind if self.definition in MASKED else None


def method_named(option: str, name: str, steps: int, draws: int, seed: int) -> AttributionMethod:
    """The method of this name. Raises InputError where there is none. option: what the name is of, for the message.

    steps: points of a path. draws, seed: of resampled tokens, and of the noise of smoothed gradients. Raises InputError
    also where a path would begin at deleted tokens.
    """
    definition, colon, mask = str(name).partition(":")
    known = [each.value for each in Definition]
    if definition not in known:
        raise InputError(f"{option}: {definition!r} is not known; choose from {', '.join(known)}")
    if colon and Definition(definition) not in MASKED:
        raise InputError(f"{option}: {definition} uses no mask; write {definition}, not {name}")
    masking = Masking(mask_named(f"{option}: mask", mask) if colon else Mask.ZERO, draws, seed)
    if definition == Definition.INTEGRATED_GRADIENTS.value:
        check_path(masking)
    return AttributionMethod(Definition(definition), Options(steps, masking))
