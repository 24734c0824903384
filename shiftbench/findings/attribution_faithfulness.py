"""Check: which attribution method finds the tokens that matter in base and in tuned (docs/attribution.md)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata

from shiftbench.contracts.finding import Finding, Group
from shiftbench.contracts.need import RESPONSES_OF_BOTH, Need
from shiftbench.contracts.result import UNFAITHFUL, Figure, Kind, Result, Score, ScoreFact, no_change
from shiftbench.explain.faithfulness import BASELINES, RANDOM, Faithfulness
from shiftbench.stats import Bootstrap, holm, sign_flip
from shiftbench.store.explanation import Explanation, Unit

MODELS = ("base", "tuned")
FEWEST_PROMPTS = 10  # with fewer prompts the bootstrap's intervals are too narrow to show anything
POWER = 1.96 + 0.84  # normal quantiles of a two-sided test at 5% that finds an effect with a probability of 80%
OVER_RANDOM, OVER_BASELINES = "comprehensiveness_over_random", "comprehensiveness_over_baselines"
SUFFICIENCY, CORRELATION = "sufficiency_over_random", "correlation"
QUANTITIES = (OVER_RANDOM, OVER_BASELINES, SUFFICIENCY, CORRELATION)
DRAWN = ("most important first", "last first", "random order")  # the orders in the figures
AGAINST = {OVER_RANDOM: "random order", **{f"comprehensiveness_over_{name}": name for name in BASELINES}}

FACTS = {
    f"{model}_{quantity}": ScoreFact(f"{label}, {model}", unit, positive, zero, Kind.LEVEL)
    for model in MODELS
    for quantity, (label, unit, positive, zero) in {
        OVER_RANDOM: (
            "fall of the probability where important tokens are masked",
            "mean probability of a response token, less that of a random order",
            "masking the tokens that the attributions call important lowers the response's probability more than "
            "masking random ones does",
            "the attributions order the tokens no better than a random order does",
        ),
        OVER_BASELINES: (
            "the same fall against the best order that looks at no model",
            "mean probability of a response token, less that of the best baseline",
            "masking the tokens that the attributions call important lowers the response's probability more than "
            "masking the longest, the last, the rarest or the repeated ones does",
            "an order that looks at no model, such as the longest token first, does as well as the attributions",
        ),
        SUFFICIENCY: (
            "probability where important tokens alone are left",
            "mean probability of a response token, less that of a random order",
            "the tokens that the attributions call important keep more of the response's probability than random ones",
            "the attributions order the tokens no better than a random order does",
        ),
        CORRELATION: (
            "importance against the true change",
            "Spearman's rank correlation over prompt tokens",
            "tokens of larger importance lower the probability more when each is masked alone",
            "importance says nothing about what masking a token alone does",
        ),
    }.items()
}


CAPTIONS = {
    "methods": (
        "One row is one quantity of one method in one model where tokens are masked in one way. The columns have its "
        "mean over prompts with its interval, a test against 0, also corrected for all rows (Holm), and how many "
        "prompts would decide a mean of this size. Where the mask is the method's own, the row judges nothing."
    ),
    "choice": (
        "One row is one method, the cheapest first. The columns say whether it is faithful in each model, and the "
        "smallest lower bound on which that rests: over all masks but its own, over random orders and over orders "
        "that look at no model. The first method that is faithful in both models is the one to take."
    ),
    "curves": (
        "One row is one share of the prompt's tokens, taken in one order and masked in one way. The columns have the "
        "mean probability of a response token where these tokens are masked, or where they alone are left, with its "
        "interval over prompts."
    ),
    "prompts": (
        "One row is one prompt, model, method and mask. The columns have the response's probability with nothing "
        "masked, how far it falls where tokens are masked in each order, and the correlation of importance with the "
        "fall."
    ),
}


@dataclass(frozen=True)
class Faithful:
    """Whether a method is faithful in one model.

    low: the smallest lower bound of the quantities that decide; NaN without prompts. mean: the mean of that quantity.
    quantity, perturbation: which it is. n: the number of prompts.
    """

    low: float
    mean: float
    quantity: str
    perturbation: str
    n: int

    @property
    def is_faithful(self) -> bool:
        """Whether all quantities that decide have intervals above 0, over FEWEST_PROMPTS prompts at least."""
        return self.n >= FEWEST_PROMPTS and self.low > 0


@dataclass(frozen=True)
class AttributionFaithfulness(Finding):
    """Compares masking tokens in the order of their importance with masking them in other orders, in each model.

    A method is faithful in a model where its comprehensiveness exceeds that of random orders and that of every baseline
    (explain.faithfulness.BASELINES), each with an interval above 0, under every perturbation but the method's own mask,
    over FEWEST_PROMPTS prompts at least.
    The method that is chosen is the first of the explainer's methods that is faithful in both models. Where none is, it
    is the one whose smallest mean is largest, and flags say in which model it is not faithful. The scores are levels,
    not shifts: a model compared with itself does not score 0, and no null model is scored.
    """

    explain: Faithfulness
    bootstrap: Bootstrap
    name: ClassVar[str] = "attribution_faithfulness"
    version: ClassVar[int] = 2
    group: ClassVar[Group] = Group.CHECK
    needs: ClassVar[frozenset[Need]] = RESPONSES_OF_BOTH
    facts: ClassVar[Mapping[str, ScoreFact]] = FACTS

    def __call__(self, base: Explanation, tuned: Explanation) -> Result:
        """The result over the prompts that both explanations have: scores of QUANTITIES for each model.

        The scores, the curves and the flags are of the chosen method. A score is the mean over the perturbations that
        may judge the method. The tables `methods`, `choice` and `prompts` have all methods. The flag `unfaithful:MODEL`
        is set where the chosen method is not faithful in the model although prompts were checked.
        """
        shared = [name for name in base.units if name in tuned.units]
        sides = {"base": base.units, "tuned": tuned.units}
        rows = self._rows(shared, sides)
        judged = {
            (method, model): self._faithful(rows, method, model) for method in self.explain.methods for model in MODELS
        }
        chosen = self._choose(judged)
        scores = [self._score(rows, chosen, model, quantity) for quantity in QUANTITIES for model in reversed(MODELS)]
        unfaithful = {
            method: [model for model in MODELS if judged[method, model].n and not judged[method, model].is_faithful]
            for method in self.explain.methods
        }
        flagged = unfaithful[chosen]
        curves = self._curves(chosen, shared, sides)
        return Result(
            finding=self.name,
            captions=CAPTIONS,
            headline=f"tuned_{OVER_RANDOM}",
            sentence=_sentence(chosen, judged, {score.name: score for score in scores}),
            scores=scores,
            tables={
                "choice": _choice_table(self.explain.methods, chosen, judged),
                "methods": self._methods(rows),
                "curves": curves,
                "prompts": rows,
            },
            figures=[
                _figure(curves, tokens, perturbation)
                for perturbation in self.explain.perturbations
                for tokens in ("masked", "alone left")
            ],
            level=True,
            flags=[f"{UNFAITHFUL}{model}" for model in flagged],
            notes=[_note(model, chosen, judged[chosen, model]) for model in flagged],
            chosen_method=chosen,
            unfaithful=unfaithful,
        )

    def _rows(self, shared: Sequence[str], sides: Mapping[str, Mapping[str, Unit]]) -> pd.DataFrame:
        """A row for each prompt, model, method and perturbation, with the columns COLUMNS."""
        keys = ["prompt", "model", "method", "perturbation"]
        return pd.DataFrame(
            [
                {**dict(zip(keys, (name, model, method, kind), strict=True)), **prompt_quantities(unit, method, kind)}
                for name in shared
                for model in MODELS
                for unit in [sides[model][name]]
                for method in self.explain.methods
                for kind in self.explain.perturbations
            ],
            columns=[*keys, *COLUMNS],
        )

    def _faithful(self, rows: pd.DataFrame, method: str, model: str) -> Faithful:
        """The quantity with the smallest lower bound, of those that decide whether a method is faithful in a model."""
        found = []
        for perturbation in self.explain.perturbations_for(method):
            for quantity in AGAINST:
                values = _values(rows, method, model, [perturbation], quantity)
                if len(values):
                    mean = self.bootstrap.mean(values)
                    found.append(Faithful(mean.low, mean.value, quantity, perturbation, len(values)))
        return min(found, key=lambda each: each.low, default=Faithful(math.nan, math.nan, OVER_RANDOM, "", 0))

    def _choose(self, judged: Mapping[tuple[str, str], Faithful]) -> str:
        """The first method that is faithful in both models; else the one whose smallest mean is largest."""
        methods = list(self.explain.methods)
        for method in methods:
            if all(judged[method, model].is_faithful for model in MODELS):
                return method
        if not any(each.n for each in judged.values()):
            return methods[0]
        return max(methods, key=lambda method: min(judged[method, model].mean for model in MODELS))

    def _score(self, rows: pd.DataFrame, method: str, model: str, quantity: str) -> Score:
        """The score of a quantity, averaged over the perturbations that may judge the method.

        OVER_BASELINES is taken over the baseline that leaves the least.
        """
        name = f"{model}_{quantity}"
        names = list(AGAINST)[1:] if quantity == OVER_BASELINES else [quantity]
        kinds = self.explain.perturbations_for(method)
        candidates = [values for one in names if len(values := _values(rows, method, model, kinds, one))]
        if not candidates:
            return no_change(self.name, name)
        values = min(candidates, key=np.mean)
        interval = self.bootstrap.mean(values)
        p = sign_flip(values, "two-sided", self.bootstrap.seed).p
        return Score(self.name, name, interval.value, interval.low, interval.high, p, len(values))

    def _methods(self, rows: pd.DataFrame) -> pd.DataFrame:
        """A row for each method, model, perturbation and quantity: the mean over prompts, its interval and a test.

        Prompts whose quantity is NaN are left out. Holm's correction is over all tests of the table.
        """
        tests = []
        for method in self.explain.methods:
            own = set(self.explain.perturbations) - set(self.explain.perturbations_for(method))
            for model in MODELS:
                for kind in self.explain.perturbations:
                    for quantity in (*AGAINST, SUFFICIENCY, CORRELATION):
                        values = _values(rows, method, model, [kind], quantity)
                        mean = self.bootstrap.mean(values)
                        p = sign_flip(values, "two-sided", self.bootstrap.seed).p if len(values) else None
                        row = (method, model, kind, "yes" if kind in own else "", quantity)
                        tests.append((*row, mean.value, mean.low, mean.high, p, len(values), needed_prompts(values)))
        names = ["method", "model", "mask", "method's own", "quantity", "mean", "low", "high"]
        names += ["sign-flip p, two-sided", "n", "prompts needed"]
        table = pd.DataFrame(tests, columns=names)
        table.insert(9, "Holm p", holm([None if p is None or np.isnan(p) else p for p in table[names[8]]]))
        return table

    def _curves(self, method: str, shared: Sequence[str], sides: Mapping[str, Mapping[str, Unit]]) -> pd.DataFrame:
        """Mean probability of a response token over prompts, with its interval.

        A row for each model, perturbation, kind of mask, order of tokens and fraction of the tokens. Kinds of mask: the
        fraction is masked, or it alone is left. Orders: the method's, the baselines' and the mean of the random ones.
        shared: the prompts' ids. sides: the units of "base" and "tuned", by prompt id.
        """
        rows = []
        for model in MODELS:
            units = [sides[model][name] for name in shared]
            for kind in self.explain.perturbations:
                for tokens, array in (("masked", "removed_KOF"), ("alone left", "kept_KOF")):
                    for order in (method, *BASELINES, RANDOM):
                        title = {method: "most important first", RANDOM: "random order"}.get(order, order)
                        by_prompt = np.array([_over_fractions(unit, array, order, kind) for unit in units])
                        for index, fraction in enumerate(self.explain.fractions):
                            mean = self.bootstrap.mean(by_prompt[:, index] if units else [])
                            numbers = (fraction, mean.value, mean.low, mean.high, len(units))
                            rows.append((f"{title}, {model}", kind, tokens, *numbers))
        return pd.DataFrame(rows, columns=["order", "mask", "tokens", "fraction", "probability", "low", "high", "n"])


COLUMNS = (
    "probability", "comprehensiveness", "comprehensiveness_random", *AGAINST, "log_comprehensiveness_over_random",
    "sufficiency", "sufficiency_random", SUFFICIENCY, "log_sufficiency_over_random", CORRELATION, "pearson",
)  # fmt: skip


def prompt_quantities(unit: Unit, method: str, perturbation: str) -> dict[str, float]:
    """The quantities named in COLUMNS, for one prompt of one model and for the order of tokens by one method.

    unit: a unit of explain/faithfulness.py. method: one of the unit's methods, such as "grad_x_input". perturbation:
    one of the unit's perturbations, by which tokens are masked. probability: the mean probability of a response token
    where nothing is masked. comprehensiveness: how far this probability falls where the first tokens of the order are
    masked, averaged over the fractions; large where the order is right. sufficiency: how far it falls where the first
    tokens alone are left; small where the order is right. *_random: comprehensiveness and sufficiency of the random
    orders (their mean). comprehensiveness_over_ORDER: comprehensiveness less that of another order, the random ones or
    a baseline. sufficiency_over_random: sufficiency of random orders less that of the method's. Both are positive where
    the method's order is better. log_*: computed from the mean log-probability instead, in nats. correlation
    (Spearman's) and pearson: the correlation, over the prompt tokens that were masked alone, of a token's importance
    with the fall of the probability; NaN where one of the two is constant.
    """
    quantities = {"probability": float(unit.arrays["full_2"][0])}
    falls = {order: _fall(unit, "removed", order, perturbation) for order in (method, *BASELINES, RANDOM)}
    quantities |= {"comprehensiveness": falls[method], "comprehensiveness_random": falls[RANDOM]}
    quantities[OVER_RANDOM] = falls[method] - falls[RANDOM]
    quantities |= {f"comprehensiveness_over_{name}": falls[method] - falls[name] for name in BASELINES}
    left, left_random = (_fall(unit, "kept", order, perturbation) for order in (method, RANDOM))
    quantities |= {"sufficiency": left, "sufficiency_random": left_random, SUFFICIENCY: left_random - left}
    for name, array, sign in (("comprehensiveness", "removed", 1), ("sufficiency", "kept", -1)):
        own, random = (_fall(unit, array, order, perturbation, log=True) for order in (method, RANDOM))
        quantities[f"log_{name}_over_random"] = sign * (own - random)
    importance_P = unit.arrays["importance_MP"][unit.words["methods"].index(method)]
    importance_J = importance_P[unit.arrays["token_J"]].double().numpy()
    change_J = unit.arrays["change_KJ"][unit.words["perturbations"].index(perturbation)].double().numpy()
    quantities[CORRELATION] = _correlation(rankdata(importance_J), rankdata(change_J))
    quantities["pearson"] = _correlation(importance_J, change_J)
    return quantities


def needed_prompts(values: Sequence[float] | pd.Series) -> float:
    """About how many prompts decide a mean of this size and spread with a probability of 80%; NaN where unknown.

    It is ((1.96 + 0.84) s / mean)^2 by the normal approximation, with s the standard deviation over prompts.
    """
    if len(values) < 2 or np.mean(values) == 0:
        return math.nan
    return float(math.ceil((POWER * np.std(values, ddof=1) / np.mean(values)) ** 2))


def _values(rows: pd.DataFrame, method: str, model: str, perturbations: Sequence[str], quantity: str) -> pd.Series:
    """A quantity of each prompt, averaged over perturbations, without the prompts where it is NaN."""
    chosen = rows[(rows["method"] == method) & (rows["model"] == model) & rows["perturbation"].isin(perturbations)]
    by_prompt: pd.Series = chosen.groupby("prompt", sort=False)[quantity].mean()
    return by_prompt.dropna()


def _fall(unit: Unit, array: str, order: str, perturbation: str, log: bool = False) -> float:
    """How far the mean probability, or the mean log-probability, falls under an order's masks; over the fractions."""
    name = f"{array}_{'log_' if log else ''}KOF"
    full = float(unit.arrays["full_2"][1 if log else 0])
    return full - float(_over_fractions(unit, name, order, perturbation).mean())


def _over_fractions(unit: Unit, array: str, order: str, perturbation: str) -> NDArray[np.float64]:
    """One row of the unit's array, float64 [F]: the value for each of the F fractions, in one order of the tokens.

    array: a name such as removed_KOF. order: a name in the unit's words `orders`; RANDOM gives the mean over all random
    orders. Raises ValueError for another name.
    """
    orders = unit.words["orders"]
    random = [index for index, name in enumerate(orders) if name.startswith(f"{RANDOM} ")]
    indices = random if order == RANDOM else [orders.index(order)]
    value_OF = unit.arrays[array][unit.words["perturbations"].index(perturbation)]
    value_F: NDArray[np.float64] = value_OF[indices].double().mean(0).numpy()
    return value_F


def _correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Pearson's correlation of two arrays of equal length; NaN where one of them is constant."""
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(np.corrcoef(first, second)[0, 1])


def _choice_table(methods: Sequence[str], chosen: str, judged: Mapping[tuple[str, str], Faithful]) -> pd.DataFrame:
    rows = []
    for method in methods:
        sides = {model: judged[method, model] for model in MODELS}
        row: dict[str, object] = {"method": method, "chosen": "yes" if method == chosen else ""}
        for model, found in sides.items():
            row[f"faithful in {model}"] = "yes" if found.is_faithful else "no"
            row[f"mean, {model}"], row[f"low, {model}"] = found.mean, found.low
            row[f"against, {model}"] = f"{AGAINST[found.quantity]}, {found.perturbation}" if found.n else ""
        rows.append(row)
    return pd.DataFrame(rows)


def _figure(curves: pd.DataFrame, tokens: str, perturbation: str) -> Figure:
    """The curves of the method, of the last tokens first and of random orders; the table `curves` has all."""
    drawn = curves["order"].str.startswith(DRAWN)
    return Figure(
        name=f"curves_{tokens.replace(' ', '_')}_{perturbation}",
        title=f"Probability with tokens {tokens} (mask: {perturbation})",
        kind="line",
        table=curves[drawn & (curves["tokens"] == tokens) & (curves["mask"] == perturbation)],
        x="fraction",
        y="probability",
        series="order",
        low="low",
        high="high",
        dashed=tuple(f"{order}, base" for order in DRAWN),
        x_label=f"share of instruction and context that is {tokens}",
        y_label="mean probability of a response token",
    )


def _sentence(chosen: str, judged: Mapping[tuple[str, str], Faithful], scores: Mapping[str, Score]) -> str:
    tuned, base = (scores[f"{model}_{OVER_RANDOM}"] for model in reversed(MODELS))
    if tuned.n == 0:
        return "No prompt has a response, so the attributions cannot be checked."
    faithful = [model for model in MODELS if judged[chosen, model].is_faithful]
    where = {2: "in both models", 1: f"in {' '.join(faithful)} alone", 0: "in neither model"}[len(faithful)]
    return (
        f"The attributions by {chosen} find the tokens that the response rests on {where}: masking the tokens that "
        f"they call important lowers the response's probability by {_value_with_interval(tuned)} more than masking "
        f"random ones in the tuned model, and by {_value_with_interval(base)} more in the base model, over {tuned.n} "
        "prompts."
    )


def _value_with_interval(score: Score) -> str:
    return f"{score.value:+.3f} [{score.low:+.3f}, {score.high:+.3f}]"


def _note(model: str, method: str, found: Faithful) -> str:
    if found.n < FEWEST_PROMPTS:
        return (
            f"{UNFAITHFUL}{model}: the {model} model's attributions ({method}) were checked on {found.n} prompts, and "
            f"at least {FEWEST_PROMPTS} are needed, so findings made of them say nothing sure about it."
        )
    against = AGAINST[found.quantity]
    return (
        f"{UNFAITHFUL}{model}: the {model} model's attributions ({method}) are not shown to find the tokens that the "
        f"response rests on better than the order '{against}' does (mask {found.perturbation}: {found.mean:+.3f}, "
        f"lower bound {found.low:+.3f}), so findings made of them say nothing sure about it."
    )
