"""Finding 2: attention heads gained word pairs with verbs of instructions.

Wu et al. 2023, section 4.2; docs/mathematics.md, 'Instruction verbs'.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from shiftbench.contracts.claim import Claim
from shiftbench.contracts.explainer import Explainer
from shiftbench.contracts.finding import Finding, Group
from shiftbench.contracts.need import BOTH_MODELS, Need
from shiftbench.contracts.result import Figure, Kind, Result, Score, ScoreFact, no_change
from shiftbench.errors import InputError
from shiftbench.stats import Bootstrap, crossed_difference, holm, independent_effect, welch
from shiftbench.store.explanation import Explanation
from shiftbench.words import verbs

# The name of the packaged list, by the value of the option `verbs`.
LISTS: Mapping[str, Literal["instruction", "instruction_larger"]] = {
    "paper": "instruction",
    "larger": "instruction_larger",
}
QUARTERS = 4  # number of parts of the depth; each has about a quarter of the layers


SHARE = "share of changed heads that gained word pairs, instruction verbs - general verbs"
FACTS = {
    "verbs": ScoreFact(
        "word pairs with instruction verbs",
        SHARE,
        "heads whose word pairs changed gained pairs with verbs of instructions more often than with verbs in general",
        "heads whose word pairs changed gained pairs with both kinds of verbs equally often",
    ),
    **{
        f"verbs_quarter_{quarter}": ScoreFact(
            f"word pairs with instruction verbs, quarter {quarter} of the depth",
            SHARE,
            "in this quarter of the layers, heads whose word pairs changed gained pairs with verbs of instructions "
            "more often than with verbs in general",
            "in this quarter of the layers, heads whose word pairs changed gained pairs with both kinds equally often",
            Kind.DIAGNOSTIC,
        )
        for quarter in range(1, QUARTERS + 1)
    },
}

CLAIMS = (
    Claim(
        score="verbs",
        short="heads encode instruction verbs",
        statement="the tuned model's heads gained word pairs with instruction verbs more often than with other verbs",
        opposite="the tuned model's heads gained word pairs with instruction verbs less often than with other verbs",
        observations="instruction verbs",
        floor=10,
        zero_is_null=False,
    ),
)


CAPTIONS = {
    "table3": (
        "One row is one quarter of the layers, or all of them. The columns have the mean share of changed heads that "
        "gained word pairs with a verb, for instruction verbs and for general verbs, and tests of the difference."
    ),
    "verbs": (
        "One row is one verb. The columns have the number of heads whose word pairs with the verb changed, the "
        "number that gained pairs, and the second as a share of the first."
    ),
    "gained_pairs": (
        "One row is one word pair with an instruction verb that more heads know after tuning. The columns have the "
        "two words, the number of heads that know the pair in each model, and the difference."
    ),
}


@dataclass(frozen=True)
class InstructionVerbs(Finding):
    """Compares how often heads gained word pairs with verbs of instructions with how often they did with general verbs.

    explain: gives the word pairs that each attention head of a model knows. verbs: the list of instruction verbs,
    'paper' or 'larger' (LISTS); general verbs are those of the packaged list 'general' that are not in it.
    """

    explain: Explainer
    verbs: str
    bootstrap: Bootstrap
    name: ClassVar[str] = "instruction_verbs"
    version: ClassVar[int] = 2
    group: ClassVar[Group] = Group.ATTENTION
    needs: ClassVar[frozenset[Need]] = BOTH_MODELS | {Need.ATTENTION_HEADS}
    facts: ClassVar[Mapping[str, ScoreFact]] = FACTS
    claims: ClassVar[Sequence[Claim]] = CLAIMS

    def __post_init__(self) -> None:
        if self.verbs not in LISTS:
            raise InputError(f"instruction_verbs: verbs={self.verbs!r} must be one of {', '.join(LISTS)}")

    def __call__(self, base: Explanation, tuned: Explanation) -> Result:
        """The result: a score over the heads of all layers, and one over the heads of each quarter of the layers.

        A score is the mean share over instruction verbs less the mean share over general verbs. A verb's share is the
        number of heads whose count of the verb rose, over the number of heads whose count of it changed (verb_counts);
        a verb whose count changed in no head is left out of the mean.
        """
        shares, change_VLH, instruction_V, quarter_L = self._counted(base, tuned)
        scores = [self._score("verbs", change_VLH, instruction_V)]
        scores += [
            self._score(f"verbs_quarter_{quarter + 1}", change_VLH[:, quarter_L == quarter], instruction_V)
            for quarter in range(QUARTERS)
        ]
        change_LH = change_VLH[instruction_V].sum(0)
        return Result(
            finding=self.name,
            captions=CAPTIONS,
            headline="verbs",
            sentence=_sentence(scores[0], shares),
            scores=scores,
            tables={
                "table3": _table3(shares),
                "verbs": shares[shares["quarter"] == "all"].drop(columns="quarter").reset_index(drop=True),
                "gained_pairs": _gained_pairs(base, tuned, set(verbs(LISTS[self.verbs]))),
            },
            figures=[_heads_figure(change_LH), _quarters_figure(shares)],
        )

    def _counted(
        self, base: Explanation, tuned: Explanation
    ) -> tuple[pd.DataFrame, NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64]]:
        """(shares, change_VLH, instruction_V, quarter_L).

        shares: the table of _shares. change_VLH: tuned's count of a verb in a head less base's (`verb_counts`); the
        instruction verbs are the first. instruction_V: which verbs are instruction verbs. quarter_L: the quarter of
        each layer, 0 to 3.
        """
        instruction = verbs(LISTS[self.verbs])
        kinds = {"instruction": instruction, "general": [v for v in verbs("general") if v not in set(instruction)]}
        all_verbs = [verb for members in kinds.values() for verb in members]
        base_VLH, tuned_VLH = verb_counts(base, all_verbs), verb_counts(tuned, all_verbs)
        quarter_L = np.arange(base_VLH.shape[1]) * QUARTERS // base_VLH.shape[1]
        shares = _shares(kinds, base_VLH, tuned_VLH, quarter_L)
        return shares, tuned_VLH - base_VLH, np.arange(len(all_verbs)) < len(instruction), quarter_L

    def null_values(self, base: Explanation, null: Explanation) -> Mapping[str, float]:
        """The value of each score by its name, with the null model `null` in the tuned model's place.

        A score is 0 where, in its part of the depth, no head's count changed for any instruction verb, or for any
        general verb.
        """
        shares, *_ = self._counted(base, null)
        mean = shares.groupby(["quarter", "kind"])["share"].mean()
        quarters = {"verbs": "all", **{f"verbs_quarter_{i}": str(i) for i in range(1, QUARTERS + 1)}}
        return {
            name: float(mean[quarter, "instruction"] - mean[quarter, "general"])
            if {(quarter, "instruction"), (quarter, "general")} <= set(mean.index)
            else 0.0
            for name, quarter in quarters.items()
        }

    def _score(self, name: str, change_VLH: NDArray[np.int64], instruction_V: NDArray[np.bool_]) -> Score:
        """The score over some layers. change_VLH: how much each head's count of each verb changed there."""
        change_VN = change_VLH.reshape(len(change_VLH), -1)
        # Verbs are a sample and heads are a sample: one head's changes for several verbs are not independent.
        found = crossed_difference(change_VN > 0, change_VN != 0, instruction_V, self.bootstrap.confidence)
        if found is None:
            return no_change(self.name, name)
        return Score(self.name, name, found.value, found.low, found.high, found.p, found.n)


def verb_counts(explanation: Explanation, all_verbs: Sequence[str]) -> NDArray[np.int64]:
    """count_VLH, int64: how many of the word pairs that a head knows contain a verb, for each verb, layer and head.

    The V verbs are in the order of `all_verbs`. A pair contains a verb where one of its words, which are in lower case,
    is spelled like the verb. A pair of two of the verbs counts for each of them; a pair counts once, however often the
    head has it.
    """
    index_of = {verb: i for i, verb in enumerate(all_verbs)}
    units = list(explanation.units.values())
    counts = np.zeros((len(all_verbs), len(units), len(units[0].arrays["pairs_H"])), dtype=np.int64)
    for layer, unit in enumerate(units):
        heads = unit.arrays["head_N"].tolist()
        for head, *pair in zip(heads, unit.words["first"], unit.words["second"], strict=True):
            for word in pair:
                if word in index_of:
                    counts[index_of[word], layer, head] += 1
    return counts


def _shares(
    kinds: dict[str, list[str]], base_VLH: NDArray[np.int64], tuned_VLH: NDArray[np.int64], quarter_L: NDArray[np.int64]
) -> pd.DataFrame:
    """A row for each verb and part of the depth in which some head's count of the verb changed from base to tuned.

    quarter: the part of the depth, "1" to "4" or "all". heads_changed: the number of heads in it whose count changed.
    heads_rose: the number whose count rose. share: heads_rose / heads_changed. kinds: the verbs of each kind, in the
    order of V. quarter_L: the quarter of each layer, 0 to 3.
    """
    labels = [(kind, verb) for kind, members in kinds.items() for verb in members]
    quarters = [(str(index + 1), quarter_L == index) for index in range(QUARTERS)] + [("all", quarter_L >= 0)]
    rows = []
    for quarter, in_quarter_L in quarters:
        change_VN = (tuned_VLH - base_VLH)[:, in_quarter_L].reshape(len(labels), -1)
        changed_V, rose_V = (change_VN != 0).sum(1), (change_VN > 0).sum(1)
        for (kind, verb), changed, rose in zip(labels, changed_V.tolist(), rose_V.tolist(), strict=True):
            if changed:
                rows.append((kind, verb, quarter, rose / changed, changed, rose))
    return pd.DataFrame(rows, columns=["kind", "verb", "quarter", "share", "heads_changed", "heads_rose"])


def _table3(shares: pd.DataFrame) -> pd.DataFrame:
    """The paper's Table 3: a row for each quarter of the depth, and one for all layers.

    Each row compares the shares (_shares) of instruction verbs with those of general verbs. Mean, standard deviation
    and Welch's test are the paper's; Holm's correction over the four quarters and the effect size are ours.
    """
    table_rows = []
    for quarter in [*map(str, range(1, QUARTERS + 1)), "all"]:
        selected = shares[shares["quarter"] == quarter]
        instruction_shares = selected.loc[selected["kind"] == "instruction", "share"]
        general_shares = selected.loc[selected["kind"] == "general", "share"]
        t, p = welch(instruction_shares, general_shares, "two-sided")
        effect = independent_effect(instruction_shares, general_shares)
        table_rows.append(
            {
                "quarter of the depth": quarter,
                "instruction mean": instruction_shares.mean(),
                "instruction std": instruction_shares.std(ddof=1),
                "instruction verbs": len(instruction_shares),
                "general mean": general_shares.mean(),
                "general std": general_shares.std(ddof=1),
                "general verbs": len(general_shares),
                "Welch t": t,
                "Welch p, two-sided": p,
                "Cohen's d": effect.d if effect else None,
                "d low": effect.low if effect else None,
                "d high": effect.high if effect else None,
            }
        )
    table = pd.DataFrame(table_rows)
    table["Holm p over quarters"] = [*holm([line["Welch p, two-sided"] for line in table_rows[:QUARTERS]]), None]
    return table


def _gained_pairs(base: Explanation, tuned: Explanation, instruction: set[str], limit: int = 200) -> pd.DataFrame:
    """The word pairs with an instruction verb that more heads, of all layers, know in tuned than in base.

    The largest gains come first; pairs of equal gain are sorted by code points. instruction: the instruction verbs.
    limit: the most rows that are returned.
    """
    heads_by_pair: list[Counter[tuple[str, str]]] = []
    for explanation in (base, tuned):
        counter: Counter[tuple[str, str]] = Counter()
        for unit in explanation.units.values():
            pairs = zip(unit.words["first"], unit.words["second"], strict=True)
            counter.update(pair for pair in pairs if instruction & set(pair))
        heads_by_pair.append(counter)
    in_base, in_tuned = heads_by_pair
    gains = [(a, b, in_base[a, b], n, n - in_base[a, b]) for (a, b), n in in_tuned.items() if n > in_base[a, b]]
    gains.sort(key=lambda row: (-row[4], row[:2]))
    return pd.DataFrame(gains[:limit], columns=["word", "other word", "heads in base", "heads in tuned", "gain"])


def _heads_figure(change_LH: NDArray[np.int64]) -> Figure:
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


def _quarters_figure(shares: pd.DataFrame) -> Figure:
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
    selected = shares[shares["quarter"] == "all"].groupby("kind")["share"].mean()
    clear = score.low > 0 or score.high < 0
    verdict = ("more" if score.value > 0 else "less") if clear else "not clearly more or less"
    return (
        f"Among heads that changed, word pairs with instruction verbs grew {verdict} often than those with general "
        f"verbs: {selected['instruction']:.0%} against {selected['general']:.0%}, a difference of {score.value:+.3f} "
        f"[{score.low:+.3f}, {score.high:+.3f}]."
    )
