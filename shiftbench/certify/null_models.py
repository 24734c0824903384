"""Makes pairs of models that differ by no instruction tuning (contracts.claim.NullPair)."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from shiftbench.certify.trials import Trial
from shiftbench.contracts.claim import NullPair
from shiftbench.contracts.control import Control
from shiftbench.models import Model

# The random network of NullPair.RANDOM: its sizes, and the standard deviation of its weights. With transformers'
# default of 0.02 so small a network gives nearly the same probability to every token.
RANDOM_SIZES = {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 128, "initializer_range": 0.2,
}  # fmt: skip
RANDOM_NOISE = 0.3  # norm of the noise that each parameter of a random network gets, in units of its own norm


def null_pair(
    trial: Trial, base: Model, tuned: Model, gaussian: Control, permuted: Control, seed: int
) -> tuple[PreTrainedModel | None, PreTrainedModel]:
    """(a module in base's place, or None where base itself is, and a module in the tuned model's place).

    trial: a null pair of any kind but NullPair.CONTINUED, whose models exist already. gaussian, permuted: controls with
    null models of tuning's size. A noise pair takes the first model of `gaussian` and scales its change by
    `trial.size` (None: 1); a permuted pair takes the first one of `permuted`. seed: of the random numbers of the other
    kinds. The modules are new, and those of base and tuned are not changed. Raises ValueError for NullPair.CONTINUED
    and where the trial is no null pair.
    """
    if trial.kind is NullPair.RANDOM:
        return random_pair(base, seed)
    if trial.kind is NullPair.ROUNDING:
        return rounded_pair(base, seed)
    if trial.kind is NullPair.NOISE:
        return None, scaled_null(base, tuned, gaussian, trial.size or 1.0)
    if trial.kind is NullPair.PERMUTED:
        return None, scaled_null(base, tuned, permuted, 1.0)
    raise ValueError(f"no models are made for {trial.kind}")


@torch.no_grad()
def scaled_null(base: Model, tuned: Model, control: Control, scale: float) -> PreTrainedModel:
    """A module whose weights are base's plus `scale` times the change of the control's first null model.

    Rows that tuning added at the end of a weight are those of the null model.
    """
    module: PreTrainedModel = copy.deepcopy(control.models(base, tuned)(0).module)
    before = dict(base.module.named_parameters())
    for name, parameter in module.named_parameters():
        rows = before[name].to(parameter)  # fewer than the null model's where tuning added rows
        parameter[: len(rows)] = rows + scale * (parameter[: len(rows)] - rows)
    return module


@torch.no_grad()
def rounded_pair(base: Model, seed: int) -> tuple[PreTrainedModel, PreTrainedModel]:
    """(base with noise, the same with its weights rounded to bfloat16); both in the dtype in which base is loaded.

    Each weight of the first model is base's plus uniform noise of at most half the distance to the next number in
    bfloat16. Base's file may hold bfloat16, as those of the bundled models do; without the noise, rounding would then
    change nothing. The noise also makes pairs of different seeds different. Base has to be loaded in a finer
    dtype: in bfloat16 nearly all of the noise is lost, and the two models are equal.
    """
    first, second = copy.deepcopy(base.module), copy.deepcopy(base.module)
    generator = torch.Generator().manual_seed(seed)
    rounded = dict(second.named_parameters())
    for name, parameter in first.named_parameters():
        parameter.add_(_half_steps(parameter, generator))
        rounded[name].copy_(parameter.to(torch.bfloat16))
    return first, second


def _half_steps(weight: Tensor, generator: torch.Generator) -> Tensor:
    """Uniform noise between -1/2 and 1/2 of the distance from each number to the next in bfloat16 (8 bits of mantissa).

    weight: of any shape, not of an integer type. The noise has its shape, dtype and device; it is 0 for a weight of 0.
    """
    _, exponent = torch.frexp(weight.float())
    uniform = torch.rand(weight.shape, generator=generator) - 0.5
    return (torch.ldexp(uniform, exponent.cpu() - 8) * (weight != 0).cpu()).to(weight)


def random_pair(base: Model, seed: int) -> tuple[PreTrainedModel, PreTrainedModel]:
    """(an untrained Llama of two layers, the same with normal noise).

    Both have as many rows of embeddings as base, and its context length and special token ids. seed: of the weights and
    of the noise.
    """
    rows = base.module.get_input_embeddings().weight.shape[0]
    ends: dict[str, Any] = {
        name: getattr(base.module.config, name, None) for name in ("bos_token_id", "eos_token_id", "pad_token_id")
    }
    config = AutoConfig.for_model(
        "llama", vocab_size=rows, max_position_embeddings=base.context_length, tie_word_embeddings=True,
        **RANDOM_SIZES, **ends,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        first: PreTrainedModel = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
        first.eval().requires_grad_(False)
        second = copy.deepcopy(first)
        with torch.no_grad():
            for parameter in second.parameters():
                _add_noise(parameter)
    return first, second


def _add_noise(parameter: nn.Parameter) -> None:
    noise = torch.randn_like(parameter)
    parameter.add_(noise * (RANDOM_NOISE * parameter.norm() / noise.norm()))
