"""What every part of gpu.py is given: the device, the sizes, a clock, random tensors and models made on the device."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from shiftbench.engine.product import Precision
from shiftbench.explain import attribution
from shiftbench.models import Model
from shiftbench.perf.cases import Case
from shiftbench.perf.machine import cpu_model
from shiftbench.perf.paper import device_time
from shiftbench.perf.timing import Comparison, Sampled, alternate
from shiftbench.prompts import EncodedPrompt, Prompt
from tests.perf.models import SEED
from tests.perf.rows import Machine
from tests.perf.targets import GPU_LENGTHS, SEVEN

PREFIX = (1,)  # a token in front of the prompt that is not explained, as Llama's beginning of text


class NotMeasured(Exception):
    """A part has nothing to start from: what it needs was skipped or has failed."""


@dataclass(frozen=True)
class Sizes:
    """How large everything is. topk: directions, k. grads: (response tokens, prompt tokens) of whole gradients."""

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
    copied: int  # numbers
    generated: int
    repeats: int
    # Of the checks against formulas: odd numbers, so that nothing divides anything.
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
    """A tokenizer of made-up words, w0, w1, ...: a token each."""

    unk_token_id = None
    eos_token_id = 0

    def __call__(self, texts: Sequence[str], **_: object) -> dict[str, list[list[int]]]:
        return {"input_ids": [[int(text.strip()[1:])] for text in texts]}

    def convert_ids_to_tokens(self, ids: Sequence[int]) -> list[str]:
        return [f"w{i}" for i in ids]


class Measured(dict[str, float]):
    """Numbers by name."""

    def __missing__(self, name: str) -> float:
        raise NotMeasured(name)


@dataclass
class Bench:
    """device: the card, or the CPU where all is rehearsed on emulated kernels.

    rates: FLOP/s of the card's own matrix product by precision, and bytes/s of its copy ("copy"). seconds: of the parts
    that a whole pair is estimated from. Both are filled in as parts measure them; asking too early is NotMeasured.
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
        """The card, and what else its numbers depend on."""
        facts = {"torch": torch.__version__, "cpu": cpu_model()}
        if self.rehearsed:
            facts["card"] = "none"
            return Machine(
                "rehearsed", facts, "REHEARSED on a CPU, tiny, kernels emulated: no number here is a figure."
            )
        of = torch.cuda.get_device_properties(self.device)
        facts |= {"card": of.name, "cuda": str(torch.version.cuda), "memory": str(of.total_memory)}
        return Machine(of.name, facts, f"{of.name}, torch {torch.__version__}, CUDA {torch.version.cuda}.")

    def drawn(self, *shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
        """Normal numbers, made on the device."""
        draws = torch.Generator(self.device).manual_seed(seed)
        made = torch.randn(*shape, generator=draws, device=self.device, dtype=torch.promote_types(dtype, torch.float32))
        return made.to(dtype)

    def compare(
        self, ours: Callable[[], Any], peers: Mapping[str, Callable[[], Any]], rounds: int, repeats: int = 1
    ) -> Comparison:
        """Rounds of all, each called once before. repeats: calls in a row that a round's seconds are the mean of."""
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
            # A contestant that did a part of the work says itself how long the whole would have taken.
            return result if isinstance(result, Sampled) else Sampled(result, seconds, "")

        return run

    def once(self, call: Callable[[], Any]) -> tuple[float, Any]:
        """(seconds, result) of one call that is not warmed up by itself."""
        begin = device_time(self.device)
        result = call()
        return device_time(self.device) - begin, result

    def llama(self, layers: int, vocabulary: int) -> Model:
        """A random Llama in float32, made on the device."""
        sizes = self.sizes
        config = LlamaConfig(
            hidden_size=sizes.width, intermediate_size=sizes.inner, num_attention_heads=sizes.heads,
            num_hidden_layers=layers, vocab_size=vocabulary, max_position_embeddings=4096, attn_implementation="eager",
        )  # fmt: skip
        torch.manual_seed(SEED)
        with torch.device(self.device):
            module = LlamaForCausalLM(config)
        return Model(sizes.model, module.eval().requires_grad_(False), _Words(), None, "float32")  # type: ignore[arg-type]

    @property
    def model(self) -> Model:
        """The whole model, made when it is first asked for."""
        if self._model is None:
            self._model = self.llama(self.sizes.layers, self.sizes.vocabulary)
        return self._model

    def release(self) -> None:
        """Memory that nobody holds any more goes back to the device."""
        gc.collect()
        if not self.rehearsed:
            torch.cuda.empty_cache()


def case(vocabulary: int, prompt: int, response: int, seed: int = SEED) -> Case:
    """Random ids behind PREFIX: no time depends on which."""
    ids = torch.randint(2, vocabulary, (prompt + response,), generator=torch.Generator().manual_seed(seed)).tolist()
    nothing_P = torch.zeros(prompt, dtype=torch.bool)
    encoded = EncodedPrompt(
        Prompt("random", "", ()),
        "",
        PREFIX,
        tuple(ids[:prompt]),
        tuple(map(str, ids[:prompt])),
        nothing_P,
        nothing_P,
        nothing_P,
    )
    return Case(encoded, tuple(ids[prompt:]), ("", ""))


def importance(model: Model, given: Case, precision: Precision) -> Tensor:
    """importance_PR by the engine, on the CPU, within the memory that it takes by itself."""
    return attribution.importance(model, given.prompt, given.response, None, precision)[0]
