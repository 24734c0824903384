"""Probe: does the response hang on the key parts of the instruction more after tuning? (arXiv 2403.10056)"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import pandas as pd

from shiftbench.contracts.finding import Finding, Group
from shiftbench.contracts.need import RESPONSES_OF_BOTH, Need
from shiftbench.contracts.result import Figure, Kind, Result, Score, ScoreFact
from shiftbench.explain.key_parts import KEY, NOTHING, RANDOM, KeyParts
from shiftbench.findings.change import mean_change
from shiftbench.stats import Bootstrap
from shiftbench.store.explanation import Explanation, Unit

MODELS = ("base", "tuned")
MASKS = {"key": "key parts", "random": "as many other tokens"}
COLUMNS = ["prompt", "tokens", "key_tokens", *(f"{mask}_gain_{model}" for mask in MASKS for model in MODELS)]


GAIN = "nats a response token, tuned - base"
FACTS = {
    "key_gain": ScoreFact(
        "what the response loses without the key parts",
        GAIN,
        "masking the key parts of the instruction costs the tuned model's response more than the base model's",
        "masking the key parts costs both models' responses the same",
    ),
    "key_gain_over_random": ScoreFact(
        "the same, beyond as many other tokens",
        GAIN,
        "the key parts gained more than as many other tokens did",
        "the key parts gained as much as other tokens did",
    ),
    "random_gain": ScoreFact(
        "what the response loses without as many other tokens",
        GAIN,
        "masking other tokens costs the tuned model's response more",
        "masking other tokens costs both models' responses the same",
        Kind.DIAGNOSTIC,
    ),
}


@dataclass(frozen=True)
class KeyPartGain(Finding):
    """Compares the information gain of the key parts in base and in tuned, on the same responses.

    The gain of a mask is log p(response) less log p(response, masked), in nats a response token.
    """

    explain: KeyParts
    bootstrap: Bootstrap
    name: ClassVar[str] = "key_part_gain"
    version: ClassVar[int] = 1
    group: ClassVar[Group] = Group.PROBE
    needs: ClassVar[frozenset[Need]] = RESPONSES_OF_BOTH
    facts: ClassVar[Mapping[str, ScoreFact]] = FACTS

    def __call__(self, base: Explanation, tuned: Explanation) -> Result:
        """Scores over the prompts that both explain: tuned's gain less base's, and that less what random masks do."""
        shared = [name for name in base.units if name in tuned.units]
        rows = pd.DataFrame([_row(name, base.units[name], tuned.units[name]) for name in shared], columns=COLUMNS)
        change = {mask: rows[f"{mask}_gain_tuned"] - rows[f"{mask}_gain_base"] for mask in MASKS}
        scores = [
            self._score("key_gain", change["key"]),
            self._score("key_gain_over_random", change["key"] - change["random"]),
            self._score("random_gain", change["random"]),
        ]
        gains = self._gains(rows)
        return Result(
            finding=self.name,
            headline="key_gain",
            sentence=_sentence(scores[0], scores[1], rows),
            scores=scores,
            tables={"gains": gains, "prompts": rows},
            figures=[_figure(gains)],
        )

    def _score(self, name: str, differences: pd.Series) -> Score:
        return mean_change(self.name, name, differences, self.bootstrap)

    def _gains(self, rows: pd.DataFrame) -> pd.DataFrame:
        """A row a mask and model: the mean gain over prompts with its interval."""
        lines = []
        for mask, called in MASKS.items():
            for model in MODELS:
                mean = self.bootstrap.mean(rows[f"{mask}_gain_{model}"])
                lines.append((called, model, mean.value, mean.low, mean.high, len(rows)))
        return pd.DataFrame(lines, columns=["masked", "model", "gain", "low", "high", "n"])


def _row(name: str, base: Unit, tuned: Unit) -> dict[str, object]:
    masked, tokens = base.arrays["tokens_2"].tolist()
    row: dict[str, object] = {"prompt": name, "tokens": tokens, "key_tokens": masked}
    for model, unit in (("base", base), ("tuned", tuned)):
        row |= {f"{mask}_gain_{model}": gain for mask, gain in gains(unit).items()}
    return row


def gains(unit: Unit) -> dict[str, float]:
    """In nats a response token: of the key parts, and of random other tokens, averaged over draws."""
    log = dict(zip(unit.words["masks"], unit.arrays["log_M"].double().tolist(), strict=True))
    random = [value for name, value in log.items() if name.startswith(RANDOM)]
    return {"key": log[NOTHING] - log[KEY], "random": log[NOTHING] - sum(random) / len(random)}


def _figure(gains: pd.DataFrame) -> Figure:
    return Figure(
        name="gain_by_mask",
        title="What the response loses where parts of the prompt are masked",
        kind="bar",
        table=gains,
        x="masked",
        y="gain",
        series="model",
        low="low",
        high="high",
        x_label="masked",
        y_label="log-probability lost, nats a response token",
    )


def _sentence(score: Score, over: Score, rows: pd.DataFrame) -> str:
    if rows.empty:
        return "No prompt has key parts and a response, so nothing can be said about what hangs on them."
    if score.n == 0:
        return "The response hangs on the key parts of the instruction in both models alike."
    mean: Mapping[str, float] = rows.drop(columns="prompt").mean()
    sure = score.low > 0 or score.high < 0
    return (
        f"Masking the key parts of the instruction costs the response {mean['key_gain_tuned']:.2f} nats a token in the "
        f"tuned model and {mean['key_gain_base']:.2f} in the base model, {'' if sure else 'not '}clearly a difference: "
        f"{score.value:+.2f} [{score.low:+.2f}, {score.high:+.2f}] over {score.n} prompts. Masking as many other "
        f"tokens costs {mean['random_gain_tuned']:.2f} and {mean['random_gain_base']:.2f}; the difference is "
        f"{over.value:+.2f} [{over.low:+.2f}, {over.high:+.2f}] beyond theirs."
    )
