"""The summary of a made-up run of realistic size, drawn from a seed: 8 layers of 6 heads, 60 prompts, 38 verbs."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timezone

import numpy as np
import pandas as pd

from shiftbench.contracts.result import Figure, Result, Saliency, Score, no_change
from shiftbench.findings.concept_rotation import ConceptRotation
from shiftbench.findings.instruction_recognition import InstructionRecognition
from shiftbench.findings.instruction_verbs import InstructionVerbs
from shiftbench.report import RunSummary
from shiftbench.verdicts import Evidence, Null, Verdict, decide

LAYERS, HEADS, PROMPTS = 8, 6, 60
VERBS = (
    "add", "analyze", "arrange", "ask", "calculate", "change", "check", "choose", "classify", "compare", "convert",
    "correct", "count", "create", "describe", "design", "edit", "explain", "extract", "fill", "find", "generate",
    "give", "identify", "list", "make", "name", "organize", "paraphrase", "predict", "provide", "rank", "rewrite",
    "suggest", "summarize", "translate", "verify", "write",
)  # fmt: skip
PROMPT = (
    "Rewrite the following sentence so that it is polite and brief.\n\n"
    "Sentence: send me the naïve report now, or else we will not pay you.\n\tOutput:"
)
INSTRUCTION_END = PROMPT.index("\n")
RESPONSE = "Could you please send me the report?\nWithout it we are unable to arrange the payment."


def summary(seed: int = 0) -> RunSummary:
    """A pair for which every finding holds; one score has n = 0 and one is NaN."""
    draw = np.random.default_rng(seed)
    return RunSummary(
        pair={
            "name": "demo", "base": "shiftbench-demo-base", "tuned": "shiftbench-demo-tuned", "family": "demo",
            "size": "3.1M", "digests": {"base": "5f2c" * 16, "tuned": "a91b" * 16},
        },
        versions={"shiftbench": "0.1.0", "torch": "2.13.0", "transformers": "5.23.0"},
        results=[_recognition(draw), _verbs(draw), _rotation(draw)],
        notes=[
            "2 prompts were skipped: they do not fit the context of 512 tokens (user_oriented_task_31, _118).",
            "Words without a static vector (41 of 5,000) never pair.",
        ],
        config="pair:\n  base: demo/base\n  tuned: demo/tuned\ndataset:\n  limit: 60\nseed: 0\n",
    )  # fmt: skip


def every_word(seed: int = 0) -> RunSummary:
    """The summary with a verdict of each word, with time, command and facts."""
    run = summary(seed)
    findings = {found.name: found for found in (InstructionRecognition, InstructionVerbs, ConceptRotation)}
    return dataclasses.replace(
        run,
        pair={**run.pair, "dataset": "self_instruct", "prompts": 62, "prompts_explained": 60, "suite": "demo"},
        verdicts=verdicts(),
        given=["pair=demo", "suite=demo", "control=permuted", "control.draws=199"],
        finished=datetime(2026, 3, 1, 14, 5, tzinfo=timezone.utc),
        facts={
            name: {fact: meaning for fact, meaning in found.facts.items() if "*" not in fact}
            | ({"mean_angle_10_rad": found.facts["mean_angle_*_rad"]} if "mean_angle_*_rad" in found.facts else {})
            for name, found in findings.items()
        },
    )


def verdicts() -> list[Verdict]:
    """A verdict of each word: supported, opposite, not clear, not trustworthy, not applicable, in that order."""
    recognition, prompt = InstructionRecognition.claims[:2]
    verbs, concepts = InstructionVerbs.claims[0], ConceptRotation.claims[0]
    far = Null("permuted", 199, 0.011, -0.042, 0.061, 199)
    near = Null("permuted", 199, -0.079, -0.214, 0.049, 121)

    def score(finding: str, name: str, value: float, half: float, n: int) -> Score:
        return Score(finding, name, value, value - half, value + half, 1e-4, n)

    first, second, third = (found.name for found in (InstructionRecognition, InstructionVerbs, ConceptRotation))
    specific = [score(first, name, 0.1, 0.05, 60) for name in recognition.specific]
    return [
        decide(recognition, Evidence(score(first, "recognition", 0.307, 0.11, 60),
               score(first, "recognition_over_null", 0.296, 0.12, 60), far, specific, p=0.002, tests=4)),
        decide(concepts, Evidence(score(third, "none_share_fall", -0.135, 0.046, 768),
               score(third, "none_share_fall_over_null", -0.12, 0.05, 768), far, p=0.008, tests=4)),
        decide(verbs, Evidence(score(second, "verbs", -0.142, 0.26, 14),
               score(second, "verbs_over_null", -0.063, 0.35, 14), near, p=1.0, tests=4)),
        decide(verbs, Evidence(score(second, "verbs", -0.142, 0.26, 14), None, None, p=0.3, tests=4)),
        decide(prompt, Evidence(score(first, "prompt_density_rise", 0.082, 0.03, 60), None, None, p=0.004, tests=4,
               unfaithful=frozenset({"base"}))),
        decide(recognition, Evidence(no_change(first, "recognition"), None, None,
               inapplicable="no prompt has an instruction")),
    ]  # fmt: skip


def tokens(text: str) -> list[str]:
    """The text cut as a byte-level tokenizer cuts it: a space goes with the word after it, a line break is alone."""
    cut: list[str] = []
    for character in text:
        if cut and character.isalpha() and (cut[-1][-1].isalpha() or cut[-1] == " "):
            cut[-1] += character
        else:
            cut.append(character)
    return cut


def _recognition(draw: np.random.Generator) -> Result:
    name = "instruction_recognition"
    rows = pd.DataFrame(
        {
            "prompt": [f"user_oriented_task_{i}" for i in range(PROMPTS)],
            "prompt_tokens": draw.integers(20, 90, PROMPTS),
            "recognition_base": draw.normal(0.32, 0.1, PROMPTS),
            "recognition_tuned": draw.normal(0.55, 0.12, PROMPTS),
        }
    )
    table2 = pd.DataFrame(
        {
            "quantity": ["instruction recognition score", "context density"],
            "base mean": [0.321, 0.412], "base std": [0.10, 0.08], "tuned mean": [0.552, 0.371],
            "tuned std": [0.12, 0.09], "Welch t (base < tuned)": [-9.1, 2.2], "Welch p, one-sided": [2.4e-11, 0.984],
            "paired p, two-sided": [6.3e-7, 0.03], "n": [60, 41],
        }
    )  # fmt: skip
    position = np.tile((np.arange(10) + 0.5) / 10, 2)
    density = np.r_[0.42 - 0.2 * position[:10], 0.62 - 0.5 * position[:10]] + draw.normal(0, 0.02, 20)
    table = pd.DataFrame(
        {
            "model": ["base"] * 10 + ["tuned"] * 10,
            "position": position,
            "density": density,
        }
    )
    table = table.assign(low=table["density"] - 0.05, high=table["density"] + 0.05)
    figure = Figure(
        "density_by_position", "Importance density by position in the prompt", "line", table, "position", "density",
        "model", "low", "high", ("base",), x_label="position in the prompt (0 = first token, 1 = last)",
        y_label="mean importance density",
    )  # fmt: skip
    return Result(
        finding=name,
        headline="recognition",
        sentence="The tuned model uses the words of the instruction more than the base model does: its recognition "
        "score is 0.55 against 0.32, a difference of +0.23 [+0.18, +0.28] over 60 prompts.",
        scores=[
            Score(name, "recognition", 0.23, 0.18, 0.28, 6.3e-7, 60),
            Score(name, "context_density_fall", 0.041, 0.004, 0.078, 0.03, 41),
        ],
        tables={"table2": table2, "prompts": rows},
        figures=[figure],
        saliency=[_saliency(draw, f"user_oriented_task_{i}") for i in (3, 17)],
    )


def _saliency(draw: np.random.Generator, name: str) -> Saliency:
    cut = tokens(PROMPT)
    place = np.cumsum([0, *map(len, cut[:-1])])
    instruction = [bool(start < INSTRUCTION_END and token.strip()) for start, token in zip(place, cut, strict=True)]
    base = draw.uniform(0, 0.6, len(cut))
    tuned = np.clip(draw.uniform(0, 0.5, len(cut)) + 0.5 * np.array(instruction), 0, 1)
    return Saliency(name, cut, instruction, base.tolist(), tuned.tolist(), RESPONSE, 0.31, 0.58)


def _verbs(draw: np.random.Generator) -> Result:
    name = "instruction_verbs"
    quarters = ["1", "2", "3", "4", "all"]
    bars = pd.DataFrame(
        {
            "kind": ["general"] * 5 + ["instruction"] * 5,
            "quarter": quarters * 2,
            "share": draw.uniform(0.3, 0.6, 10),
        }
    )
    bars = bars.assign(low=bars["share"] - 0.06, high=bars["share"] + 0.06)
    verbs = pd.DataFrame(
        {
            "kind": "instruction",
            "verb": VERBS,
            "share": draw.uniform(0.2, 0.8, len(VERBS)),
        }
    )
    layers, heads = np.indices((LAYERS, HEADS))
    change = draw.integers(-9, 14, LAYERS * HEADS)
    heat = pd.DataFrame({"layer": layers.ravel(), "head": heads.ravel(), "change": change})
    pairs = pd.DataFrame(
        {
            "word": draw.choice(VERBS, 150),
            "other word": draw.choice(VERBS, 150),
            "gain": 2,
        }
    )
    return Result(
        finding=name,
        headline="verbs",
        sentence="Among heads that changed, word pairs with instruction verbs grew not clearly more or less often than "
        "those with general verbs: 52% against 49%, a difference of +0.031 [-0.022, +0.081].",
        scores=[
            Score(name, "verbs", 0.031, -0.022, 0.081, 0.21, 76),
            *(Score(name, f"verbs_quarter_{q}", 0.02 * q - 0.05, 0.02 * q - 0.1, 0.02 * q, 0.4, 70) for q in (1, 2, 3)),
            Score(name, "verbs_quarter_4", 0.0, 0.0, 0.0, None, 0),
        ],
        tables={"table3": bars.pivot(index="quarter", columns="kind", values="share"), "verbs": verbs, "pairs": pairs},
        figures=[
            Figure("heads", "Word pairs with instruction verbs, tuned - base", "heat", heat, "head", "change", "layer",
                   diverging=True, x_label="head", y_label="layer"),
            Figure("by_quarter", "Share of changed heads that gained pairs with a verb", "bar", bars, "quarter",
                   "share", "kind", "low", "high", x_label="quarter of the depth", y_label="mean share of heads"),
            Figure("by_verb", "Share of heads that gained pairs, by verb", "bar", verbs, "verb", "share", "kind"),
            _many(draw),
        ],
    )  # fmt: skip


def _many(draw: np.random.Generator) -> Figure:
    """A figure with 38 series, each for base and for tuned."""
    parts = [
        pd.DataFrame(
            {
                "quarter": [1, 2, 3, 4],
                "pairs": draw.uniform(0, 30, 4),
                "series": f"{verb}, {model}",
            }
        )
        for verb in VERBS
        for model in ("base", "tuned")
    ]
    dashed = tuple(f"{verb}, base" for verb in VERBS)
    return Figure("every_verb", "Pairs of each verb by quarter of the depth", "line", pd.concat(parts), "quarter",
                  "pairs", "series", dashed=dashed, x_label="quarter of the depth", y_label="pairs")  # fmt: skip


def _rotation(draw: np.random.Generator) -> Result:
    name = "concept_rotation"
    labels = {"phonology": 0.1, "morphology": 0.2, "syntax": 0.3, "semantics": 0.5}
    levels = pd.concat(
        pd.DataFrame(
            {
                "group": range(1, 9),
                "share": share + draw.normal(0, 0.02, 8),
                "series": f"{label}, {model}",
            }
        )
        for label, share in labels.items()
        for model in ("base", "tuned")
    )
    layers = pd.DataFrame({"layer": range(LAYERS)})
    for rank in (1, 10, 50, 96):
        layers[f"rank {rank}"] = np.linspace(33, 12 + rank / 10, LAYERS) + draw.normal(0, 1, LAYERS)
    angles = layers.melt("layer", var_name="series", value_name="degrees")
    return Result(
        finding=name,
        headline="none_share_fall",
        sentence="The feed-forward networks' concepts moved toward user tasks (share without a task fell by +0.021 "
        "[+0.004, +0.038]); their leading component subspaces turned by 27 degrees on average.",
        scores=[
            Score(name, "none_share_fall", 0.021, 0.004, 0.038, None, 768),
            Score(name, "mean_angle_10_rad", 0.47, 0.41, 0.53, None, 8),
            Score(name, "coding_share_rise", float("nan"), float("nan"), float("nan"), float("nan"), 0),
        ],
        tables={"layers": layers, "gone": pd.DataFrame(columns=["word"])},
        figures=[
            Figure("linguistic_levels", "Concepts of each linguistic level, by eighth of the depth", "line", levels,
                   "group", "share", "series", dashed=tuple(f"{label}, base" for label in labels),
                   x_label="eighth of the depth", y_label="share of concepts"),
            Figure("principal_angles", "Mean principal angle between base's and tuned's component subspaces", "line",
                   angles, "layer", "degrees", "series", x_label="layer", y_label="degrees"),
            Figure("nothing", "A picture without rows", "line", angles.head(0), "layer", "degrees", "series"),
        ],
    )  # fmt: skip
