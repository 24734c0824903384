"""Tuning a model from the hub: `python -m shiftbench.demo.tune base=FOLDER corpora=FOLDER out=FOLDER parameters=lora`.

The model is trained on the instruction triples of the demo models, in the prompt format in which shiftbench shows
Self-Instruct's prompts, without a chat template. `parameters=lora` trains an adapter, and `parameters=full` trains all
parameters on the same rows in the same order. The bundled adapter smollm2_lora was made by this program; the values in
`conf/demo_tune.yaml` and the seed there determine every step.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import hydra
import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from shiftbench.demo.card import answer, one_per_instruction
from shiftbench.demo.corpora import Triple, prompt_and_answer, sampling_weights, triples
from shiftbench.demo.losses import Batch, Encoded, encode, held_out_loss, row_batches, single_answers
from shiftbench.demo.train import Recipe, fit, save, with_adapter
from shiftbench.demo.tune_card import tune_card
from shiftbench.errors import InputError

SHOWN = 3  # number of held-out instructions whose answers the card shows
MEASURED = 100  # number of held-out answers of each set that are measured before and after the training
WATCHED_EVERY = 3  # while the model is trained, one in so many of the answers to held-out instructions is measured


@dataclass(frozen=True)
class Options:
    """The options of a tuning; conf/demo_tune.yaml states their values.

    seed: of all random draws. steps: the number of steps. rows_per_step: the triples of a step. longest_row: the most
    tokens that a triple may have, with its answer and the end of text. adapter_rank: the rank of the adapter.
    seed_task_share: as in `sampling_weights`. warmup: the length of the warm-up in steps. learning_rate: the highest
    one, for each of lora and full.
    """

    seed: int
    steps: int
    rows_per_step: int
    longest_row: int
    adapter_rank: int
    seed_task_share: float
    warmup: int
    learning_rate: dict[str, float]

    def recipe(self, parameters: str) -> Recipe:
        """The recipe of one training. parameters: lora or full."""
        return Recipe(
            steps=self.steps,
            learning_rate=self.learning_rate[parameters],
            micro_batches=1,
            tokens_per_micro_batch=self.rows_per_step * self.longest_row,
            weight_decay=0.0,
            warmup=self.warmup,
            muon=False,
        )


def read(base: str, gguf_file: str | None) -> tuple[nn.Module, PreTrainedTokenizerFast]:
    """(the model in float32, its tokenizer). base: a folder or a hub id. gguf_file: a GGUF file there, or None."""
    options = {} if gguf_file is None else {"gguf_file": gguf_file}
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, **options)
    if gguf_file is not None:
        # transformers neither converts nor writes a model that it read from a GGUF file, though its weights are
        # dequantised. So the weights are put into a new model of the same configuration.
        weights, generation = model.state_dict(), model.generation_config
        del model.config.quantization_config
        model = type(model)(model.config)
        model.load_state_dict(weights)
        model.generation_config = generation
    return model, AutoTokenizer.from_pretrained(base, **options)


def fitting(tokenizer: PreTrainedTokenizerFast, rows: list[Triple], longest: int) -> tuple[list[Triple], list[Encoded]]:
    """(the triples of at most `longest` tokens, their token ids), in the order of `rows`."""
    encoded = zip(rows, encode(tokenizer, rows), strict=True)
    kept = [(row, item) for row, item in encoded if item is not None and len(item[0]) <= longest]
    return [row for row, _ in kept], [item for _, item in kept]


def tune(
    base: str, gguf_file: str | None, corpora: Path, out: Path, parameters: str, base_name: str, options: Options
) -> None:
    """Train the model, and write the adapter or the whole model, its losses and its card into the new folder `out`.

    base, gguf_file: as in `read`. corpora: the folder of instruct.jsonl.gz. parameters: lora or full. base_name: what
    the adapter's configuration and the card call the base. Raises InputError where `out` exists or `parameters` has
    another value.
    """
    if parameters not in options.learning_rate:
        raise InputError(f"parameters={parameters!r} is not known; choose from {', '.join(options.learning_rate)}")
    if out.exists():
        raise InputError(f"out={out} exists; give a new folder")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model, tokenizer = read(base, gguf_file)
    train_rows, held_rows, held_instructions = triples(corpora)
    rows, encoded = fitting(tokenizer, train_rows, options.longest_row)
    weights = sampling_weights(rows, options.seed_task_share)
    print(f"{len(rows)} of {len(train_rows)} triples have at most {options.longest_row} tokens", flush=True)
    known, _ = fitting(tokenizer, held_rows, options.longest_row)
    unknown, _ = fitting(tokenizer, held_instructions, options.longest_row)
    sets = {
        "answers, known instructions": spread(single_answers(tokenizer, known)),
        "answers, held-out instructions": spread(single_answers(tokenizer, unknown)),
    }
    shown = one_per_instruction(unknown, SHOWN)
    model.to(device)
    before, answers = measured(model, sets, device), {"base": answered(model, tokenizer, shown, device)}

    torch.manual_seed(options.seed)
    if parameters == "lora":
        model = with_adapter(model, options.adapter_rank)
    batches = row_batches(encoded, weights, options.steps, options.rows_per_step, options.seed)
    out.parent.mkdir(parents=True, exist_ok=True)
    watched = sets["answers, held-out instructions"][::WATCHED_EVERY]
    log = out.with_name(f"{out.name}.curve.json")
    # In float32: on a CPU without bfloat16 instructions autocast is slower, and compiling takes longer than training.
    curve = fit(model, batches, options.recipe(parameters), device, log, half_precision=False, held_out=watched)
    if parameters == "lora":
        save(model, None, out, base_name)
    else:  # in float32: bfloat16 would change every weight, and a comparison with the base would measure that too
        save(model, tokenizer, out, base_name, torch.float32)
    after = measured(model.float(), sets, device)  # an adapter's weights stay rounded to bfloat16, as they were written
    answers["tuned"] = answered(model, tokenizer, shown, device)
    losses = {"before": before, "after": after, "curve": curve}
    (out / "losses.json").write_text(json.dumps(losses, indent=1) + "\n")
    text = tune_card(base_name, gguf_file, parameters, asdict(options), len(rows), losses, shown, answers)
    (out / "README.md").write_text(text, encoding="utf-8")
    log.unlink()


def spread(batches: Sequence[Batch]) -> Sequence[Batch]:
    """At most MEASURED of the batches, spread evenly over them."""
    return batches[:: max(1, len(batches) // MEASURED)][:MEASURED]


def answered(model: nn.Module, tokenizer: PreTrainedTokenizerFast, shown: Sequence[Triple], device: str) -> list[str]:
    """The model's greedy answer to each triple, as text."""
    return [answer(model, tokenizer, prompt_and_answer(triple)[0], device) for triple in shown]


def measured(model: nn.Module, sets: dict[str, Sequence[Batch]], device: str) -> dict[str, float]:
    """The held-out loss of each set, in nats a token."""
    return {title: held_out_loss(model, batches, device, half_precision=False) for title, batches in sets.items()}


@hydra.main(version_base="1.3", config_path="pkg://shiftbench.conf", config_name="demo_tune")
def main(config: Any) -> None:
    options = Options(**{**config.options, "learning_rate": dict(config.options.learning_rate)})
    tune(
        config.base,
        config.gguf_file,
        Path(config.corpora),
        Path(config.out),
        config.parameters,
        config.base_name,
        options,
    )


if __name__ == "__main__":
    main()
