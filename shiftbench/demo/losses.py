"""Batches of training data and held-out data for the demo models, and the loss on them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import peft
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import PreTrainedTokenizerFast

from shiftbench.demo.corpora import Triple, prompt_and_answer

# Lengths of training sequences, in tokens. torch.compile compiles once for each. No held-out sequence is longer than
# the longest.
WINDOWS = (128, 256, 512)
IGNORED = -100  # the label of a token without loss
HELD_OUT_WINDOWS, HELD_OUT_ANSWERS = 40, 300
SORTED = 8  # number of micro-batches of `row_batches` whose triples are sorted by length together

Batch = tuple[Tensor, Tensor]  # token ids and labels, both int64 [sequences, window]
Encoded = tuple[list[int], int]  # (token ids of prompt, answer and end of text; the number of prompt tokens)


def plain_batches(tokens: Tensor, batches: int, tokens_per_batch: int, seed: int) -> Iterator[Batch]:
    """Micro-batches of windows at random offsets of one long sequence of tokens; the labels are the token ids.

    tokens: int64 [length]. batches: the number of micro-batches. One micro-batch in four has windows of the longest
    length, the others of the middle length; each has as many windows as have at most tokens_per_batch tokens together.
    """
    generator = torch.Generator().manual_seed(seed)
    for i in range(batches):
        window = WINDOWS[-1] if i % 4 == 3 else WINDOWS[1]
        start = torch.randint(len(tokens) - window, (tokens_per_batch // window,), generator=generator)
        ids = torch.stack([tokens[s : s + window] for s in start.tolist()])
        yield ids, ids


def encode(tokenizer: PreTrainedTokenizerFast, rows: Sequence[Triple]) -> list[Encoded | None]:
    """The token ids of each triple's prompt and answer with the end of text, and the number of the prompt's tokens.

    None in the place of a triple whose token ids are more than the longest window.
    """
    parts = [prompt_and_answer(row) for row in rows]
    prompts = tokenizer([p for p, _ in parts])["input_ids"]
    answers = tokenizer([a for _, a in parts])["input_ids"]
    encoded: list[Encoded | None] = []
    for prompt, answer in zip(prompts, answers, strict=True):
        ids = prompt + answer + [tokenizer.eos_token_id]
        encoded.append((ids, len(prompt)) if len(ids) <= WINDOWS[-1] else None)
    return encoded


def triple_batches(
    encoded: list[Encoded], weights: list[float], batches: int, tokens_per_batch: int, seed: int
) -> Iterator[Batch]:
    """At least `batches` micro-batches of triples, which are drawn with replacement, with these weights.

    Each triple is padded to the shortest of WINDOWS that holds it. A micro-batch has triples of one such length alone,
    as many as have at most tokens_per_batch tokens together, with their padding.
    """
    draw = random.Random(seed)
    by_window: dict[int, list[Encoded]] = {window: [] for window in WINDOWS}
    yielded = 0
    while yielded < batches:
        for item in draw.choices(encoded, weights=weights, k=256):
            window = next(w for w in WINDOWS if len(item[0]) <= w)
            by_window[window].append(item)
            if len(by_window[window]) == tokens_per_batch // window:
                yield padded(by_window.pop(window), window)
                by_window[window] = []
                yielded += 1


def row_batches(
    encoded: Sequence[Encoded], weights: Sequence[float], batches: int, rows: int, seed: int
) -> Iterator[Batch]:
    """At least `batches` micro-batches of `rows` triples each, which are drawn with replacement, with these weights.

    Triples for SORTED micro-batches are drawn together and sorted by length, so that a micro-batch has triples of about
    one length. These micro-batches come in random order. Each is padded to its longest triple.
    """
    draw = random.Random(seed)
    for _ in range(0, batches, SORTED):
        items = sorted(draw.choices(encoded, weights=weights, k=SORTED * rows), key=lambda item: len(item[0]))
        groups = [items[i : i + rows] for i in range(0, len(items), rows)]
        draw.shuffle(groups)
        for group in groups:
            yield padded(group, max(len(tokens) for tokens, _ in group))


def padded(items: Sequence[Encoded], window: int) -> Batch:
    """Token ids, padded with 0 on the right to `window` tokens, and labels, which are IGNORED for prompt and padding.

    No padding mask is needed: attention is causal, so no token attends to the padding behind it.
    """
    ids = torch.zeros(len(items), window, dtype=torch.int64)
    labels = torch.full_like(ids, IGNORED)
    for row, (tokens, prompt) in enumerate(items):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        labels[row, prompt : len(tokens)] = ids[row, prompt : len(tokens)]
    return ids, labels


def plain_windows(tokenizer: PreTrainedTokenizerFast, text: Sequence[str]) -> list[Batch]:
    """The first tokens of held-out blocks, a window of the longest length for each, as batches of one window.

    Blocks with fewer tokens are left out. Of the n other blocks every (n // HELD_OUT_WINDOWS)-th is taken, or each
    where n is below HELD_OUT_WINDOWS.
    """
    blocks = [torch.tensor(tokenizer(block)["input_ids"][: WINDOWS[-1]]) for block in text]
    windows = [block[None] for block in blocks if len(block) == WINDOWS[-1]]
    return [(ids, ids) for ids in windows[:: max(1, len(windows) // HELD_OUT_WINDOWS)]]


def single_answers(tokenizer: PreTrainedTokenizerFast, rows: Sequence[Triple]) -> list[Batch]:
    """Held-out triples that fit into the longest window, as batches of one triple without padding.

    Of n such triples every (n // HELD_OUT_ANSWERS)-th is taken, or each where n is below HELD_OUT_ANSWERS.
    """
    fitting = [item for item in encode(tokenizer, rows) if item is not None]
    kept = fitting[:: max(1, len(fitting) // HELD_OUT_ANSWERS)]
    return [padded([item], len(item[0])) for item in kept]


def batch_loss(
    body: Callable[..., object], head: nn.Module, batch: Batch, device: str, half_precision: bool = True
) -> Tensor:
    """The mean next-token cross-entropy over the labelled tokens, in nats.

    body: the model without its output layer. head: the output layer, which is applied only where there is a label.
    half_precision: whether the model computes under autocast to bfloat16, or in the dtype of its weights.
    """
    ids, labels = (x.to(device) for x in batch)
    with torch.autocast(device, torch.bfloat16, enabled=half_precision):
        hidden = body(input_ids=ids[:, :-1]).last_hidden_state  # type: ignore[attr-defined]
        target = labels[:, 1:]
        kept = target != IGNORED
        logits = head(hidden[kept])
    return cross_entropy(logits.float(), target[kept])


@torch.no_grad()
def held_out_loss(model: nn.Module, batches: Sequence[Batch], device: str, half_precision: bool = True) -> float:
    """The mean over held-out sequences of their cross-entropy, in nats a token.

    batches: of one sequence each. Every sequence has the same weight, so that some long answers do not outweigh
    hundreds of short ones. half_precision: as in `batch_loss`. The model is left in evaluation mode.
    """
    causal: Any = causal_model(model.eval())
    losses = [float(batch_loss(causal.model, causal.lm_head, batch, device, half_precision)) for batch in batches]
    return sum(losses) / len(losses)


def causal_model(model: nn.Module) -> nn.Module:
    """The transformers model inside a PEFT wrapper, with the adapter's layers; another model is returned as it is."""
    return model.get_base_model() if isinstance(model, peft.PeftModel) else model
