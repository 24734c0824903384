"""Finding: compares the base model's explanation with the tuned model's and returns scores (docs/finding.md)."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from enum import Enum
from fnmatch import fnmatch
from typing import Any, ClassVar

from shiftbench.contracts.claim import Claim
from shiftbench.contracts.explainer import Explainer, Method, PairExplainer, WeightExplainer
from shiftbench.contracts.need import Need
from shiftbench.contracts.ratings import Ratings
from shiftbench.contracts.result import Result, ScoreFact
from shiftbench.stats import Bootstrap


class Group(Enum):
    """What a finding is about; reports and leaderboards are ordered by it.

    ATTRIBUTION, ATTENTION, FEED_FORWARD: what part of the models the finding compares. CHECK: the finding tests how
    right another finding's method is, on each model alone. PROBE: the finding asks a question of another paper
    (docs/probes.md).
    """

    ATTRIBUTION = "attribution"
    ATTENTION = "attention"
    FEED_FORWARD = "feed-forward"
    CHECK = "check"
    PROBE = "probe"


class Finding(ABC):
    """Compares explanations of two models. It is given explanations and ratings, and no model.

    name, version: the finding's name and version, which scores.json states. group: where reports and leaderboards show
    the finding. needs: the parts of a pair that it requires; no other part is loaded or computed for it, but base and
    tuned are always loaded together. facts: what each of its scores means, by the score's name or by a pattern with
    `*`. claims: what its scores are taken to mean, the headline's claim first; a finding without claims, such as a
    check, gets no verdict. explain: the method whose explanations it compares. bootstrap: how its confidence intervals
    are computed.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    group: ClassVar[Group]
    needs: ClassVar[frozenset[Need]]
    facts: ClassVar[Mapping[str, ScoreFact]] = {}
    claims: ClassVar[Sequence[Claim]] = ()
    explain: Explainer | WeightExplainer
    bootstrap: Bootstrap

    def __init_subclass__(cls) -> None:
        """Raise TypeError where a subclass lacks one of the class variables name, version, group and needs."""
        missing = [name for name in ("name", "version", "group", "needs") if not hasattr(cls, name)]
        if missing:
            raise TypeError(f"{cls.__name__} must set {', '.join(missing)}, as every Finding does (docs/finding.md)")

    @abstractmethod
    def __call__(self, *explanations: Any, **further: Any) -> Result:
        """The finding's result, computed from explanations of the pair.

        The arguments are given by position, in this order: the base model's and the tuned model's explanation by
        `explain`; the explanation by `pair_explainer`, where there is one; the ratings of `ratings_of_responses`, where
        there are any. Where `explain` is a WeightExplainer, the only argument is its explanation of the pair.
        """

    def pair_explainer(self) -> PairExplainer | None:
        """The method that explains both models together, where the finding also uses such an explanation of the pair.

        None, the default: it uses none.
        """
        return None

    def ratings_of_responses(self) -> Ratings | None:
        """The method that rates the tuned model's responses, where the finding also uses ratings of them.

        None, the default: it uses no ratings.
        """
        return None

    def null_values(self, *explanations: Any) -> Mapping[str, float]:
        """The scores of a null model, by name: those that are compared with the tuned model's. By default all.

        The arguments are those of __call__ with a null model in place of the tuned one, and with the explanation by
        `null_pair_explainer` in place of that by `pair_explainer`.
        """
        return {score.name: score.value for score in self(*explanations).scores}

    def null_pair_explainer(self) -> PairExplainer | None:
        """The method that explains base and a null model together; by default `pair_explainer`.

        None: `null_values` needs no such explanation.
        """
        return self.pair_explainer()

    def methods(self) -> list[Method]:
        """`explain`, then the pair explainer and the ratings where the finding has them.

        Their versions are recorded with the scores.
        """
        further = [self.pair_explainer(), self.ratings_of_responses()]
        return [self.explain, *(method for method in further if method is not None)]

    def fact(self, score: str) -> ScoreFact | None:
        """What a score means: the first entry of `facts` whose key matches the score's name; None where no key does.

        score: the score's name. The endings `_over_null` (compared with null models) and `_MODE_response` (on responses
        of another mode) do not change the meaning and are ignored. A key of `facts` may be a pattern with `*`.
        """
        plain = re.sub(r"(_over_null|_(shared|own|reference)_response)+$", "", score)
        return next((fact for name, fact in self.facts.items() if fnmatch(plain, name)), None)

    @property
    def is_check(self) -> bool:
        """Whether the finding checks a method on each model alone.

        Such a finding is not scored on null models, nor on responses of a second mode.
        """
        return self.group is Group.CHECK

    @property
    def needs_responses(self) -> bool:
        """Whether the finding depends on responses to prompts."""
        return Need.RESPONSES in self.needs
