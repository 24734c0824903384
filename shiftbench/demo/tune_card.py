"""The card of a model that shiftbench.demo.tune made: its data, recipe, losses and some of its answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

from shiftbench.demo.card import shown_answers
from shiftbench.demo.corpora import Triple

WIDTH = 120  # columns of a card's paragraphs
MADE = {
    "lora": "A PEFT (LoRA) adapter on {base}, of rank {rank} on all linear layers but the output layer, in bfloat16.",
    "full": "{base} after instruction tuning of all parameters, in float32.",
}


def tune_card(
    base_name: str,
    gguf_file: str | None,
    parameters: str,
    options: Mapping[str, Any],
    rows: int,
    losses: Mapping[str, Any],
    triples: Sequence[Triple],
    answers: Mapping[str, Sequence[str]],
) -> str:
    """The text of the card, in Markdown.

    base_name: the base, by its name on the hub. gguf_file: name of the GGUF file whose weights were trained, or None.
    parameters: lora or full. options: the fields of tune.Options. rows: the number of training triples. losses: what
    losses.json holds. triples, answers: as in `shown_answers`.
    """
    made = MADE[parameters].format(base=f"`{base_name}`", rank=options["adapter_rank"])
    made += (
        " Made so that shiftbench has a pair of a real model whose tuning is known in every step. It is not useful for "
        "anything else: what it says is neither true nor safe to rely on."
    )
    if gguf_file:
        made += (
            f" The base's weights were read from the GGUF file `{gguf_file}` and dequantised to float32. They differ "
            f"from those of `{base_name}` by the error of the quantisation."
        )
    recipe = (
        f"`python -m shiftbench.demo.tune parameters={parameters}`, with the values of `conf/demo_tune.yaml`: "
        + ", ".join(f"{key} {value}" for key, value in options.items() if key != "learning_rate")
        + f", learning rate {options['learning_rate'][parameters]}."
    )
    titles = list(losses["before"])
    draws = options["steps"] * options["rows_per_step"]
    table = "\n".join(
        f"| {name} | " + " | ".join(f"{losses[key][title]:.3f}" for title in titles) + " |"
        for name, key in (("base", "before"), ("tuned", "after"))
    )
    curve = "\n".join(
        f"| {point['step']} | {f'{loss:.3f}' if (loss := point.get('loss')) is not None else ''} "
        f"| {point['held_out']:.3f} |"
        for point in losses["curve"]
    )
    return f"""---
license: apache-2.0
base_model: {base_name}
library_name: {"peft" if parameters == "lora" else "transformers"}
language: en
---

# {base_name.rsplit("/", 1)[-1]}, tuned on instruction triples ({parameters})

{fill(made, WIDTH)}

## Data and licenses

- Base: {base_name}, Apache-2.0.
- {draws:,} draws from {rows:,} instruction triples of at most {options["longest_row"]} tokens: T0 templates (P3) as
  distributed with Self-Instruct, and Self-Instruct seed tasks (Apache-2.0; the sets that the T0 passages come from have
  terms of their own). One instruction in twenty is held out with all its rows, and one row in fifty of the others.

The weights are released under Apache-2.0 as far as the data's own terms allow.

## Recipe

{fill(recipe, WIDTH)}

A triple is written as shiftbench writes Self-Instruct's prompts: the instruction, `Input:` with the input where there
is one, and `Output:`. There is no chat template. The loss is on the tokens of the answer and on the end of text. The
optimizer is AdamW (betas 0.9 and 0.95, no weight decay, gradients clipped at norm 1); the learning rate rises linearly
over the warm-up and then falls linearly, nearly to 0.

## Held-out loss (nats a token, mean over answers)

| model | {" | ".join(titles)} |
|---|{"---|" * len(titles)}
{table}

## Training loss (mean since the row above), and held-out loss (a third of the answers to held-out instructions)

| step | training | held-out |
|---|---|---|
{curve}

## Answers to held-out instructions

{shown_answers(triples, answers)}
"""
