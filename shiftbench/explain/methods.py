"""Attribution methods by name: a definition, and after a colon the mask that it uses, as `occlusion:mean`.

Of integrated gradients it is the mask at which the path begins, as `integrated_gradients:mean`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from shiftbench.errors import InputError
from shiftbench.explain.importance import Definition, Options, check_path
from shiftbench.explain.masks import Mask, mask_named

# The definitions that depend on what a masked token becomes.
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
        mask = self.options.masking.kind
        return self.definition.value if self._has_default_mask else f"{self.definition.value}:{mask.value}"

    @property
    def _has_default_mask(self) -> bool:
        return self.definition not in MASKED or self.options.masking.kind is Mask.ZERO

    @property
    def own_mask(self) -> Mask | None:
        """The mask under which the method is right by definition, for single tokens; None where there is none."""
        return self.options.masking.kind if self.definition is Definition.OCCLUSION else None

    @property
    def uses_mask(self) -> bool:
        """Whether importance depends on what a masked token becomes."""
        return self.definition in MASKED


def method_named(option: str, name: str, options: Options) -> AttributionMethod:
    """The method of this name, with these options and the name's own mask.

    option: what the name is of, for the message. Raises InputError where there is no such method, and where the path of
    integrated gradients cannot begin at the mask.
    """
    definition, colon, mask = str(name).partition(":")
    known = [each.value for each in Definition]
    if definition not in known:
        raise InputError(f"{option}: {definition!r} is not known; choose from {', '.join(known)}")
    if colon and Definition(definition) not in MASKED:
        raise InputError(f"{option}: {definition} uses no mask; write {definition}, not {name}")
    kind = mask_named(f"{option}: mask", mask) if colon else Mask.ZERO
    masking = replace(options.masking, kind=kind)
    if definition == Definition.INTEGRATED_GRADIENTS.value:
        check_path(masking)
    return AttributionMethod(Definition(definition), replace(options, masking=masking))
