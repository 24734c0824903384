"""What the parts of gpu.py share: the device, the sizes, timing, and random tensors and models on the device."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from shiftbench.engine.product import Precision
from shiftbench.explain import importance as explain_importance
from shiftbench.models import Model
from shiftbench.perf.cases import Case
from shiftbench.perf.hot_spots import random_case
from shiftbench.perf.machine import cpu_model
from shiftbench.perf.paper import device_time
from shiftbench.perf.timing import Comparison, Sampled, alternate
from tests.perf.models import SEED
from tests.perf.rows import Machine
from tests.perf.targets import GPU_LENGTHS, SEVEN

PREFIX = (1,)  # a token before the prompt that is not explained, like Llama's beginning-of-text token


class NotMeasured(Exception):
    """A number that a part needs is missing: the part that measures it was skipped or failed."""


@dataclass(frozen=True)
class Sizes:
    """The sizes of all inputs. topk: (directions, k). grads: (response tokens, prompt tokens) of whole gradients."""

    model: str
    width: int
    inner: int
    heads: int
    layers: int
    vocabulary: int
    lengths: Sequence[tuple[int, int]]
    loop_tokens: int
    batch: int
    topk: tuple[int, int]
    words: int
    vector_width: int
    timed_layers: int
    rank: int
    grads: Sequence[tuple[int, int]]
    strata: Sequence[int]
    resamples: int
    square: int
    copied: int  # float32 numbers in the copy whose rate is measured
    generated: int
    repeats: int
    # Sizes of the checks against formulas. They are odd, so that no block size divides them.
    check_rows: tuple[int, int, int]  # response tokens, prompt tokens, width
    check_topk: tuple[int, int, int, int]  # words, directions, width, k
    check_words: int
    check_lengths: Sequence[tuple[int, int]] = ((12, 20), (20, 12))
    check_vocabulary: int = 1000


FULL = Sizes(
    SEVEN, 4096, 11008, 32, 32, 32_000, GPU_LENGTHS, loop_tokens=4, batch=16, topk=(4096, 100), words=12_000,
    vector_width=50, timed_layers=3, rank=300, grads=((150, 100), (1200, 100)), strata=(38, 3000), resamples=10_000,
    square=8192, copied=2**30, generated=24, repeats=20, check_rows=(43, 101, 4099),
    check_topk=(20_011, 301, 1001, 100), check_words=2003,
)  # fmt: skip
TINY = Sizes(
    "tiny Llama", 64, 176, 4, 2, 320, ((9, 12), (5, 7)), loop_tokens=2, batch=3, topk=(40, 5), words=300,
    vector_width=12, timed_layers=1, rank=10, grads=((7, 9), (9, 5)), strata=(5, 30), resamples=50,
    square=64, copied=2**12, generated=3, repeats=2, check_rows=(3, 7, 77), check_topk=(701, 9, 43, 20),
    check_words=131, check_lengths=((4, 7), (7, 4)), check_vocabulary=100,
)  # fmt: skip


class _Words:
    """A tokenizer of `count` made-up words w0, w1, ..., each of which is one token."""

    unk_token_id = None
    eos_token_id = 0

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __call__(self, texts: Sequence[str], **_: object) -> dict[str, list[list[int]]]:
        return {"input_ids": [[int(text.strip()[1:])] for text in texts]}

    def convert_ids_to_tokens(self, ids: Sequence[int]) -> list[str]:
        return [f"w{i}" for i in ids]


class Measured(dict[str, float]):
    """Measured numbers by name. Reading one that is missing raises NotMeasured."""

    def __missing__(self, name: str) -> float:
        raise NotMeasured(name)


@dataclass
class Bench:
    """The device with its sizes and with what was measured so far.

    device: the card, or the CPU in a rehearsal on emulated kernels. rates: by precision, FLOP/s of the card's matrix
    product; under "copy", bytes/s of its copy. seconds: of the parts from which the time of a whole pair is estimated.
    Parts add to both.
    """

    device: torch.device
    sizes: Sizes
    rates: Measured = field(default_factory=Measured)
    seconds: Measured = field(default_factory=Measured)
    _model: Model | None = None

    @property
    def rehearsed(self) -> bool:
        return self.device.type != "cuda"

    def machine(self) -> Machine:
        """The card, with the facts that its numbers depend on."""
        facts = {"torch": torch.__version__, "cpu": cpu_model()}
        if self.rehearsed:
            facts["card"] = "none"
            return Machine(
                "rehearsed",
                facts,
                "REHEARSED on a CPU at tiny sizes with emulated kernels: these numbers mean nothing.",
            )
        of = torch.cuda.get_device_properties(self.device)
        facts |= {"card": of.name, "cuda": str(torch.version.cuda), "memory": str(of.total_memory)}
        return Machine(of.name, facts, f"{of.name}, torch {torch.__version__}, CUDA {torch.version.cuda}.")

    def random_normal(self, *shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
        """A tensor of normally distributed numbers, drawn on the device."""
        draws = torch.Generator(self.device).manual_seed(seed)
        values = torch.randn(
            *shape, generator=draws, device=self.device, dtype=torch.promote_types(dtype, torch.float32)
        )
        return values.to(dtype)

    def compare(
        self, ours: Callable[[], Any], peers: Mapping[str, Callable[[], Any]], rounds: int, repeats: int = 1
    ) -> Comparison:
        """Time rounds of ours and of the peers, after one warm-up call of each.

        repeats: calls in a row in a round; a round's seconds are their mean.
        """
        timed = {name: self._timed(call, repeats) for name, call in {"": ours, **peers}.items()}
        for call in timed.values():
            call(None)
        return alternate(timed.pop(""), timed, [None] * rounds)

    def _timed(self, call: Callable[[], Any], repeats: int) -> Callable[[object], Sampled]:
        def run(_: object) -> Sampled:
            begin = device_time(self.device)
            for _ in range(repeats):
                result = call()
            seconds = (device_time(self.device) - begin) / repeats
            # A contestant that did a part of the work returns the seconds for the whole work itself.
            return result if isinstance(result, Sampled) else Sampled(result, seconds, "")

        return run

    def once(self, call: Callable[[], Any]) -> tuple[float, Any]:
        """(seconds, result) of one call, without a warm-up."""
        begin = device_time(self.device)
        result = call()
        return device_time(self.device) - begin, result

    def llama(self, layers: int, vocabulary: int) -> Model:
        """A random Llama in float32 on the device."""
        sizes = self.sizes
        config = LlamaConfig(
            hidden_size=sizes.width, intermediate_size=sizes.inner, num_attention_heads=sizes.heads,
            num_hidden_layers=layers, vocab_size=vocabulary, max_position_embeddings=4096, attn_implementation="eager",
        )  # fmt: skip
        torch.manual_seed(SEED)
        with torch.device(self.device):
            module = LlamaForCausalLM(config)
        return Model(sizes.model, module.eval().requires_grad_(False), _Words(sizes.vocabulary), None, "float32")  # type: ignore[arg-type]

    @property
    def model(self) -> Model:
        """The whole model, created when it is first used."""
        if self._model is None:
            self._model = self.llama(self.sizes.layers, self.sizes.vocabulary)
        return self._model

    def release(self) -> None:
        """Give unused memory back to the device."""
        gc.collect()
        if not self.rehearsed:
            torch.cuda.empty_cache()


def case(vocabulary: int, prompt: int, response: int, seed: int = SEED) -> Case:
    """A case of random token ids after PREFIX; no time depends on the ids. prompt, response: numbers of tokens."""
    return random_case(prompt, response, PREFIX, vocabulary, seed)


def importance(model: Model, given: Case, precision: Precision) -> Tensor:
    """importance_PR by the engine, with the memory limit that the engine chooses. The result is on the CPU."""
    return explain_importance.importance(model, given.prompt, given.response, None, precision)[0]
