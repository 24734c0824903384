"""How the bundled demo models were made: `python -m shiftbench.demo.train corpora=FOLDER out=FOLDER`.

Four models from two corpora, every step fixed by the recipe in `conf/demo_train.yaml` and its seed:

    base        from scratch on plain text
    tuned       base, then all parameters on instruction triples, loss on the answer only
    tuned_lora  base, then a PEFT adapter on the same triples in the same order
    continued   base, then as many steps on more plain text: trained, but not instructed

A stage whose folder is complete is not trained again, so an interrupted run goes on with the stage it was in.
"""

from __future__ import annotations

import json
import math
import random
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import hydra
import peft
import torch
from tokenizers import ByteLevelBPETokenizer
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from shiftbench.demo import card
from shiftbench.demo.corpora import Triple, plain_text, prompt_and_answer, sampling_weights, triples

END_OF_TEXT = "<|endoftext|>"
CHAT_TEMPLATE = "{% for m in messages %}{{ m['content'] }}\n\n{% endfor %}{% if add_generation_prompt %}Output:{% endif %}"
WINDOWS = (128, 256, 512)  # sequence lengths a micro-batch may have: few shapes, so few compilations
IGNORED = -100


@dataclass(frozen=True)
class Recipe:
    """One training stage. Tokens per step = tokens_per_micro_batch x micro_batches."""

    steps: int
    learning_rate: float
    micro_batches: int
    tokens_per_micro_batch: int
    weight_decay: float
    warmup: int
    muon: bool


Batch = tuple[Tensor, Tensor]  # token ids and labels, both int64 [sequences, window]


def train_tokenizer(text: list[str], rows: list[Triple], vocabulary: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer over plain text and triples, without a beginning-of-text token."""
    bpe = ByteLevelBPETokenizer()
    answers = [" ".join(prompt_and_answer(row)) for row in rows[::4]]
    bpe.train_from_iterator([*text, *answers], vocab_size=vocabulary, special_tokens=[END_OF_TEXT], show_progress=False)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe._tokenizer, eos_token=END_OF_TEXT, pad_token=END_OF_TEXT, model_max_length=WINDOWS[-1]
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def new_model(shape: dict[str, int], vocabulary: int) -> LlamaForCausalLM:
    """A Llama with tied embeddings, randomly initialised."""
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


def plain_batches(tokens: Tensor, recipe: Recipe, seed: int) -> Iterator[Batch]:
    """Windows at random offsets of one long token stream; one micro-batch in four is of the longest window."""
    generator = torch.Generator().manual_seed(seed)
    for i in range(recipe.steps * recipe.micro_batches):
        window = WINDOWS[-1] if i % 4 == 3 else WINDOWS[1]
        start = torch.randint(len(tokens) - window, (recipe.tokens_per_micro_batch // window,), generator=generator)
        ids = torch.stack([tokens[s : s + window] for s in start.tolist()])
        yield ids, ids


def encode(tokenizer: PreTrainedTokenizerFast, rows: list[Triple]) -> list[tuple[list[int], int] | None]:
    """(token ids with the end of text, prompt tokens) of each triple; None where it exceeds the longest window."""
    parts = [prompt_and_answer(row) for row in rows]
    prompts = tokenizer([p for p, _ in parts])["input_ids"]
    answers = tokenizer([a for _, a in parts])["input_ids"]
    encoded: list[tuple[list[int], int] | None] = []
    for prompt, answer in zip(prompts, answers, strict=True):
        ids = prompt + answer + [tokenizer.eos_token_id]
        encoded.append((ids, len(prompt)) if len(ids) <= WINDOWS[-1] else None)
    return encoded


def triple_batches(
    encoded: list[tuple[list[int], int]], weights: list[float], recipe: Recipe, seed: int
) -> Iterator[Batch]:
    """Weighted draws, collected by window length, so that a micro-batch carries little padding."""
    draw = random.Random(seed)
    waiting: dict[int, list[tuple[list[int], int]]] = {window: [] for window in WINDOWS}
    yielded = 0
    while yielded < recipe.steps * recipe.micro_batches:
        for item in draw.choices(encoded, weights=weights, k=256):
            window = next(w for w in WINDOWS if len(item[0]) <= w)
            waiting[window].append(item)
            if len(waiting[window]) == recipe.tokens_per_micro_batch // window:
                yield padded(waiting.pop(window), window)
                waiting[window] = []
                yielded += 1


def padded(items: list[tuple[list[int], int]], window: int) -> Batch:
    """Right-padded ids and labels; prompt and padding carry no loss. Causality makes a padding mask needless."""
    ids = torch.zeros(len(items), window, dtype=torch.int64)
    labels = torch.full_like(ids, IGNORED)
    for row, (tokens, prompt) in enumerate(items):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        labels[row, prompt : len(tokens)] = ids[row, prompt : len(tokens)]
    return ids, labels


def batch_loss(body: Callable[..., object], head: nn.Module, batch: Batch, device: str) -> Tensor:
    """Mean next-token cross-entropy (nats) over the labelled tokens; logits are made only where there is a label."""
    ids, labels = (x.to(device) for x in batch)
    with torch.autocast(device, torch.bfloat16):
        hidden = body(input_ids=ids[:, :-1]).last_hidden_state  # type: ignore[attr-defined]
        target = labels[:, 1:]
        kept = target != IGNORED
        logits = head(hidden[kept])
    return cross_entropy(logits.float(), target[kept])


def optimizers(model: nn.Module, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """AdamW, with Muon for the hidden matrices where the recipe asks: from scratch it needs about half the steps."""
    trained = [p for p in model.parameters() if p.requires_grad]
    inner = [
        p
        for name, p in model.named_parameters()
        if p.requires_grad and p.ndim == 2 and recipe.muon and "embed" not in name
    ]
    chosen = {id(p) for p in inner}
    outer = [p for p in trained if id(p) not in chosen]
    decay = dict(lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    found: list[torch.optim.Optimizer] = [torch.optim.AdamW(outer, betas=(0.9, 0.95), fused=True, **decay)]
    if inner:
        found.append(torch.optim.Muon(inner, adjust_lr_fn="match_rms_adamw", **decay))
    return found


def fit(model: nn.Module, batches: Iterator[Batch], recipe: Recipe, device: str, log: Path) -> list[dict[str, float]]:
    """Train in place; returns the loss curve, a mean over each 25 steps. Linear warm-up, then linear decay to zero."""
    causal = model.get_base_model() if isinstance(model, peft.PeftModel) else model
    body = torch.compile(causal.model, dynamic=False)
    chosen = optimizers(model, recipe)
    curve: list[dict[str, float]] = []
    recent: list[float] = []
    began = time.monotonic()
    model.train()
    for step in range(1, recipe.steps + 1):
        factor = min(step / recipe.warmup, (recipe.steps - step + 1) / (recipe.steps - recipe.warmup + 1))
        for optimizer in chosen:
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate * factor
        for _ in range(recipe.micro_batches):
            loss = batch_loss(body, causal.lm_head, next(batches), device) / recipe.micro_batches
            loss.backward()
            recent.append(loss.item() * recipe.micro_batches)
        nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], 1.0)
        for optimizer in chosen:
            optimizer.step()
            optimizer.zero_grad()
        if step % 25 == 0 or step == recipe.steps:
            curve.append({"step": step, "loss": sum(recent) / len(recent)})
            recent.clear()
            line = f"{log.stem} {step}/{recipe.steps} loss {curve[-1]['loss']:.3f} {time.monotonic() - began:.0f} s"
            print(line, flush=True)
    if not all(math.isfinite(point["loss"]) for point in curve):
        raise RuntimeError(f"demo training: stage {log.stem!r} diverged; see {log}")
    log.write_text(json.dumps(curve))
    return curve


@torch.no_grad()
def held_out_loss(model: nn.Module, batches: list[Batch], device: str) -> float:
    """Mean cross-entropy (nats per token) over batches the model never saw."""
    model.eval()
    causal = model.get_base_model() if isinstance(model, peft.PeftModel) else model
    total, count = 0.0, 0
    for ids, labels in batches:
        kept = int((labels[:, 1:] != IGNORED).sum())
        total += float(batch_loss(causal.model, causal.lm_head, (ids, labels), device)) * kept
        count += kept
    return total / count


def save(model: nn.Module, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """bf16 safetensors and tokenizer, written beside and renamed, so a folder that exists is whole."""
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    if isinstance(model, peft.PeftModel):
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.bfloat16()
        model.save_pretrained(part)
    else:
        model.to(torch.bfloat16).save_pretrained(part)
    tokenizer.save_pretrained(part)
    part.rename(folder)


def train_family(corpora: Path, out: Path, recipes: dict[str, Recipe], shape: dict[str, int], options: Options) -> None:
    """Train whatever stage `out` lacks, then measure all four and write their cards."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    out.mkdir(parents=True, exist_ok=True)
    train_text, held_text = plain_text(corpora)
    train_rows, held_rows, held_instructions = triples(corpora)

    if not (out / "tokenizer").exists():
        train_tokenizer(train_text, train_rows, options.vocabulary).save_pretrained(out / "tokenizer")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(out / "tokenizer")

    stream = torch.tensor(tokenizer("".join(train_text))["input_ids"])
    encoded = encode(tokenizer, train_rows)
    fitting = [i for i, item in enumerate(encoded) if item is not None]
    weights = sampling_weights([train_rows[i] for i in fitting], options.seed_task_share)
    pairs = [encoded[i] for i in fitting]
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
            adapter = peft.LoraConfig(
                r=options.adapter_rank,
                lora_alpha=2 * options.adapter_rank,
                target_modules="all-linear",
                task_type="CAUSAL_LM",
            )
            model = peft.get_peft_model(model, adapter)
        model.to(device)
        plain = name in ("base", "continued")
        # The triples come in the same order for tuned and tuned_lora; continued reads other windows than base did.
        batches = (
            plain_batches(stream, recipe, options.seed + (name == "continued"))
            if plain
            else triple_batches(pairs, weights, recipe, options.seed)  # type: ignore[arg-type]
        )
        fit(model, batches, recipe, device, out / f"{name}.curve.json")
        save(model, tokenizer, folder)

    card.write_cards(out, held_text, held_rows, held_instructions, device)


@dataclass(frozen=True)
class Options:
    """What the stages share."""

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
