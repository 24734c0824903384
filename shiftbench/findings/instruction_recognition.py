"""Finding 1: the tuned model's responses rest more on the instruction in the prompt.

Wu et al. 2023, section 4.1; docs/mathematics.md, 'Instruction recognition'.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from shiftbench import ops
from shiftbench.contracts.claim import Claim
from shiftbench.contracts.explainer import Explainer
from shiftbench.contracts.finding import Finding, Group
from shiftbench.contracts.need import RESPONSES_OF_BOTH, Need
from shiftbench.contracts.result import Figure, Kind, Result, Saliency, Score, ScoreFact
from shiftbench.errors import InputError
from shiftbench.findings.change import mean_change
from shiftbench.findings.length import by_length, cut_to_shorter, figure
from shiftbench.findings.specificity import (
    CONTRASTS,
    PARTS,
    THIRDS,
    paired_differences,
    paired_tests,
    part_densities,
    part_table,
)
from shiftbench.readers.numbers import check_number, check_whole
from shiftbench.stats import Bootstrap, paired_effect, paired_p, sign_flip, welch
from shiftbench.store.explanation import Explanation, Unit

POSITION_BINS = 10
QUANTITIES = ("recognition", "context", *(part for part in PARTS if part != "context"), *CONTRASTS)
COLUMNS = [
    *("prompt", "prompt_tokens", "response_tokens", "response_tokens_tuned"),
    *(f"{name}_{model}" for name in QUANTITIES for model in ("base", "tuned")),
]


RECOGNITION = "recognition score (docs/mathematics.md), tuned - base"
DENSITY = "importance density, tuned - base"
FACTS = {
    "recognition": ScoreFact(
        "use of the instruction's words",
        RECOGNITION,
        "the tuned model's responses rest more on the words of the instruction than the base model's do",
        "both models' responses rest on the words of the instruction to the same extent",
    ),
    "prompt_density_rise": ScoreFact(
        "use of the whole prompt",
        DENSITY,
        "the mean density of all prompt tokens is larger in the tuned model",
        "the mean density of all prompt tokens is the same in both models",
    ),
    "context_density_fall": ScoreFact(
        "fall of the context's density",
        "importance density, base - tuned",
        "the tuned model's responses rest less on the context than the base model's do",
        "both models' responses rest on the context to the same extent",
    ),
    "specificity": ScoreFact(
        "instruction against all other tokens",
        DENSITY,
        "the instruction's mean density rose by more than that of the prompt's other tokens",
        "the mean densities of the instruction and of the prompt's other tokens changed equally",
    ),
    "context_specificity": ScoreFact(
        "instruction against context",
        DENSITY,
        "the instruction's mean density rose by more than the context's",
        "the mean densities of the instruction and of the context changed equally",
    ),
    **{
        f"{third}_rise": ScoreFact(
            f"density of the prompt's {third.replace('_', ' ')}",
            DENSITY,
            f"the tokens in the {third.replace('_', ' ')} of the prompt have a larger mean density in the tuned model",
            f"the tokens in the {third.replace('_', ' ')} of the prompt have the same mean density in both models",
            Kind.DIAGNOSTIC,
        )
        for third in THIRDS
    },
    "recognition_min_len": ScoreFact(
        "use of the instruction's words, responses of equal length",
        RECOGNITION,
        "with both responses cut to the length of the shorter, tuned's still rest more on the words of the instruction",
        "with both responses cut to the length of the shorter, both models' rest on the instruction's words equally",
        Kind.DIAGNOSTIC,
    ),
}

CLAIMS = (
    Claim(
        score="recognition",
        short="recognises the instruction",
        statement="the tuned model recognises the instruction more than the base model does",
        opposite="the tuned model's responses rest less on the instruction than the base model's do",
        observations="prompts",
        floor=10,
        zero_is_null=True,
        attributions=True,
        specific=CONTRASTS,
        not_specific="the rest of the prompt gained as much as the instruction",
    ),
    Claim(
        score="prompt_density_rise",
        short="leans more on the whole prompt",
        statement="the tuned model leans more on the whole prompt than the base model does",
        opposite="the tuned model leans less on the whole prompt than the base model does",
        observations="prompts",
        floor=10,
        zero_is_null=True,
        attributions=True,
    ),
)


CAPTIONS = {
    "table2": (
        "One row is one quantity: the recognition score, and the mean density of the context. The columns have its "
        "mean and standard deviation over prompts in each model, the paper's one-sided Welch test, and tests that "
        "pair the two models on each prompt. n is the number of prompts."
    ),
    "parts": (
        "One row is one part of the prompt in one model. The columns have the mean importance density of its tokens "
        "over prompts, its interval, the standard deviation over prompts, and the number of prompts that have such a "
        "part."
    ),
    "tests": (
        "One row is one quantity. The columns have its mean difference, tuned - base, over prompts with its "
        "interval, the p of two tests that pair the models on each prompt, the second corrected for the rows of this "
        "table (Holm), and the effect size d."
    ),
    "by_length": (
        "One row is one model, or the difference of both, where only so many first tokens of the response count. The "
        "columns have the mean recognition score with its interval, over the n prompts whose responses are long "
        "enough."
    ),
    "prompts": (
        "One row is one prompt. The columns have the numbers of tokens, the recognition score in each model, and the "
        "mean importance density of each part of the prompt in each model. An empty part is n/a."
    ),
}


@dataclass(frozen=True)
class InstructionRecognition(Finding):
    """Compares the importance density of instruction tokens in base and in tuned, over the same prompts.

    explain: gives the attributions of each model. cutoff: levels at or below it count as 0. p: the order of the second
    norm in the density, l1 / lp; 4 in the paper; InputError where it is below 1. saliency: at most how many prompts the
    report shows token by token.
    """

    explain: Explainer
    cutoff: int
    p: float
    saliency: int
    bootstrap: Bootstrap
    name: ClassVar[str] = "instruction_recognition"
    version: ClassVar[int] = 2
    group: ClassVar[Group] = Group.ATTRIBUTION
    needs: ClassVar[frozenset[Need]] = RESPONSES_OF_BOTH
    facts: ClassVar[Mapping[str, ScoreFact]] = FACTS
    claims: ClassVar[Sequence[Claim]] = CLAIMS

    def __post_init__(self) -> None:
        check_density(self.name, self.cutoff, self.p)
        check_whole(f"{self.name}: saliency", self.saliency, 0)

    def __call__(self, base: Explanation, tuned: Explanation) -> Result:
        """The result over the prompts that both explanations have and that have an instruction token in base's unit."""
        shared = [name for name in base.units if name in tuned.units]
        used = [name for name in shared if bool(base.units[name].arrays["instruction_P"].any())]
        rows = pd.DataFrame([self._row(name, base.units[name], tuned.units[name]) for name in used], columns=COLUMNS)
        pairs = [(base.units[name], tuned.units[name]) for name in used]
        lengths = by_length(pairs, self._recognition, self.bootstrap)
        changed = paired_differences(rows, ("recognition", *CONTRASTS, *PARTS))
        scores = [*self._scores(rows), *(self._score(name, changed[name]) for name in CONTRASTS)]
        scores.append(self._score("prompt_density_rise", changed["all_tokens"]))
        scores += [self._score(f"{name}_rise", changed[name]) for name in THIRDS]
        # Where the two responses to each prompt are equally long, recognition_min_len would only repeat recognition.
        if (rows["response_tokens"] != rows["response_tokens_tuned"]).any():
            scores.append(self._score("recognition_min_len", pd.Series(cut_to_shorter(pairs, self._recognition))))
        return Result(
            finding=self.name,
            captions=CAPTIONS,
            headline="recognition",
            sentence=_sentence(scores[0], rows, len(shared) - len(used)),
            scores=scores,
            tables={
                "table2": _table2(rows, self.bootstrap.seed),
                "parts": part_table(rows, self.bootstrap),
                "tests": paired_tests(changed, self.bootstrap),
                "by_length": lengths,
                "prompts": rows,
            },
            figures=[self._figure(used, base, tuned), figure(lengths)],
            saliency=self._saliency(used, base, tuned),
            inapplicable=_inapplicable(rows),
        )

    def _density(self, unit: Unit) -> Tensor:
        return density(unit, self.cutoff, self.p)

    def _recognition(self, unit: Unit, tokens: int) -> float:
        return recognition(unit, self.cutoff, self.p, tokens)

    def _row(self, name: str, base: Unit, tuned: Unit) -> dict[str, object]:
        tokens, responses = base.arrays["level_PR"].shape
        row: dict[str, object] = {
            "prompt": name,
            "prompt_tokens": tokens,
            "response_tokens": responses,
            "response_tokens_tuned": tuned.arrays["level_PR"].shape[1],
        }
        for model, unit in (("base", base), ("tuned", tuned)):
            density_P = self._density(unit)
            row[f"recognition_{model}"] = recognition_score(density_P, unit.arrays["instruction_P"])
            row |= {f"{part}_{model}": mean for part, mean in part_densities(density_P, unit).items()}
        return row

    def _scores(self, rows: pd.DataFrame) -> list[Score]:
        with_context = rows.dropna(subset=["context_base", "context_tuned"])
        return [
            self._score("recognition", rows["recognition_tuned"] - rows["recognition_base"]),
            # base - tuned: in the paper the context loses density, so a fall is the positive direction.
            self._score("context_density_fall", with_context["context_base"] - with_context["context_tuned"]),
        ]

    def _score(self, name: str, differences: pd.Series) -> Score:
        return mean_change(self.name, name, differences, self.bootstrap)

    def _figure(self, used: Sequence[str], base: Explanation, tuned: Explanation) -> Figure:
        rows = []
        for model, explanation in (("base", base), ("tuned", tuned)):
            # Tokens of one prompt are not independent, so each prompt is one observation for each tenth of its length.
            by_tenth = pd.DataFrame([_by_position(self._density(explanation.units[name])) for name in used])
            for tenth in by_tenth:
                mean = self.bootstrap.mean(by_tenth[tenth].dropna())
                rows.append((model, (int(tenth) + 0.5) / POSITION_BINS, mean.value, mean.low, mean.high))
        return Figure(
            name="density_by_position",
            title="Importance density by position in the prompt",
            kind="line",
            table=pd.DataFrame(rows, columns=["model", "position", "density", "low", "high"]),
            x="position",
            y="density",
            series="model",
            low="low",
            high="high",
            dashed=("base",),
            x_label="position in the prompt (0 = first token, 1 = last)",
            y_label="mean importance density",
        )

    def _saliency(self, used: Sequence[str], base: Explanation, tuned: Explanation) -> list[Saliency]:
        """The densities, token by token, of up to `saliency` prompts with tuned's longest responses, longest first.

        Long responses are chosen because under a short one few prompt tokens have a density above 0. used: the prompts'
        ids. Prompts whose tokens differ between the models, as where one model has a chat template, are left out.
        """
        pairs = [(name, base.units[name], tuned.units[name]) for name in used]
        same_tokens = [row for row in pairs if row[1].words["prompt_tokens"] == row[2].words["prompt_tokens"]]
        same_tokens.sort(key=lambda row: -row[2].arrays["level_PR"].shape[1])
        return [self._one_saliency(*row) for row in same_tokens[: self.saliency]]

    def _one_saliency(self, name: str, base: Unit, tuned: Unit) -> Saliency:
        base_P, tuned_P = self._density(base), self._density(tuned)
        return Saliency(
            prompt_id=name,
            tokens=tuned.words["prompt_tokens"],
            instruction=tuned.arrays["instruction_P"].tolist(),
            base_density=base_P.tolist(),
            tuned_density=tuned_P.tolist(),
            response="".join(tuned.words["response_tokens"]),
            base_score=recognition_score(base_P, base.arrays["instruction_P"]),
            tuned_score=recognition_score(tuned_P, tuned.arrays["instruction_P"]),
        )


def check_density(finding: str, cutoff: int, p: float) -> None:
    """Raise InputError where an option of the density is none.

    cutoff: a whole number of at least 0. p: a number of at least 1, because it is else not the order of a norm.
    finding: for the message.
    """
    check_whole(f"{finding}: cutoff", cutoff, 0)
    check_number(f"{finding}: p", p)
    if p < 1:
        raise InputError(f"{finding}: p={p} must be at least 1, the order of a norm")


def density(unit: Unit, cutoff: int, p: float, tokens: int | None = None) -> Tensor:
    """density_P: each prompt token's ops.importance_density, from its levels for the first `tokens` response tokens.

    unit: a unit of attributions, with level_PR. cutoff: levels at or below it count as 0. p: the order of the norm.
    tokens: None for all response tokens. The levels of a response token are relative to the largest importance in that
    token's column, so leaving out other response tokens does not change them.
    """
    return ops.importance_density(unit.arrays["level_PR"][:, :tokens].contiguous(), cutoff=cutoff, p=p)


def recognition(unit: Unit, cutoff: int, p: float, tokens: int | None = None) -> float:
    """The recognition score of one prompt in one model, from the levels for the first `tokens` response tokens.

    unit: a unit of attributions. The parameters are those of `density`; tokens: None for all response tokens.
    """
    return recognition_score(density(unit, cutoff, p, tokens), unit.arrays["instruction_P"])


def recognition_score(density_P: Tensor, instruction_P: Tensor) -> float:
    """The sum of the instruction tokens' densities, divided by log2(2 + the number of instruction tokens).

    instruction_P: bool, which prompt tokens belong to the instruction; where none does, the score is 0.
    docs/mathematics.md, 'Instruction recognition'.
    """
    count = int(instruction_P.sum())
    return float(density_P[instruction_P].sum(dtype=torch.float64)) / math.log2(2 + count)


def _by_position(density_P: Tensor) -> pd.Series:
    """The mean density of the tokens in each tenth of the prompt, indexed by tenth, 0 to 9.

    In a prompt of fewer than ten tokens some tenths have no token; they are not in the index.
    """
    density = density_P.numpy()
    tenth = np.arange(len(density)) * POSITION_BINS // max(len(density), 1)
    return pd.Series(density).groupby(tenth).mean()


def _table2(rows: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The paper's Table 2: a row for the recognition score and a row for the context's density.

    Each row has mean and standard deviation of both models and the paper's one-sided Welch test (base < tuned). Added
    to the paper's: the paired t-test, the sign-flip test (with `seed`) and Cohen's d. rows: one for each prompt; a
    prompt where the quantity is NaN in a model is left out of that quantity's row.
    """
    table_rows = []
    for name in ("recognition", "context"):
        both = rows.dropna(subset=[f"{name}_base", f"{name}_tuned"])
        base, tuned = both[f"{name}_base"], both[f"{name}_tuned"]
        t, p = welch(base, tuned, "less")
        table_rows.append(
            {
                "quantity": "instruction recognition score" if name == "recognition" else "context density",
                "base mean": base.mean(),
                "base std": base.std(ddof=1),
                "tuned mean": tuned.mean(),
                "tuned std": tuned.std(ddof=1),
                "Welch t (base < tuned)": t,
                "Welch p, one-sided": p,
                "paired p, two-sided": paired_p(tuned - base),
                "sign-flip p, two-sided": sign_flip(tuned - base, "two-sided", seed).p,
                "Cohen's d, paired": effect.d if (effect := paired_effect(tuned - base)) else None,
                "n": len(both),
            }
        )
    return pd.DataFrame(table_rows)


def _inapplicable(rows: pd.DataFrame) -> str:
    if rows.empty:
        return "no prompt has an instruction"
    return "" if rows["response_tokens"].any() else "no response has a token"


def _sentence(score: Score, rows: pd.DataFrame, without_instruction: int) -> str:
    if rows.empty:
        return "No prompt has an instruction, so nothing can be said about its recognition."
    if not rows["response_tokens"].any():
        return "No response has a token, so nothing can be said about the recognition of instructions."
    left_out = f" ({without_instruction} prompts without an instruction left out)" if without_instruction else ""
    if score.n == 0:
        return f"Both models use the instruction in the same way: the recognition score did not change{left_out}."
    base, tuned = rows["recognition_base"].mean(), rows["recognition_tuned"].mean()
    clear = score.low > 0 or score.high < 0
    verb = "uses" if clear else "does not clearly use"
    direction = "more" if score.value > 0 else "less"
    return (
        f"The tuned model {verb} the words of the instruction {direction} than the base model does: its recognition "
        f"score is {tuned:.2f} against {base:.2f}, a difference of {score.value:+.2f} "
        f"[{score.low:+.2f}, {score.high:+.2f}] over {score.n} prompts{left_out}."
    )
