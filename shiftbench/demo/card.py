"""The model cards of the demo models: what each is, its training data, its losses and some of its answers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import peft
import torch
from torch import nn
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from shiftbench.demo import MODELS
from shiftbench.demo.corpora import Triple, prompt_and_answer
from shiftbench.demo.losses import held_out_loss, plain_windows, single_answers

MAX_ANSWER_TOKENS = 60
DESCRIPTIONS = {
    "base": "A Llama-architecture language model trained from scratch on plain English text.",
    "tuned": "`base` after instruction tuning: all parameters, loss on the answer only.",
    "tuned_lora": "A PEFT (LoRA) adapter on `base`, from the same instruction triples as `tuned`, in the same order.",
    "continued": "`base` after as many further steps on plain text: trained, but not instructed. A control.",
}


def write_cards(
    out: Path,
    held_text: Sequence[str],
    held_rows: Sequence[Triple],
    held_instructions: Sequence[Triple],
    recipes: dict[str, object],
    device: str,
) -> dict[str, dict[str, float]]:
    """Measure all four models on held-out data, and write a README.md into each model's folder.

    out: the folder that has the tokenizer, the models and their loss curves. held_text: blocks of plain text.
    held_rows, held_instructions: held-out triples; see corpora.py. recipes: the Recipe of each model, by name. Returns
    the losses in nats a token, by model and then by held-out set, and writes them to losses.json in `out`.
    """
    tokenizer = PreTrainedTokenizerFast.from_pretrained(out / "tokenizer")
    sets = {
        "plain text": plain_windows(tokenizer, held_text),
        "answers, known instructions": single_answers(tokenizer, held_rows),
        "answers, held-out instructions": single_answers(tokenizer, held_instructions),
    }
    shown_triples = one_per_instruction(held_instructions, 5)
    losses: dict[str, dict[str, float]] = {}
    answers: dict[str, list[str]] = {}
    for name in MODELS:
        model = load(out, name).to(device)
        losses[name] = {title: held_out_loss(model, batches, device) for title, batches in sets.items()}
        answers[name] = [answer(model, tokenizer, prompt_and_answer(triple)[0], device) for triple in shown_triples]
    for name in MODELS:
        curve = json.loads((out / f"{name}.curve.json").read_text())
        (out / name / "README.md").write_text(
            card(name, curve, losses, shown_triples, answers[name], recipes[name]), encoding="utf-8"
        )
    (out / "losses.json").write_text(json.dumps(losses, indent=1) + "\n")
    return losses


def load(out: Path, name: str) -> nn.Module:
    """One of the four models in the folder `out`, in float32; tuned_lora is base inside a PEFT wrapper."""
    if name == "tuned_lora":
        base = LlamaForCausalLM.from_pretrained(out / "base", dtype=torch.float32)
        adapted: nn.Module = peft.PeftModel.from_pretrained(base, out / name)
        return adapted
    module: nn.Module = LlamaForCausalLM.from_pretrained(out / name, dtype=torch.float32)
    return module


@torch.no_grad()
def answer(model: nn.Module, tokenizer: PreTrainedTokenizerFast, prompt: str, device: str) -> str:
    """The greedy continuation of a prompt by at most MAX_ANSWER_TOKENS tokens, as text, stripped of white space."""
    ids = tokenizer(prompt, return_tensors="pt")["input_ids"].to(device)
    output = model.eval().generate(  # type: ignore[operator]
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=MAX_ANSWER_TOKENS, do_sample=False
    )
    return str(tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True)).strip()


def one_per_instruction(triples: Sequence[Triple], count: int, max_input_characters: int = 600) -> list[Triple]:
    """One triple for each of at most `count` instructions: the instruction's first triple whose input is short enough.

    The instructions are taken in the order of these triples. One that has only longer inputs is left out.
    """
    by_instruction: dict[str, Triple] = {}
    for triple in triples:
        if len(triple.input) <= max_input_characters:
            by_instruction.setdefault(triple.instruction, triple)
    return list(by_instruction.values())[:count]


def card(
    name: str,
    curve: list[dict[str, float]],
    losses: dict[str, dict[str, float]],
    shown_triples: Sequence[Triple],
    answers: Sequence[str],
    recipe: object,
) -> str:
    """The text of one model card, in Markdown.

    name: the model's name. curve: the training losses, each as {"step", "loss"}. losses: the held-out losses, by model
    and then by held-out set. shown_triples: the triples whose answers are shown. answers: what the model answered to
    each of these triples. recipe: the Recipe of this model's training stage.
    """
    titles = list(losses[name])
    table = "\n".join(
        f"| {'**' + other + '**' if other == name else other} | "
        + " | ".join(f"{losses[other][title]:.3f}" for title in titles)
        + " |"
        for other in MODELS
    )
    points = curve[:: max(1, len(curve) // 12)] + curve[-1:]
    steps = "\n".join(f"| {int(point['step'])} | {point['loss']:.3f} |" for point in points)
    samples = shown_answers(shown_triples, {name: answers})
    return f"""---
license: other
library_name: {"peft" if name == "tuned_lora" else "transformers"}
language: en
---

# shiftbench demo model: {name}

{DESCRIPTIONS[name]}

A small model that ships with shiftbench so that its scores can be tried in minutes. It is not useful for anything else:
what it says is neither true nor safe to rely on. Made by `python -m shiftbench.demo.train` from fixed seeds; the recipe
is `conf/demo_train.yaml`, this stage: `{recipe}`.

## Data and licenses

- Plain text (`base`, `continued`; 15.5 MB): US presidential addresses and the book of Genesis (public domain), movie
  reviews (CC BY 4.0), passages from T0 templates as distributed with Self-Instruct (Apache-2.0; the sets they come
  from have terms of their own).
- Instruction triples (`tuned`, `tuned_lora`; 40,567): T0 templates and Self-Instruct seed tasks (Apache-2.0, with the
  same reservation). One instruction in twenty is held out with all its rows, and one row in fifty of the others.

The weights are released under Apache-2.0 as far as the data's own terms allow.

## Held-out loss (nats a token, mean over texts or answers)

| model | {" | ".join(titles)} |
|---|{"---|" * len(titles)}
{table}

## Training loss (mean over 25 steps)

| step | loss |
|---|---|
{steps}

## Answers to held-out instructions

{samples}
"""


def shown_answers(triples: Sequence[Triple], answers: Mapping[str, Sequence[str]]) -> str:
    """Markdown of triples, each with the answer that it should get and the answers of models.

    answers: for each model, by name, one answer for each triple.
    """
    parts = []
    for i, triple in enumerate(triples):
        part = f"**{i + 1}. {_quoted(triple.instruction)}**\n\n{_block(triple.input)}"
        part += f"Answer wanted:\n\n{_block(triple.output)}"
        for name, given in answers.items():
            part += (
                f"Answer of `{name}` (greedy, at most {MAX_ANSWER_TOKENS} tokens):\n\n{_block(given[i] or '(nothing)')}"
            )
        parts.append(part)
    return "\n\n".join(parts)


def _block(text: str) -> str:
    """The text indented by four spaces and ended by an empty line, so that Markdown shows it as it is; "" for ""."""
    lines = text.split("\n") if text else []
    return "".join(f"    {line}\n" for line in lines) + ("\n" if lines else "")


def _quoted(text: str) -> str:
    return " ".join(text.split()).replace("*", "\\*").replace("<", "&lt;")
