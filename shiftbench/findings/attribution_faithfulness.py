"""Check: whether base's and tuned's attributions find the tokens that matter (docs/controls.md, 'Faithfulness')."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata

from shiftbench.contracts.finding import Finding, Group
from shiftbench.contracts.need import RESPONSES_OF_BOTH, Need
from shiftbench.contracts.result import Figure, Kind, Result, Score, ScoreFact, no_change
from shiftbench.explain.faithfulness import RANDOM, REVERSED, Faithfulness
from shiftbench.stats import Bootstrap, holm, sign_flip
from shiftbench.store.explanation import Explanation, Unit

MODELS = ("base", "tuned")
QUANTITIES = ("comprehensiveness_over_random", "sufficiency_over_random", "correlation")
ORDERS = {"": "most important first", REVERSED: "least important first", RANDOM: "random order"}


FACTS = {
    f"{model}_{quantity}": ScoreFact(f"{label}, {model}", unit, positive, zero, Kind.LEVEL)
    for model in MODELS
    for quantity, (label, unit, positive, zero) in {
        "comprehensiveness_over_random": (
            "fall of the probability where important tokens are masked",
            "mean probability of a response token, less that of a random order",
            "masking the tokens that the attributions call important lowers the response's probability more than "
            "masking random ones does",
            "the attributions order the tokens no better than a random order does",
        ),
        "sufficiency_over_random": (
            "probability where important tokens alone are left",
            "mean probability of a response token, less that of a random order",
            "the tokens that the attributions call important keep more of the response's probability than random ones",
            "the attributions order the tokens no better than a random order does",
        ),
        "correlation": (
            "importance against the true change",
            "Spearman's rank correlation over prompt tokens",
            "tokens of larger importance lower the probability more when each is masked alone",
            "importance says nothing about what masking a token alone does",
        ),
    }.items()
}


CAPTIONS = {
    "methods": (
        "One row is one quantity of one method in one model. The columns have its mean over prompts with its "
        "interval, and a test against 0, also corrected for all rows (Holm). Above 0, the method orders tokens "
        "better than chance."
    ),
    "curves": (
        "One row is one share of the prompt's tokens, taken in one order. The columns have the mean probability of a "
        "response token where these tokens are masked, or where they alone are left, with its interval over prompts."
    ),
    "prompts": (
        "One row is one prompt, model and method. The columns have the response's probability with nothing masked, "
        "how far it falls where tokens are masked in each order, and the correlation of importance with the fall."
    ),
}


@dataclass(frozen=True)
class AttributionFaithfulness(Finding):
    """Compares masking tokens in the order of their importance with masking them in random order, in each model.

    The scores are levels, not shifts: a model compared with itself does not score 0, and no null model is scored.
    """

    explain: Faithfulness
    bootstrap: Bootstrap
    name: ClassVar[str] = "attribution_faithfulness"
    version: ClassVar[int] = 1
    group: ClassVar[Group] = Group.CHECK
    needs: ClassVar[frozenset[Need]] = RESPONSES_OF_BOTH
    facts: ClassVar[Mapping[str, ScoreFact]] = FACTS

    def __call__(self, base: Explanation, tuned: Explanation) -> Result:
        """The result over the prompts that both explanations have: scores of QUANTITIES for each model.

        The scores, the curves and the flags are of the explainer's first method alone. The tables `methods` and
        `prompts` have all of its methods. The flag `unfaithful:MODEL` is set where the model's comprehensiveness over
        random was computed and its interval is not wholly above 0.
        """
        shared = [name for name in base.units if name in tuned.units]
        sides = {"base": base.units, "tuned": tuned.units}
        rows = pd.DataFrame(
            [
                {"prompt": name, "model": model, "method": method, **prompt_quantities(sides[model][name], method)}
                for name in shared
                for model in MODELS
                for method in self.explain.methods
            ],
            columns=["prompt", "model", "method", *COLUMNS],
        )
        main = rows[rows["method"] == self.explain.methods[0]]
        scores = [self._score(main, model, quantity) for quantity in QUANTITIES for model in reversed(MODELS)]
        flagged = [score.name.split("_")[0] for score in scores[:2] if score.n and score.low <= 0]
        curves = self._curves(shared, sides)
        return Result(
            finding=self.name,
            captions=CAPTIONS,
            headline="tuned_comprehensiveness_over_random",
            sentence=_sentence({score.name: score for score in scores}),
            scores=scores,
            tables={"methods": self._methods(rows), "curves": curves, "prompts": rows},
            figures=[_figure(curves, "masked"), _figure(curves, "alone left")],
            level=True,
            flags=[f"unfaithful:{model}" for model in sorted(flagged)],
            notes=[_note(model, self.explain.methods[0]) for model in sorted(flagged)],
        )

    def _score(self, rows: pd.DataFrame, model: str, quantity: str) -> Score:
        values = rows.loc[rows["model"] == model, quantity].dropna()
        name = f"{model}_{quantity}"
        if values.empty:
            return no_change(self.name, name)
        interval = self.bootstrap.mean(values)
        p = sign_flip(values, "two-sided", self.bootstrap.seed).p
        return Score(self.name, name, interval.value, interval.low, interval.high, p, len(values))

    def _methods(self, rows: pd.DataFrame) -> pd.DataFrame:
        """A row for each method, model and quantity: the mean over prompts with its interval and a sign-flip test.

        rows: one for each prompt, model and method, with COLUMNS. Prompts whose quantity is NaN are left out. Holm's
        correction is over all tests of the table.
        """
        tests = []
        for (method, model), group in rows.groupby(["method", "model"], sort=False):
            for quantity in QUANTITIES:
                score = self._score(group, str(model), quantity)
                tests.append((method, model, quantity, score.value, score.low, score.high, score.p, score.n))
        names = ["method", "model", "quantity", "mean", "low", "high", "sign-flip p, two-sided", "n"]
        table = pd.DataFrame(tests, columns=names)
        table.insert(7, "Holm p", holm([None if p is None or np.isnan(p) else p for p in table[names[6]]]))
        return table

    def _curves(self, shared: Sequence[str], sides: dict[str, Any]) -> pd.DataFrame:
        """Mean probability of a response token over prompts, with its interval.

        A row for each model, kind of mask, order of tokens and fraction of the tokens. Kinds of mask: the fraction is
        masked, or it alone is left. Orders: the first method's, the same reversed, and the mean of the random ones.
        shared: the prompts' ids. sides: the units of "base" and "tuned", by prompt id.
        """
        rows = []
        for model in MODELS:
            units = [sides[model][name] for name in shared]
            for mask, array in (("masked", "removed_OF"), ("alone left", "kept_OF")):
                for suffix, title in ORDERS.items():
                    order = RANDOM if suffix == RANDOM else self.explain.methods[0] + suffix
                    by_prompt = np.array([_over_fractions(unit, array, order) for unit in units])
                    for index, fraction in enumerate(self.explain.fractions):
                        mean = self.bootstrap.mean(by_prompt[:, index] if units else [])
                        rows.append((f"{title}, {model}", mask, fraction, mean.value, mean.low, mean.high, len(units)))
        return pd.DataFrame(rows, columns=["order", "tokens", "fraction", "probability", "low", "high", "n"])


COLUMNS = (
    "probability", "comprehensiveness", "comprehensiveness_random", "comprehensiveness_reversed",
    "comprehensiveness_over_random", "log_comprehensiveness_over_random", "sufficiency", "sufficiency_random",
    "sufficiency_reversed", "sufficiency_over_random", "log_sufficiency_over_random", "correlation", "pearson",
)  # fmt: skip


def prompt_quantities(unit: Unit, method: str) -> dict[str, float]:
    """The quantities named in COLUMNS, for one prompt of one model and for the order of tokens by one method.

    unit: a unit of explain/faithfulness.py. method: one of the unit's methods, such as "grad_x_input". probability: the
    mean probability of a response token where nothing is masked. comprehensiveness: how far this probability falls
    where the first tokens of the order are masked, averaged over the fractions; large where the order is right.
    sufficiency: how far it falls where the first tokens alone are left; small where the order is right. *_random,
    *_reversed: comprehensiveness and sufficiency of the random orders (their mean) and of the reversed order.
    *_over_random: comprehensiveness less that of random orders, and sufficiency of random orders less that of the
    method's; both are positive where the method's order is better than a random one. log_*_over_random: computed from
    the mean log-probability instead, in nats. correlation (Spearman's) and pearson: the correlation, over the prompt
    tokens that were masked alone, of a token's importance with the fall of the probability; NaN where one of the two is
    constant.
    """
    quantities = {"probability": float(unit.arrays["full_2"][0])}
    for log in ("", "log_"):
        full = float(unit.arrays["full_2"][1 if log else 0])
        for quantity, array, sign in (("comprehensiveness", "removed", 1), ("sufficiency", "kept", -1)):
            name = f"{array}_{log}OF"
            ordered, reversed_order, random = (
                full - float(_over_fractions(unit, name, order).mean()) for order in (method, method + REVERSED, RANDOM)
            )
            quantities[f"{log}{quantity}_over_random"] = sign * (ordered - random)
            if not log:
                quantities |= {quantity: ordered, f"{quantity}_random": random, f"{quantity}_reversed": reversed_order}
    importance_P = unit.arrays["importance_MP"][unit.words["methods"].index(method)]
    importance_K = importance_P[unit.arrays["token_K"]].double().numpy()
    change_K = unit.arrays["change_K"].double().numpy()
    quantities["correlation"] = _correlation(rankdata(importance_K), rankdata(change_K))
    quantities["pearson"] = _correlation(importance_K, change_K)
    return quantities


def _over_fractions(unit: Unit, array: str, order: str) -> NDArray[np.float64]:
    """One row of the unit's array, float64 [F]: the value for each of the F fractions, in one order of the tokens.

    array: a name such as removed_OF. order: a name in the unit's words `orders`; RANDOM gives the mean over all random
    orders. Raises ValueError for another name.
    """
    indices = [i for i, name in enumerate(unit.words["orders"]) if name == order or name.startswith(f"{order} ")]
    if order != RANDOM:
        indices = [unit.words["orders"].index(order)]
    value_F: NDArray[np.float64] = unit.arrays[array][indices].double().mean(0).numpy()
    return value_F


def _correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Pearson's correlation of two arrays of equal length; NaN where one of them is constant."""
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(np.corrcoef(first, second)[0, 1])


def _figure(curves: pd.DataFrame, tokens: str) -> Figure:
    return Figure(
        name=f"curves_{tokens.replace(' ', '_')}",
        title=f"Probability of the response where a share of the prompt is {tokens}",
        kind="line",
        table=curves[curves["tokens"] == tokens],
        x="fraction",
        y="probability",
        series="order",
        low="low",
        high="high",
        dashed=tuple(f"{title}, base" for title in ORDERS.values()),
        x_label=f"share of the prompt's tokens that is {tokens}",
        y_label="mean probability of a response token",
    )


def _sentence(scores: dict[str, Score]) -> str:
    tuned, base = (scores[f"{model}_comprehensiveness_over_random"] for model in reversed(MODELS))
    if tuned.n == 0:
        return "No prompt has a response, so the attributions cannot be checked."
    return (
        f"Masking the tokens that the tuned model's attributions call important lowers the response's probability "
        f"{_verdict(tuned)} masking random ones ({_value_with_interval(tuned)}); in the base model {_verdict(base)} "
        f"({_value_with_interval(base)})."
    )


def _verdict(score: Score) -> str:
    return "more than" if score.low > 0 else "less than" if score.high < 0 else "no more than"


def _value_with_interval(score: Score) -> str:
    return f"{score.value:+.3f} [{score.low:+.3f}, {score.high:+.3f}] over {score.n} prompts"


def _note(model: str, method: str) -> str:
    return (
        f"unfaithful:{model}: the {model} model's attributions ({method}) find the tokens that the response rests on "
        "no better than a random order does, so findings made of them say nothing sure about it."
    )
