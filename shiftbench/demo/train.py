"""Training the demo models: `python -m shiftbench.demo.train corpora=FOLDER out=FOLDER`.

Four models are trained on two corpora. The recipe in `conf/demo_train.yaml` and its seed determine every step:

    base        trained from scratch on plain text
    tuned       base, with all parameters trained on instruction triples; the loss is on the answer only
    tuned_lora  base with a PEFT adapter, trained on triples that are drawn in the same order as those of tuned
    continued   base, trained for as many steps as tuned, on other windows of the plain text; a control without
                instructions

A stage whose folder exists is not trained again, so a run that was interrupted repeats only the interrupted stage.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
import peft
import torch
from tokenizers import ByteLevelBPETokenizer
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from shiftbench.demo import card
from shiftbench.demo.corpora import Triple, plain_text, prompt_and_answer, sampling_weights, triples
from shiftbench.demo.losses import (
    WINDOWS,
    Batch,
    batch_loss,
    causal_model,
    encode,
    held_out_loss,
    plain_batches,
    triple_batches,
)

END_OF_TEXT = "<|endoftext|>"
CHAT_TEMPLATE = (
    "{% for m in messages %}{{ m['content'] }}\n\n{% endfor %}{% if add_generation_prompt %}Output:{% endif %}"
)


@dataclass(frozen=True)
class Recipe:
    """The options of one training stage. A step has up to tokens_per_micro_batch x micro_batches tokens, with padding.

    learning_rate: the highest one, at the end of the warm-up. warmup: the length of the warm-up in steps. muon: whether
    hidden matrices are trained with Muon.
    """

    steps: int
    learning_rate: float
    micro_batches: int
    tokens_per_micro_batch: int
    weight_decay: float
    warmup: int
    muon: bool


def train_tokenizer(text: list[str], rows: list[Triple], vocabulary: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer, trained on the plain text and on every fourth triple.

    It puts no special token in front of a text. vocabulary: the largest number of tokens, END_OF_TEXT included.
    """
    bpe = ByteLevelBPETokenizer()
    answers = [" ".join(prompt_and_answer(row)) for row in rows[::4]]
    bpe.train_from_iterator([*text, *answers], vocab_size=vocabulary, special_tokens=[END_OF_TEXT], show_progress=False)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe._tokenizer, eos_token=END_OF_TEXT, pad_token=END_OF_TEXT, model_max_length=WINDOWS[-1]
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def new_model(shape: dict[str, int], vocabulary: int) -> LlamaForCausalLM:
    """A Llama with tied embeddings, randomly initialised.

    shape: further arguments of LlamaConfig, such as hidden_size. vocabulary: the number of tokens.
    """
    config = LlamaConfig(
        vocab_size=vocabulary,
        max_position_embeddings=WINDOWS[-1],
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
        **shape,
    )
    return LlamaForCausalLM(config)


def with_adapter(model: nn.Module, rank: int) -> nn.Module:
    """The model inside a PEFT wrapper with a new LoRA adapter of this rank on all linear layers but the output layer.

    The adapter alone is trainable. At first it changes nothing.
    """
    adapter = peft.LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")
    adapted: nn.Module = peft.get_peft_model(model, adapter)
    return adapted


def optimizers(model: nn.Module, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """The optimizers of a model's trainable parameters: AdamW alone, or AdamW and Muon where the recipe asks for it.

    Muon then trains the hidden matrices, which are all matrices but the embeddings, and AdamW the other parameters.
    From scratch, training with Muon needs about half the steps.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    hidden_matrices = [
        p
        for name, p in model.named_parameters()
        if p.requires_grad and p.ndim == 2 and recipe.muon and "embed" not in name
    ]
    hidden_ids = {id(p) for p in hidden_matrices}
    other_parameters = [p for p in trained if id(p) not in hidden_ids]
    rate, decay = recipe.learning_rate, recipe.weight_decay
    chosen: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(other_parameters, lr=rate, betas=(0.9, 0.95), weight_decay=decay, fused=True)
    ]
    if hidden_matrices:
        chosen.append(torch.optim.Muon(hidden_matrices, lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw"))
    return chosen


def fit(
    model: nn.Module,
    batches: Iterator[Batch],
    recipe: Recipe,
    device: str,
    log: Path,
    half_precision: bool = True,
    held_out: Sequence[Batch] = (),
) -> list[dict[str, float]]:
    """Train the model in place; the learning rate rises linearly over the warm-up and then falls linearly, nearly to 0.

    batches: micro-batches, of which each step takes recipe.micro_batches. log: the file that the loss curve is written
    to after the last step. half_precision: whether the model is compiled and computes under autocast to bfloat16;
    torch.compile compiles once for each length of a batch. If false, the model is not compiled and computes in the
    dtype of its weights. held_out: batches of one sequence each, on which the model is measured too.
    Returns the curve: after every 25 steps and after the last step, the number of the step and the mean loss in nats a
    token since the previous point. With `held_out` every point has the held-out loss too, and a first point of step 0
    has that loss alone. Raises RuntimeError, after the curve is written, where a point of it is not finite.
    """
    causal: Any = causal_model(model)
    body: Any = torch.compile(causal.model, dynamic=False) if half_precision else causal.model
    head: Any = causal.lm_head
    optimizers_in_use = optimizers(model, recipe)
    curve: list[dict[str, float]] = []
    recent: list[float] = []
    start_time = time.monotonic()

    def add_point(step: int) -> None:
        point: dict[str, float] = {"step": step}
        if recent:
            point["loss"] = sum(recent) / len(recent)
            recent.clear()
        if held_out:
            point["held_out"] = held_out_loss(model, held_out, device, half_precision)
        curve.append(point)
        measured = " ".join(f"{key} {value:.3f}" for key, value in point.items() if key != "step")
        print(f"{log.stem} {step}/{recipe.steps} {measured} {time.monotonic() - start_time:.0f} s", flush=True)

    if held_out:
        add_point(0)
    for step in range(1, recipe.steps + 1):
        model.train()
        factor = min(step / recipe.warmup, (recipe.steps - step + 1) / (recipe.steps - recipe.warmup + 1))
        for optimizer in optimizers_in_use:
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate * factor
        for _ in range(recipe.micro_batches):
            loss = batch_loss(body, head, next(batches), device, half_precision) / recipe.micro_batches
            loss.backward()
            recent.append(loss.item() * recipe.micro_batches)
        nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], 1.0)
        for optimizer in optimizers_in_use:
            optimizer.step()
            optimizer.zero_grad()
        if step % 25 == 0 or step == recipe.steps:
            add_point(step)
    log.write_text(json.dumps(curve))
    if not all(math.isfinite(value) for point in curve for value in point.values()):
        raise RuntimeError(f"demo training: stage {log.stem!r} diverged; see {log}")
    return curve


def save(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerFast | None,
    folder: Path,
    base_name: str,
    dtype: torch.dtype = torch.bfloat16,
) -> None:
    """Write the model as safetensors of this dtype, and the tokenizer where there is one, into a new folder.

    Of a PEFT model, the adapter alone is written, and base_name is what its configuration names as its base. The files
    are written into a temporary folder that is then renamed, so a folder that exists is complete. The model's own
    trainable weights get the dtype too.
    """
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    if isinstance(model, peft.PeftModel):
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.to(dtype)
        model.peft_config["default"].base_model_name_or_path = base_name
        model.save_pretrained(str(part), save_embedding_layers=False)  # "auto" would ask the hub
    else:
        model.to(dtype).save_pretrained(part)  # type: ignore[operator]
    if tokenizer is not None:
        tokenizer.save_pretrained(part)
    part.rename(folder)


def train_family(corpora: Path, out: Path, recipes: dict[str, Recipe], shape: dict[str, int], options: Options) -> None:
    """Train the stages that are missing in `out`, then measure all four models and write their cards.

    corpora: the folder of the training data; see corpora.py. recipes: the options of each stage, by the model's name,
    in the order of training; base comes first. shape: as of `new_model`.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    out.mkdir(parents=True, exist_ok=True)
    train_text, held_text = plain_text(corpora)
    train_rows, held_rows, held_instructions = triples(corpora)

    if not (out / "tokenizer").exists():
        train_tokenizer(train_text, train_rows, options.vocabulary).save_pretrained(out / "tokenizer")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(out / "tokenizer")

    stream = torch.tensor(tokenizer("".join(train_text))["input_ids"])
    encoded = encode(tokenizer, train_rows)
    fitting = [(row, item) for row, item in zip(train_rows, encoded, strict=True) if item is not None]
    weights = sampling_weights([row for row, _ in fitting], options.seed_task_share)
    pairs = [item for _, item in fitting]
    print(f"{len(stream)} plain tokens, {len(pairs)} of {len(train_rows)} triples fit {WINDOWS[-1]} tokens", flush=True)

    for name, recipe in recipes.items():
        folder = out / name
        if folder.exists():
            continue
        torch.manual_seed(options.seed)
        if name == "base":
            model: nn.Module = new_model(shape, len(tokenizer))
        else:
            model = LlamaForCausalLM.from_pretrained(out / "base", dtype=torch.float32)
        if name == "tuned_lora":
            model = with_adapter(model, options.adapter_rank)
        model.to(device)
        plain = name in ("base", "continued")
        # tuned and tuned_lora get the triples in the same order; continued gets other windows than base did.
        count, size = recipe.steps * recipe.micro_batches, recipe.tokens_per_micro_batch
        batches = (
            plain_batches(stream, count, size, options.seed + (name == "continued"))
            if plain
            else triple_batches(pairs, weights, count, size, options.seed)
        )
        fit(model, batches, recipe, device, out / f"{name}.curve.json")
        save(model, tokenizer, folder, "base")  # a relative path: the models can be moved together

    card.write_cards(out, held_text, held_rows, held_instructions, dict(recipes), device)


@dataclass(frozen=True)
class Options:
    """The options that all stages share.

    seed: of all random draws, but that of the windows of continued is seed + 1. vocabulary: the most tokens that the
    tokenizer may have. adapter_rank: the rank of the adapter of tuned_lora. seed_task_share: the share of triples that
    are drawn from the seed tasks; see `sampling_weights`.
    """

    seed: int
    vocabulary: int
    adapter_rank: int
    seed_task_share: float


@hydra.main(version_base="1.3", config_path="pkg://shiftbench.conf", config_name="demo_train")
def main(config: object) -> None:
    recipes = {name: Recipe(**stage) for name, stage in config.stages.items()}  # type: ignore[attr-defined]
    options = Options(**config.options)  # type: ignore[attr-defined]
    train_family(Path(config.corpora), Path(config.out), recipes, dict(config.shape), options)  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
