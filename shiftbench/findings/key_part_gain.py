"""Probe: whether masking the instruction's key parts lowers the response's probability more in tuned than in base.

After arXiv 2403.10056; docs/probes.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import pandas as pd

from shiftbench.contracts.claim import Claim
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
        "masking the key parts lowers the response's log-probability more in the tuned model than in the base model",
        "masking the key parts lowers the response's log-probability equally in both models",
    ),
    "key_gain_over_random": ScoreFact(
        "the same, beyond as many other tokens",
        GAIN,
        "the difference between the models is larger for the key parts than for as many other tokens",
        "the difference between the models is the same for the key parts and for as many other tokens",
    ),
    "random_gain": ScoreFact(
        "what the response loses without as many other tokens",
        GAIN,
        "masking as many other tokens lowers the response's log-probability more in tuned than in base",
        "masking as many other tokens lowers the response's log-probability equally in both models",
        Kind.DIAGNOSTIC,
    ),
}

CLAIMS = (
    Claim(
        score="key_gain",
        short="depends on the key parts of the instruction",
        statement="tuned's responses depend more on the key parts of the instruction than base's do",
        opposite="tuned's responses depend less on the key parts of the instruction than base's do",
        observations="prompts",
        floor=10,
        zero_is_null=True,
        specific=("key_gain_over_random",),
        not_specific="other tokens gained as much as the key parts",
    ),
)


CAPTIONS = {
    "gains": (
        "One row is one model with the key parts of the instruction masked, or with as many other tokens masked. The "
        "columns have what the response loses by it, in nats of log-probability a token, with its interval over "
        "prompts."
    ),
    "prompts": (
        "One row is one prompt. The columns have its number of tokens, how many belong to the key parts, and what "
        "the response loses in each model where they, or as many other tokens, are masked, in nats a token."
    ),
}


@dataclass(frozen=True)
class KeyPartGain(Finding):
    """Compares the information gain of the instruction's key parts in base and in tuned.

    The gain of a mask is the mean log-probability of the response's tokens with nothing masked, less the same with the
    mask's tokens masked, in nats: what the response loses without these tokens.
    """

    explain: KeyParts
    bootstrap: Bootstrap
    name: ClassVar[str] = "key_part_gain"
    version: ClassVar[int] = 2
    group: ClassVar[Group] = Group.PROBE
    needs: ClassVar[frozenset[Need]] = RESPONSES_OF_BOTH
    facts: ClassVar[Mapping[str, ScoreFact]] = FACTS
    claims: ClassVar[Sequence[Claim]] = CLAIMS

    def __call__(self, base: Explanation, tuned: Explanation) -> Result:
        """The result over the prompts that both explanations have. A score is a mean of tuned's gain less base's gain.

        There is a score of the key parts, of as many random other tokens, and of the difference of the two.
        """
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
            captions=CAPTIONS,
            headline="key_gain",
            sentence=_sentence(scores[0], scores[1], rows),
            scores=scores,
            tables={"gains": gains, "prompts": rows},
            figures=[_figure(gains)],
        )

    def _score(self, name: str, differences: pd.Series) -> Score:
        return mean_change(self.name, name, differences, self.bootstrap)

    def _gains(self, rows: pd.DataFrame) -> pd.DataFrame:
        """A row for each mask (key parts, random other tokens) and model: the mean gain over prompts with its interval.

        rows: one for each prompt, with COLUMNS.
        """
        table_rows = []
        for mask, mask_label in MASKS.items():
            for model in MODELS:
                mean = self.bootstrap.mean(rows[f"{mask}_gain_{model}"])
                table_rows.append((mask_label, model, mean.value, mean.low, mean.high, len(rows)))
        return pd.DataFrame(table_rows, columns=["masked", "model", "gain", "low", "high", "n"])


def _row(name: str, base: Unit, tuned: Unit) -> dict[str, object]:
    key_tokens, tokens = base.arrays["tokens_2"].tolist()
    row: dict[str, object] = {"prompt": name, "tokens": tokens, "key_tokens": key_tokens}
    for model, unit in (("base", base), ("tuned", tuned)):
        row |= {f"{mask}_gain_{model}": gain for mask, gain in gains(unit).items()}
    return row


def gains(unit: Unit) -> dict[str, float]:
    """What a response loses in one model under the mask of the key parts ("key") and under random masks ("random").

    A loss is the mean log-probability of the response's tokens with nothing masked, less the same under the mask, in
    nats; that of "random" is the mean over the masks. unit: a unit of explain/key_parts.py.
    """
    log_by_mask = dict(zip(unit.words["masks"], unit.arrays["log_M"].double().tolist(), strict=True))
    random = [value for name, value in log_by_mask.items() if name.startswith(RANDOM)]
    return {"key": log_by_mask[NOTHING] - log_by_mask[KEY], "random": log_by_mask[NOTHING] - sum(random) / len(random)}


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


def _sentence(score: Score, over_random: Score, rows: pd.DataFrame) -> str:
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
        f"{over_random.value:+.2f} [{over_random.low:+.2f}, {over_random.high:+.2f}] beyond theirs."
    )
