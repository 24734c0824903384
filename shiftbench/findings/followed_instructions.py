"""Check: whether recognition scores are larger where the tuned model's response follows its instruction.

Wu et al. 2023, Table 1; docs/controls.md, 'Followed or not'.
"""

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
from shiftbench.findings.instruction_recognition import check_density, recognition
from shiftbench.findings.length import response_tokens
from shiftbench.ratings.scale import FOLLOWED, UNFOLLOWED
from shiftbench.readers.numbers import check_whole
from shiftbench.stats import Bootstrap, between_groups, independent_effect, welch
from shiftbench.store.explanation import Explanation, Unit

MODELS = ("tuned", "base")


FACTS = {
    f"followed_{variant}": ScoreFact(
        f"use of the instruction where the response follows it{label_end}",
        "recognition score of the tuned model, followed - not followed",
        "the tuned model's responses that follow their instruction rest more on it than those that do not",
        "the tuned model's responses rest on the instruction to the same extent, whether they follow it or not",
        Kind.LEVEL,
    )
    for variant, label_end in {"recognition": "", "recognition_first": ", first response tokens alone"}.items()
}


CAPTIONS = {
    "table1": (
        "One row is one model, with whole responses or with their first tokens alone. The columns have the "
        "recognition score of responses that follow their instruction and of those that do not, the difference with "
        "its interval, and tests of it."
    ),
    "prompts": (
        "One row is one prompt. The columns have the rating of the tuned model's response, its number of tokens, and "
        "the recognition scores of both models."
    ),
}


@dataclass(frozen=True)
class FollowedInstructions(Finding):
    """Compares the recognition scores of responses that follow their instruction with those of responses that do not.

    ratings: rates how far each response of the tuned model follows its instruction (shiftbench/ratings/scale.py). A
    response follows where its rating is 2 or more, and does not where it is 1; one that is rated -1 is left out. The
    scores are the mean of those that follow less the mean of those that do not. cutoff, p: options of the importance
    density; levels at or below cutoff count as 0, and p is the order of the norm. shortest: responses of fewer tokens
    are left out, as in the paper. first: the second score counts only this number of tokens at the start of each
    response, which limits the effect of the responses' length. Raises InputError where shortest, first or p is below 1.
    The scores are levels of the tuned model, not shifts. The table `table1` also has the base model's numbers on the
    same prompts.
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
        check_density(self.name, self.cutoff, self.p)
        for name in ("shortest", "first"):
            check_whole(f"followed_instructions: {name}", getattr(self, name), 1)

    def __call__(self, base: Explanation, tuned: Explanation, rated: Explanation) -> Result:
        """The result over prompts in all three explanations whose response is rated 1 or more and long enough.

        The table `prompts` has all prompts that are in all three explanations. A score is `no_change` where all of the
        responses that count follow their instruction, or none does.

        rated: the explanation by `ratings`; its units hold the rating of each response of the tuned model. Long enough:
        the tuned model's unit has at least `shortest` response tokens.
        """
        shared = [name for name in tuned.units if name in base.units and name in rated.units]
        rows = pd.DataFrame(
            [self._row(name, base.units[name], tuned.units[name], rated.units[name]) for name in shared],
            columns=[
                "prompt",
                "rating",
                "response_tokens",
                *(f"{variant}_{model}" for variant in self._variants for model in MODELS),
            ],
        )
        used = rows[(rows["rating"] >= UNFOLLOWED) & (rows["response_tokens"] >= self.shortest)]
        scores = [self._score(used, variant) for variant in self._variants]
        return Result(
            finding=self.name,
            captions=CAPTIONS,
            headline=scores[0].name,
            sentence=_sentence(scores[0], used),
            scores=scores,
            tables={"table1": self._table1(used), "prompts": rows},
            figures=[self._figure(used)],
            level=True,
            notes=_notes(tuned, rated, rows, self.shortest),
        )

    def ratings_of_responses(self) -> Ratings:
        """The option `ratings`, which rates how far each response follows its instruction."""
        return self.ratings

    @property
    def _variants(self) -> dict[str, int | None]:
        """The two variants of the score by name, each with how many response tokens count from the start; None: all."""
        return {"recognition": None, "recognition_first": self.first}

    def _row(self, name: str, base: Unit, tuned: Unit, rated: Unit) -> dict[str, object]:
        row: dict[str, object] = {
            "prompt": name, "rating": int(rated.arrays["rating_1"][0]), "response_tokens": response_tokens(tuned),
        }  # fmt: skip
        for variant, tokens in self._variants.items():
            for model, unit in (("tuned", tuned), ("base", base)):
                row[f"{variant}_{model}"] = recognition(unit, self.cutoff, self.p, tokens)
        return row

    def _score(self, used: pd.DataFrame, variant: str) -> Score:
        name = f"followed_{variant}"
        followed, unfollowed = _followed_and_not(used, f"{variant}_tuned")
        if followed.empty or unfollowed.empty:
            return no_change(self.name, name)
        mean = self.bootstrap.difference_of_means(followed, unfollowed)
        p = between_groups(used[f"{variant}_tuned"], used["rating"] >= FOLLOWED, self.bootstrap.seed).p
        return Score(self.name, name, mean.value, mean.low, mean.high, p, len(used))

    def _table1(self, used: pd.DataFrame) -> pd.DataFrame:
        """The paper's Table 1: a row for each variant and model, responses that follow against those that do not.

        Each row has mean, standard deviation and number of both groups, the difference of the means with its interval,
        Welch's one-sided test (unfollowed < followed) as in the paper, a two-sided permutation test and Hedges' g.
        used: a row for each response that counts.
        """
        table_rows = []
        for variant, tokens in self._variants.items():
            for model in MODELS:
                followed, unfollowed = _followed_and_not(used, f"{variant}_{model}")
                t, p = welch(unfollowed, followed, "less")
                effect = independent_effect(followed, unfollowed, self.bootstrap.confidence)
                mean = self.bootstrap.difference_of_means(followed, unfollowed)
                permuted = between_groups(used[f"{variant}_{model}"], used["rating"] >= FOLLOWED, self.bootstrap.seed)
                table_rows.append(
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
        return pd.DataFrame(table_rows)

    def _figure(self, used: pd.DataFrame) -> Figure:
        table_rows = []
        for rating, rows in used.groupby("rating"):
            for model in reversed(MODELS):
                mean = self.bootstrap.mean(rows[f"recognition_{model}"])
                table_rows.append((str(rating), model, mean.value, mean.low, mean.high, len(rows)))
        return Figure(
            name="recognition_by_rating",
            title="Instruction recognition by how far the response follows",
            kind="bar",
            table=pd.DataFrame(table_rows, columns=["rating", "model", "recognition", "low", "high", "n"]),
            x="rating",
            y="recognition",
            series="model",
            low="low",
            high="high",
            x_label="rating of the tuned model's response: 1 does not follow, 4 follows fully",
            y_label="mean recognition score",
        )


def _followed_and_not(used: pd.DataFrame, column: str) -> tuple[pd.Series, pd.Series]:
    """(followed, unfollowed): the column's values of responses that follow their instruction, and of the others.

    A response follows where its rating is at least FOLLOWED (2).
    """
    follows = used["rating"] >= FOLLOWED
    return used.loc[follows, column].astype(float), used.loc[~follows, column].astype(float)


def _notes(tuned: Explanation, rated: Explanation, rows: pd.DataFrame, shortest: int) -> list[str]:
    """Up to two notes: how many responses are left out and why, and how many of the judge's answers were unreadable.

    A note that would have nothing to say is not in the list. rows: a row for each response with a rating. shortest: the
    fewest tokens of a response that is used.
    """
    readings = [unit.arrays["answered_S"] for unit in rated.units.values() if "answered_S" in unit.arrays]
    unread = sum(not bool(answered_S.any()) for answered_S in readings)
    used = rows[rows["rating"] >= UNFOLLOWED]
    counts = {
        "have no rating": sum(name not in rated.units for name in tuned.units),
        "were judged in no answer that could be read": unread,
        "are excluded by their rating": int((rows["rating"] < UNFOLLOWED).sum()) - unread,
        f"have fewer than {shortest} tokens": int((used["response_tokens"] < shortest).sum()),
    }
    reasons = [f"{count} {why}" for why, count in counts.items() if count]
    notes = [f"Followed or not: of {len(tuned.units)} responses {', '.join(reasons)}."] if reasons else []
    unread_answers = sum(int((~answered_S).sum()) for answered_S in readings)
    if unread_answers:
        answers = sum(len(answered_S) for answered_S in readings)
        notes.append(f"The judge gave {answers} answers, of which {unread_answers} could not be read.")
    return notes


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
