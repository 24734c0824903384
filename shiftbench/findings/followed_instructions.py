"""Does the tuned model lean on the instruction more where its response follows it? (Wu et al. 2023, Table 1)"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import pandas as pd

from shiftbench.contracts.explainer import Explainer
from shiftbench.contracts.finding import Finding, Group
from shiftbench.contracts.need import RESPONSES_OF_BOTH, Need
from shiftbench.contracts.ratings import Ratings
from shiftbench.contracts.result import Figure, Kind, Result, Score, ScoreFact, no_change
from shiftbench.errors import InputError
from shiftbench.findings.instruction_recognition import check_norm, recognition
from shiftbench.findings.length import response_tokens
from shiftbench.ratings.scale import FOLLOWED, UNFOLLOWED
from shiftbench.stats import Bootstrap, between_groups, independent_effect, welch
from shiftbench.store.explanation import Explanation, Unit

MODELS = ("tuned", "base")


FACTS = {
    f"followed_{cut}": ScoreFact(
        f"use of the instruction where the response follows it{part}",
        "recognition score of the tuned model, followed - not followed",
        "the tuned model's responses rest more on the instruction where they follow it",
        "they rest on the instruction to the same extent whether they follow it or not",
        Kind.LEVEL,
    )
    for cut, part in {"recognition": "", "recognition_first": ", first response tokens alone"}.items()
}


@dataclass(frozen=True)
class FollowedInstructions(Finding):
    """Compares the recognition scores of responses that follow their instruction with those of responses that do not.

    ratings: of the tuned model's responses. cutoff, p: as in instruction_recognition. shortest: response tokens;
    responses of fewer are left out, as in the paper. first: response tokens that the length-controlled version counts.
    The scores are levels of the tuned model, not shifts; base's on the same prompts stand beside them in the table.
    """

    explain: Explainer
    ratings: Ratings
    cutoff: int
    p: float
    shortest: int
    first: int
    bootstrap: Bootstrap
    name: ClassVar[str] = "followed_instructions"
    version: ClassVar[int] = 1
    group: ClassVar[Group] = Group.CHECK
    needs: ClassVar[frozenset[Need]] = RESPONSES_OF_BOTH
    facts: ClassVar[Mapping[str, ScoreFact]] = FACTS

    def __post_init__(self) -> None:
        check_norm(self.name, self.p)
        for name in ("shortest", "first"):
            if getattr(self, name) < 1:
                raise InputError(f"followed_instructions: {name}={getattr(self, name)} must be at least 1")

    def __call__(self, base: Explanation, tuned: Explanation, rated: Explanation) -> Result:
        """Scores over the prompts that both explain, whose response is rated 1 or more and long enough."""
        shared = [name for name in tuned.units if name in base.units and name in rated.units]
        rows = pd.DataFrame(
            [self._row(name, base.units[name], tuned.units[name], rated.units[name]) for name in shared],
            columns=[
                "prompt",
                "rating",
                "response_tokens",
                *(f"{cut}_{model}" for cut in self._cuts for model in MODELS),
            ],
        )
        used = rows[(rows["rating"] >= UNFOLLOWED) & (rows["response_tokens"] >= self.shortest)]
        scores = [self._score(used, cut) for cut in self._cuts]
        return Result(
            finding=self.name,
            headline=scores[0].name,
            sentence=_sentence(scores[0], used),
            scores=scores,
            tables={"table1": self._table1(used), "prompts": rows},
            figures=[self._figure(used)],
            level=True,
            notes=_notes(tuned, rated, rows, self.shortest),
        )

    def ratings_of_responses(self) -> Ratings:
        """How far each response follows its instruction."""
        return self.ratings

    @property
    def _cuts(self) -> dict[str, int | None]:
        """How many of the first response tokens each version counts."""
        return {"recognition": None, "recognition_first": self.first}

    def _row(self, name: str, base: Unit, tuned: Unit, rated: Unit) -> dict[str, object]:
        row: dict[str, object] = {
            "prompt": name, "rating": int(rated.arrays["rating_1"][0]), "response_tokens": response_tokens(tuned),
        }  # fmt: skip
        for cut, tokens in self._cuts.items():
            for model, unit in (("tuned", tuned), ("base", base)):
                row[f"{cut}_{model}"] = recognition(unit, self.cutoff, self.p, tokens)
        return row

    def _score(self, used: pd.DataFrame, cut: str) -> Score:
        name = f"followed_{cut}"
        followed, unfollowed = _sides(used, f"{cut}_tuned")
        if followed.empty or unfollowed.empty:
            return no_change(self.name, name)
        mean = self.bootstrap.difference_of_means(followed, unfollowed)
        p = between_groups(used[f"{cut}_tuned"], used["rating"] >= FOLLOWED, self.bootstrap.seed).p
        return Score(self.name, name, mean.value, mean.low, mean.high, p, len(used))

    def _table1(self, used: pd.DataFrame) -> pd.DataFrame:
        """The paper's Table 1 in both versions, of both models: means, the one-sided Welch test, and a permutation."""
        lines = []
        for cut, tokens in self._cuts.items():
            for model in MODELS:
                followed, unfollowed = _sides(used, f"{cut}_{model}")
                t, p = welch(unfollowed, followed, "less")
                effect = independent_effect(followed, unfollowed, self.bootstrap.confidence)
                mean = self.bootstrap.difference_of_means(followed, unfollowed)
                permuted = between_groups(used[f"{cut}_{model}"], used["rating"] >= FOLLOWED, self.bootstrap.seed)
                lines.append(
                    {
                        "responses": "whole" if tokens is None else f"first {tokens} tokens",
                        "model": model,
                        "followed mean": followed.mean(),
                        "followed std": followed.std(ddof=1),
                        "followed n": len(followed),
                        "unfollowed mean": unfollowed.mean(),
                        "unfollowed std": unfollowed.std(ddof=1),
                        "unfollowed n": len(unfollowed),
                        "followed - unfollowed": mean.value,
                        "low": mean.low,
                        "high": mean.high,
                        "Welch t (unfollowed < followed)": t,
                        "Welch p, one-sided": p,
                        "permutation p, two-sided": permuted.p,
                        "Hedges' g": effect.g if effect else None,
                    }
                )
        return pd.DataFrame(lines)

    def _figure(self, used: pd.DataFrame) -> Figure:
        lines = []
        for rating, rows in used.groupby("rating"):
            for model in reversed(MODELS):
                mean = self.bootstrap.mean(rows[f"recognition_{model}"])
                lines.append((str(rating), model, mean.value, mean.low, mean.high, len(rows)))
        return Figure(
            name="recognition_by_rating",
            title="Instruction recognition by how far the response follows",
            kind="bar",
            table=pd.DataFrame(lines, columns=["rating", "model", "recognition", "low", "high", "n"]),
            x="rating",
            y="recognition",
            series="model",
            low="low",
            high="high",
            x_label="rating of the tuned model's response: 1 does not follow, 4 follows fully",
            y_label="mean recognition score",
        )


def _sides(used: pd.DataFrame, column: str) -> tuple[pd.Series, pd.Series]:
    """(followed, unfollowed)."""
    follows = used["rating"] >= FOLLOWED
    return used.loc[follows, column].astype(float), used.loc[~follows, column].astype(float)


def _notes(tuned: Explanation, rated: Explanation, rows: pd.DataFrame, shortest: int) -> list[str]:
    """What of the responses does not count, and why; nothing where all do."""
    readings = [unit.arrays["answered_S"] for unit in rated.units.values() if "answered_S" in unit.arrays]
    unread = sum(not bool(answered_S.any()) for answered_S in readings)
    used = rows[rows["rating"] >= UNFOLLOWED]
    counts = {
        "have no rating": sum(name not in rated.units for name in tuned.units),
        "were judged in no answer that could be read": unread,
        "are excluded by their rating": int((rows["rating"] < UNFOLLOWED).sum()) - unread,
        f"have fewer than {shortest} tokens": int((used["response_tokens"] < shortest).sum()),
    }
    told = [f"{count} {why}" for why, count in counts.items() if count]
    notes = [f"Followed or not: of {len(tuned.units)} responses {', '.join(told)}."] if told else []
    lost, asked = sum(int((~one).sum()) for one in readings), sum(len(one) for one in readings)
    return [*notes, *([f"The judge gave {asked} answers, of which {lost} could not be read."] if lost else [])]


def _sentence(score: Score, used: pd.DataFrame) -> str:
    counts: Mapping[bool, int] = (used["rating"] >= FOLLOWED).value_counts().to_dict()
    if score.n == 0:
        return (
            f"{counts.get(True, 0)} rated responses follow their instruction and {counts.get(False, 0)} do not, so the "
            "two cannot be compared."
        )
    verb = "leans" if score.low > 0 or score.high < 0 else "does not clearly lean"
    return (
        f"Where its response follows the instruction ({counts[True]} prompts), the tuned model {verb} on the "
        f"instruction {'more' if score.value > 0 else 'less'} than where it does not ({counts[False]}): "
        f"{score.value:+.2f} [{score.low:+.2f}, {score.high:+.2f}]."
    )
