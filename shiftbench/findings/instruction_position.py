"""Probe: whether the tuned model uses the instruction more than base, also where the context precedes the instruction.

After arXiv 2308.12097; docs/probes.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
import torch

from shiftbench.contracts.claim import Claim
from shiftbench.contracts.finding import Finding, Group
from shiftbench.contracts.need import RESPONSES_OF_BOTH, Need
from shiftbench.contracts.result import Figure, Result, Score, ScoreFact
from shiftbench.explain.position import FIRST, LAST, POSITIONS, PlacedAttribution, unit_name
from shiftbench.findings.change import mean_change
from shiftbench.findings.instruction_recognition import check_density, recognition
from shiftbench.stats import Bootstrap
from shiftbench.store.explanation import Explanation, Unit

MODELS = ("base", "tuned")
QUANTITIES = ("recognition", "log_probability")


FACTS = {
    **{
        f"recognition_{position}": ScoreFact(
            f"use of the instruction's words, instruction {position}",
            "recognition score, tuned - base",
            f"with the instruction {position} the tuned model's responses rest more on its words than the base model's",
            "both models' responses rest on the words of the instruction to the same extent",
        )
        for position in POSITIONS
    },
    "recognition_last_over_first": ScoreFact(
        "use of the instruction's words, last against first",
        "recognition score, tuned - base, last - first",
        "tuning raised the use of the instruction more where the instruction stands last",
        "tuning changed the use of the instruction equally in both places",
    ),
    "log_probability_last_over_first": ScoreFact(
        "the response's probability, last against first",
        "nats a response token, tuned - base, last - first",
        "tuning raised the response's probability more where the instruction stands last",
        "tuning changed the response's probability equally in both places",
    ),
}

CLAIMS = (
    Claim(
        score="recognition_last",
        short="recognises an instruction at the end",
        statement="the tuned model recognises an instruction that stands last more than the base model does",
        opposite="the tuned model's responses rest less on an instruction that stands last than the base model's do",
        observations="prompts",
        floor=10,
        zero_is_null=True,
        attributions=True,
    ),
)


CAPTIONS = {
    "positions": (
        "One row is one quantity, place of the instruction and model. The columns have its mean over prompts with "
        "its interval, and the number of prompts."
    ),
    "prompts": (
        "One row is one prompt. The columns have the recognition score and the response's log-probability in each "
        "model, with the instruction first and last."
    ),
}


@dataclass(frozen=True)
class InstructionPosition(Finding):
    """Compares both models' recognition scores on prompts with the instruction first, and with the instruction last.

    A prompt's score in one order is the mean over two responses: the one given to this order and the one given to the
    other order. An empty response is left out of the mean. cutoff, p: options of the importance density; levels at or
    below cutoff count as 0, and p is the order of the norm.
    """

    explain: PlacedAttribution
    cutoff: int
    p: float
    bootstrap: Bootstrap
    name: ClassVar[str] = "instruction_position"
    version: ClassVar[int] = 2
    group: ClassVar[Group] = Group.PROBE
    needs: ClassVar[frozenset[Need]] = RESPONSES_OF_BOTH
    facts: ClassVar[Mapping[str, ScoreFact]] = FACTS
    claims: ClassVar[Sequence[Claim]] = CLAIMS

    def __post_init__(self) -> None:
        check_density(self.name, self.cutoff, self.p)

    def __call__(self, base: Explanation, tuned: Explanation) -> Result:
        """The result over the prompts that both models' explanations have in both orders, each order on both responses.

        Prompts are left out where both responses are empty in a model's explanation.
        """
        sides = {"base": base.units, "tuned": tuned.units}
        rows = pd.DataFrame([self._row(prompt, sides) for prompt in _prompts(sides)], columns=_columns())
        shift = {
            (quantity, position): rows[f"{quantity}_{position}_tuned"] - rows[f"{quantity}_{position}_base"]
            for quantity in QUANTITIES
            for position in POSITIONS
        }
        scores = [
            self._score(f"recognition_{position}", shift["recognition", position]) for position in reversed(POSITIONS)
        ]
        scores += [
            self._score(f"{quantity}_last_over_first", shift[quantity, LAST] - shift[quantity, FIRST])
            for quantity in QUANTITIES
        ]
        position_table = self._position_table(rows)
        return Result(
            finding=self.name,
            captions=CAPTIONS,
            headline="recognition_last",
            sentence=_sentence({score.name: score for score in scores}, rows),
            scores=scores,
            tables={"positions": position_table, "prompts": rows},
            figures=[_figure(position_table, "recognition", "mean recognition score")],
        )

    def _row(self, prompt: str, sides: Mapping[str, Mapping[str, Unit]]) -> dict[str, object]:
        row: dict[str, object] = {"prompt": prompt}
        for model, units in sides.items():
            for position in POSITIONS:
                units_of_answers = [
                    units[unit_name(prompt, position, answer_position)] for answer_position in POSITIONS
                ]
                nonempty = [unit for unit in units_of_answers if unit.arrays["probability_R"].numel()]
                row[f"recognition_{position}_{model}"] = np.mean(
                    [recognition(unit, self.cutoff, self.p) for unit in nonempty]
                )
                row[f"log_probability_{position}_{model}"] = np.mean([_log_probability(unit) for unit in nonempty])
        return row

    def _score(self, name: str, differences: pd.Series) -> Score:
        return mean_change(self.name, name, differences, self.bootstrap)

    def _position_table(self, rows: pd.DataFrame) -> pd.DataFrame:
        """A row for each of QUANTITIES, position of the instruction and model: the mean over prompts with its interval.

        rows: one for each prompt, with the columns of _columns.
        """
        table_rows = []
        for quantity in QUANTITIES:
            for position in POSITIONS:
                for model in MODELS:
                    mean = self.bootstrap.mean(rows[f"{quantity}_{position}_{model}"])
                    table_rows.append((quantity, position, model, mean.value, mean.low, mean.high, len(rows)))
        return pd.DataFrame(table_rows, columns=["quantity", "instruction stands", "model", "mean", "low", "high", "n"])


def _columns() -> list[str]:
    return ["prompt", *(f"{q}_{position}_{model}" for q in QUANTITIES for position in POSITIONS for model in MODELS)]


def _prompts(sides: Mapping[str, Mapping[str, Unit]]) -> list[str]:
    """The ids of the prompts of which each model has all four units, at least one of them with a response token.

    sides: the units of "base" and "tuned" by name. The four units are both orders, each on the responses to both.
    """
    prompts = dict.fromkeys(name.rsplit("/", 2)[0] for name in sides["base"])
    names_of = {prompt: [unit_name(prompt, a, b) for a in POSITIONS for b in POSITIONS] for prompt in prompts}
    return [prompt for prompt, names in names_of.items() if all(_has_answers(units, names) for units in sides.values())]


def _has_answers(units: Mapping[str, Unit], names: Sequence[str]) -> bool:
    return all(name in units for name in names) and any(units[name].arrays["probability_R"].numel() for name in names)


def _log_probability(unit: Unit) -> float:
    """The mean log-probability of the unit's response tokens, in nats a token.

    A probability below float32's smallest normal number (1.2e-38) counts as that number, so that 0 does not give -inf.
    """
    probability_R = unit.arrays["probability_R"].double().clamp_min(torch.finfo(torch.float32).tiny)
    return float(probability_R.log().mean())


def _figure(position_table: pd.DataFrame, quantity: str, label: str) -> Figure:
    return Figure(
        name=f"{quantity}_by_position",
        title="Instruction recognition by where the instruction stands",
        kind="bar",
        table=position_table[position_table["quantity"] == quantity],
        x="instruction stands",
        y="mean",
        series="model",
        low="low",
        high="high",
        x_label="where the instruction stands, beside its context",
        y_label=label,
    )


def _sentence(scores: Mapping[str, Score], rows: pd.DataFrame) -> str:
    if rows.empty:
        return "No prompt has an instruction and a context that can change places, so position says nothing."
    last, first = scores["recognition_last"], scores["recognition_first"]
    if last.n == first.n == 0:
        return "Both models use the instruction in the same way, wherever it stands."
    sure = last.low > 0 or last.high < 0
    return (
        f"With the instruction behind its context the tuned model {'uses' if sure else 'does not clearly use'} its "
        f"words {'more' if last.value > 0 else 'less'} than the base model does: {last.value:+.2f} [{last.low:+.2f}, "
        f"{last.high:+.2f}], against {first.value:+.2f} with the instruction first, over {len(rows)} prompts."
    )
