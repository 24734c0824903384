"""Finding 2: heads of the tuned model encode more relations of instruction verbs (section 4.2; docs/mathematics.md)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from shiftbench.contracts.explainer import Explainer
from shiftbench.contracts.finding import Finding, Group
from shiftbench.contracts.need import BOTH_MODELS, Need
from shiftbench.contracts.result import Figure, Kind, Result, Score, ScoreFact, no_change
from shiftbench.stats import Bootstrap, holm, independent_effect, welch
from shiftbench.store.explanation import Explanation
from shiftbench.words import verbs

GROUPS = 4


SHARE = "share of changed heads that gained word pairs, instruction verbs - general verbs"
FACTS = {
    "verbs": ScoreFact(
        "word pairs with instruction verbs",
        SHARE,
        "heads that changed gained word pairs with verbs of instructions more often than with verbs in general",
        "heads that changed gained word pairs with both kinds of verbs equally often",
    ),
    **{
        f"verbs_quarter_{quarter}": ScoreFact(
            f"word pairs with instruction verbs, quarter {quarter} of the depth",
            SHARE,
            "the same, of the heads in this quarter of the layers",
            "no difference between the two kinds of verbs in this quarter of the layers",
            Kind.DIAGNOSTIC,
        )
        for quarter in range(1, GROUPS + 1)
    },
}


@dataclass(frozen=True)
class InstructionVerbs(Finding):
    """Compares, for verbs of instructions and verbs in general, how many heads gained word pairs with them."""

    explain: Explainer
    bootstrap: Bootstrap
    name: ClassVar[str] = "instruction_verbs"
    version: ClassVar[int] = 1
    group: ClassVar[Group] = Group.ATTENTION
    needs: ClassVar[frozenset[Need]] = BOTH_MODELS | {Need.ATTENTION_HEADS}
    facts: ClassVar[Mapping[str, ScoreFact]] = FACTS

    def __call__(self, base: Explanation, tuned: Explanation) -> Result:
        """Shares of changed heads whose count of a verb's pairs rose, by quarter of the depth and over all heads."""
        kinds = {"instruction": verbs("instruction"), "general": verbs("general")}
        every = [verb for kind in kinds.values() for verb in kind]
        base_VLH, tuned_VLH = verb_counts(base, every), verb_counts(tuned, every)
        group_L = np.arange(base_VLH.shape[1]) * GROUPS // base_VLH.shape[1]
        shares = _shares(kinds, base_VLH, tuned_VLH, group_L)
        scores = [self._score("verbs", shares, "all")]
        scores += [self._score(f"verbs_quarter_{g + 1}", shares, str(g + 1)) for g in range(GROUPS)]
        change_LH = (tuned_VLH - base_VLH)[: len(kinds["instruction"])].sum(0)
        return Result(
            finding=self.name,
            headline="verbs",
            sentence=_sentence(scores[0], shares),
            scores=scores,
            tables={
                "table3": _table3(shares),
                "verbs": shares[shares["quarter"] == "all"].drop(columns="quarter").reset_index(drop=True),
                "gained_pairs": _gained(base, tuned, set(kinds["instruction"])),
            },
            figures=[_heat(change_LH), _bars(shares)],
        )

    def _score(self, name: str, shares: pd.DataFrame, quarter: str) -> Score:
        here = shares[shares["quarter"] == quarter]
        first = here.loc[here["kind"] == "instruction", "share"]
        second = here.loc[here["kind"] == "general", "share"]
        if first.empty or second.empty:
            return no_change(self.name, name)
        interval = self.bootstrap.difference_of_means(first, second)
        _, p = welch(first, second, "two-sided")
        return Score(self.name, name, interval.value, interval.low, interval.high, p, len(first) + len(second))


def verb_counts(explanation: Explanation, every: Sequence[str]) -> NDArray[np.int64]:
    """count_VLH: how many of each head's pairs contain the verb."""
    place = {verb: i for i, verb in enumerate(every)}
    units = list(explanation.units.values())
    counts = np.zeros((len(every), len(units), len(units[0].arrays["pairs_H"])), dtype=np.int64)
    for layer, unit in enumerate(units):
        heads = unit.arrays["head_N"].tolist()
        for head, first, second in zip(heads, unit.words["first"], unit.words["second"], strict=True):
            for word in (first, second):
                if word in place:
                    counts[place[word], layer, head] += 1
    return counts


def _shares(
    kinds: dict[str, list[str]], base_VLH: NDArray[np.int64], tuned_VLH: NDArray[np.int64], group_L: NDArray[np.int64]
) -> pd.DataFrame:
    """A row a verb and quarter in which some head's count changed: kind, verb, quarter, share, changed, rose."""
    labels = [(kind, verb) for kind, members in kinds.items() for verb in members]
    quarters = [(str(g + 1), group_L == g) for g in range(GROUPS)] + [("all", group_L >= 0)]
    rows = []
    for quarter, in_group_L in quarters:
        change_VN = (tuned_VLH - base_VLH)[:, in_group_L].reshape(len(labels), -1)
        changed_V, rose_V = (change_VN != 0).sum(1), (change_VN > 0).sum(1)
        for (kind, verb), changed, rose in zip(labels, changed_V.tolist(), rose_V.tolist(), strict=True):
            if changed:
                rows.append((kind, verb, quarter, rose / changed, changed, rose))
    return pd.DataFrame(rows, columns=["kind", "verb", "quarter", "share", "heads_changed", "heads_rose"])


def _table3(shares: pd.DataFrame) -> pd.DataFrame:
    """The paper's Table 3: per quarter, mean and std of the share over instruction and general verbs, Welch test.

    Beside it Holm's correction over the quarters and the effect size. The verbs are not paired: no signs to flip.
    """
    lines = []
    for quarter in [*(str(g + 1) for g in range(GROUPS)), "all"]:
        here = shares[shares["quarter"] == quarter]
        first = here.loc[here["kind"] == "instruction", "share"]
        second = here.loc[here["kind"] == "general", "share"]
        t, p = welch(first, second, "two-sided")
        effect = independent_effect(first, second)
        lines.append(
            {
                "quarter of the depth": quarter,
                "instruction mean": first.mean(),
                "instruction std": first.std(ddof=1),
                "instruction verbs": len(first),
                "general mean": second.mean(),
                "general std": second.std(ddof=1),
                "general verbs": len(second),
                "Welch t": t,
                "Welch p, two-sided": p,
                "Cohen's d": effect.d if effect else None,
                "d low": effect.low if effect else None,
                "d high": effect.high if effect else None,
            }
        )
    table = pd.DataFrame(lines)
    table["Holm p over quarters"] = [*holm([line["Welch p, two-sided"] for line in lines[:GROUPS]]), None]
    return table


def _gained(base: Explanation, tuned: Explanation, instruction: set[str], most: int = 200) -> pd.DataFrame:
    """Pairs with an instruction verb that more heads of tuned hold than of base, the largest gains first."""
    held: list[Counter[tuple[str, str]]] = []
    for explanation in (base, tuned):
        counter: Counter[tuple[str, str]] = Counter()
        for unit in explanation.units.values():
            pairs = zip(unit.words["first"], unit.words["second"], strict=True)
            counter.update(pair for pair in pairs if instruction & set(pair))
        held.append(counter)
    gains = [(a, b, held[0][a, b], n, n - held[0][a, b]) for (a, b), n in held[1].items() if n > held[0][a, b]]
    gains.sort(key=lambda row: (-row[4], row[:2]))
    return pd.DataFrame(gains[:most], columns=["word", "other word", "heads in base", "heads in tuned", "gain"])


def _heat(change_LH: NDArray[np.int64]) -> Figure:
    layers, heads = np.indices(change_LH.shape)
    table = pd.DataFrame({"layer": layers.ravel(), "head": heads.ravel(), "change": change_LH.ravel()})
    return Figure(
        name="heads",
        title="Word pairs with instruction verbs, tuned - base",
        kind="heat",
        table=table,
        x="head",
        y="change",
        series="layer",
        diverging=True,
        x_label="head",
        y_label="layer",
    )


def _bars(shares: pd.DataFrame) -> Figure:
    table = shares.groupby(["kind", "quarter"], as_index=False)["share"].mean()
    return Figure(
        name="verbs_by_quarter",
        title="Share of changed heads that gained pairs with a verb",
        kind="bar",
        table=table,
        x="quarter",
        y="share",
        series="kind",
        x_label="quarter of the depth",
        y_label="mean share of heads",
    )


def _sentence(score: Score, shares: pd.DataFrame) -> str:
    if shares.empty:
        return "No head changed how many word pairs with verbs it encodes."
    if score.n == 0:
        return f"Only pairs with {shares['kind'].iloc[0]} verbs changed, so the two kinds of verbs cannot be compared."
    here = shares[shares["quarter"] == "all"].groupby("kind")["share"].mean()
    clear = score.low > 0 or score.high < 0
    verdict = ("more" if score.value > 0 else "less") if clear else "not clearly more or less"
    return (
        f"Among heads that changed, word pairs with instruction verbs grew {verdict} often than those with general "
        f"verbs: {here['instruction']:.0%} against {here['general']:.0%}, a difference of {score.value:+.3f} "
        f"[{score.low:+.3f}, {score.high:+.3f}]."
    )
