"""Findings: each compares a base model's explanation with the tuned model's and returns scores."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from enum import Enum
from fnmatch import fnmatch
from typing import Any, ClassVar

from shiftbench.contracts.explainer import Explainer, Method, PairExplainer, WeightExplainer
from shiftbench.contracts.need import Need
from shiftbench.contracts.ratings import Ratings
from shiftbench.contracts.result import Result, ScoreFact
from shiftbench.stats import Bootstrap


class Group(Enum):
    """What a finding looks at, for reports and boards. CHECK: whether another finding's method can be believed."""

    ATTRIBUTION = "attribution"
    ATTENTION = "attention"
    FEED_FORWARD = "feed-forward"
    CHECK = "check"
    PROBE = "probe"


class Finding(ABC):
    """Compares explanations of two models; a finding never sees a model.

    name, version: as in scores.json. group: where reports and boards show it. needs: what the pair must offer; nothing
    else is loaded or computed for it. facts: what each of its scores means, by the score's name.
    explain: the method whose explanations it compares. bootstrap: of its intervals.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    group: ClassVar[Group]
    needs: ClassVar[frozenset[Need]]
    facts: ClassVar[Mapping[str, ScoreFact]] = {}
    explain: Explainer | WeightExplainer
    bootstrap: Bootstrap

    def __init_subclass__(cls) -> None:
        """Raise TypeError for a finding that does not say what it is."""
        missing = [name for name in ("name", "version", "group", "needs") if not hasattr(cls, name)]
        if missing:
            raise TypeError(f"{cls.__name__} says no {', '.join(missing)}; every Finding does (docs/finding.md)")

    @abstractmethod
    def __call__(self, *explanations: Any, **further: Any) -> Result:
        """The result, from explanations of the pair.

        They are given in this order: base's and tuned's, of `explain`; that of `pair_explainer`; that of
        `ratings_of_responses`. Where `explain` is a WeightExplainer, its one explanation of the pair is all.
        """

    def pair_explainer(self) -> PairExplainer | None:
        """A method on both models at once whose explanation the finding wants too; None: it wants none."""
        return None

    def ratings_of_responses(self) -> Ratings | None:
        """Ratings of tuned's responses that the finding wants too; None: it wants none."""
        return None

    def methods(self) -> list[Method]:
        """Every method whose version decides the finding's scores."""
        further = [self.pair_explainer(), self.ratings_of_responses()]
        return [self.explain, *(method for method in further if method is not None)]

    def fact(self, score: str) -> ScoreFact | None:
        """What a score means; None where the finding does not say.

        score: its name. `_over_null` and `_MODE_response` at its end say what a score of that meaning is compared with
        and which responses it is of, so they are left out. A name among `facts` may be a pattern.
        """
        plain = re.sub(r"(_over_null|_(shared|own|reference)_response)+$", "", score)
        return next((fact for name, fact in self.facts.items() if fnmatch(plain, name)), None)

    @property
    def is_check(self) -> bool:
        """Whether its scores say how right a method is on one model: no null model and no second mode is asked."""
        return self.group is Group.CHECK

    @property
    def needs_responses(self) -> bool:
        """Whether it depends on responses to prompts, and not on weights alone."""
        return Need.RESPONSES in self.needs
