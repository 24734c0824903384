"""Importance of prompt tokens for response tokens, by one of three definitions.

p_r is the probability of response token r and e_n the embedding of prompt token n (docs/mathematics.md, 'Attribution of
a response to its prompt'). Gradient times input, d p_r / d e_n . e_n, is the first-order approximation of occlusion,
p_r - p_r(e_n = 0). Integrated gradients (Sundararajan et al. 2017, section 3) are the integral of the gradient along
the straight path from embeddings of zero to the prompt's, times the embedding. docs/controls.md, 'Faithfulness'
compares the three.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum

import torch
from torch import Tensor

from shiftbench import ops
from shiftbench.engine import autograd, masked
from shiftbench.engine import importance as engine
from shiftbench.engine.importance import Tokens
from shiftbench.engine.product import STEP, Precision
from shiftbench.explain.finite import check_importance, not_finite_as_input_error
from shiftbench.models import Model
from shiftbench.models.block import Transformer
from shiftbench.models.rotary import reset_angles, same_angles
from shiftbench.prompts import EncodedPrompt

# Gradient times input where the prompt's embeddings are multiplied by a scale; the input there is scale * e.
GradXInputAtScale = Callable[[float], Tensor]

# MiB. From 160 tokens on, SmolLM2 is 4 to 10% faster with it than with 256; 512 gains little more.
CPU_MEMORY = 384


class Definition(Enum):
    """What the importance of prompt token n for response token r is.

    GRAD_X_INPUT: d p_r / d e_n . e_n. INTEGRATED_GRADIENTS: the mean of d p_r / d e_n along the path from embeddings of
    zero to the prompt's, times e_n. OCCLUSION: p_r less the probability of r where e_n is zero; the token keeps its
    position, and all other tokens stay as they are.
    """

    GRAD_X_INPUT = "grad_x_input"
    INTEGRATED_GRADIENTS = "integrated_gradients"
    OCCLUSION = "occlusion"


def memory_bytes(memory: int | None, device: torch.device) -> int:
    """The bytes that the engine may fill on a device.

    memory: MiB; None for the default, CPU_MEMORY or an eighth of a GPU's memory (a GPU needs larger chunks to be busy).
    """
    if memory is not None:
        return memory * 2**20
    return CPU_MEMORY * 2**20 if device.type == "cpu" else torch.cuda.get_device_properties(device).total_memory // 8


def importance(
    model: Model,
    prompt: EncodedPrompt,
    response: tuple[int, ...],
    memory: int | None,
    precision: Precision = Precision.FLOAT32,
) -> tuple[Tensor, Tensor]:
    """(importance_PR, probability_R) of gradient times input, on the CPU, float32 or the model's float64.

    importance_PR[n, r] = d p_r / d e_n . e_n, summed over the embedding's width. The engine computes it by forward and
    reverse mode where it knows the model, else autograd does: the same numbers up to rounding, more slowly, and
    `precision` has no effect.
    Raises InputError where a logit or a gradient is not finite: half precision overflows in some models.
    """
    if not response:
        return torch.zeros(len(prompt.prompt_ids), 0), torch.zeros(0)
    importance_PR, probability_R = _grad_x_input(model, prompt, response, memory, precision, 1.0)
    return _require_finite(importance_PR, model, prompt).cpu(), probability_R.cpu()


def integrated_gradients(
    model: Model,
    prompt: EncodedPrompt,
    response: tuple[int, ...],
    memory: int | None,
    steps: int,
    precision: Precision = Precision.FLOAT32,
) -> tuple[Tensor, Tensor]:
    """(importance_PR, probability_R) of integrated gradients, with dtypes and errors as those of `importance`.

    steps: points of the path at which the gradient is computed. importance_PR.sum(0) is p_r less the probability of r
    where all embeddings of the prompt are zero, up to an error that falls as `steps` grows.
    """
    if not response:
        return torch.zeros(len(prompt.prompt_ids), 0), torch.zeros(0)
    importance_PR = _integrate(_grad_x_input_at_scale(model, prompt, response, memory, precision), steps)
    unmasked_1P = torch.zeros(1, len(prompt.prompt_ids), dtype=torch.bool)
    log_1R = log_probabilities(model, prompt, response, unmasked_1P, memory)
    return _require_finite(importance_PR, model, prompt).cpu(), log_1R[0].exp()


def occlusion(
    model: Model,
    prompt: EncodedPrompt,
    response: tuple[int, ...],
    memory: int | None,
    token_K: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """(importance_KR, probability_R): p_r less the probability of r where the embedding of token n is zero.

    token_K: the prompt tokens n that get a row; None for all.
    """
    count = len(prompt.prompt_ids)
    single_KP = torch.eye(count, dtype=torch.bool)
    single_KP = single_KP if token_K is None else single_KP[token_K]
    if not response:
        return torch.zeros(len(single_KP), 0), torch.zeros(0)
    masked_BP = torch.cat([torch.zeros(1, count, dtype=torch.bool), single_KP])
    log_BR = log_probabilities(model, prompt, response, masked_BP, memory)
    probability_R = log_BR[0].exp()
    # p - q = -p (q / p - 1), with q / p - 1 = expm1(log q - log p): no digits are lost where q is close to p.
    importance_KR = -probability_R * (log_BR[1:] - log_BR[0]).expm1()
    return _require_finite(importance_KR, model, prompt), probability_R


def total_importance(
    model: Model,
    prompt: EncodedPrompt,
    response: tuple[int, ...],
    memory: int | None,
    definition: Definition,
    steps: int,
) -> Tensor:
    """importance_P, summed over the response, which must not be empty.

    The gradient of the sum is one derivative, not R.
    """
    if definition is Definition.OCCLUSION:
        return occlusion(model, prompt, response, memory)[0].sum(1)
    at_scale = _total_at_scale(model, prompt, response, memory)
    importance_P = at_scale(1.0) if definition is Definition.GRAD_X_INPUT else _integrate(at_scale, steps)
    return _require_finite(importance_P, model, prompt).cpu()


def log_probabilities(
    model: Model, prompt: EncodedPrompt, response: tuple[int, ...], masked_BP: Tensor, memory: int | None
) -> Tensor:
    """log_BR on the CPU: log p of each response token where the embeddings of masked prompt tokens are zero.

    masked_BP: bool, a mask in each row. The engine computes it where it knows the model, else the module's own forward
    pass does. Raises InputError where a logit is not finite.
    """
    memory_limit = memory_bytes(memory, model.input_device)
    transformer = _engine_model(model, prompt, response)
    tokens = _engine_tokens(model, prompt, response, 1.0)
    with _pass_over_one_text(model, prompt):
        if transformer is not None:
            return masked.log_probabilities(transformer, tokens, masked_BP, memory_limit).cpu()
        found_BR = autograd.log_probabilities(
            model.module, tokens.embedding_TD, tokens.prompt, tokens.response_R, masked_BP, memory_limit
        )
    return found_BR.cpu()


def _grad_x_input_at_scale(
    model: Model, prompt: EncodedPrompt, response: tuple[int, ...], memory: int | None, precision: Precision
) -> GradXInputAtScale:
    """A function that gives importance_PR, by gradient times input, at a scale of the prompt's embeddings."""
    return lambda scale: _grad_x_input(model, prompt, response, memory, precision, scale)[0]


def _grad_x_input(
    model: Model,
    prompt: EncodedPrompt,
    response: tuple[int, ...],
    memory: int | None,
    precision: Precision,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """(importance_PR, probability_R) by gradient times input, where the prompt's embeddings are multiplied by scale."""
    memory_limit = memory_bytes(memory, model.input_device)
    transformer = _engine_model(model, prompt, response)
    with _pass_over_one_text(model, prompt):
        if transformer is None:
            return _grad_x_input_by_autograd(model, prompt, response, memory_limit, scale)
        return engine.importance(transformer, _engine_tokens(model, prompt, response, scale), memory_limit, precision)


def _total_at_scale(
    model: Model, prompt: EncodedPrompt, response: tuple[int, ...], memory: int | None
) -> GradXInputAtScale:
    """A function that gives importance_P, summed over the response, at a scale of the prompt's embeddings."""
    memory_limit = memory_bytes(memory, model.input_device)
    transformer = _engine_model(model, prompt, response)

    def at_scale(scale: float) -> Tensor:
        with _pass_over_one_text(model, prompt):
            if transformer is not None:
                return engine.total(transformer, _engine_tokens(model, prompt, response, scale), memory_limit)[0]
            kept = autograd.forward(model.module, prompt.prefix_ids, prompt.prompt_ids, response, scale)
            return (autograd.total_gradient(kept) * kept.embedding_PD).sum(-1)

    return at_scale


def _engine_model(model: Model, prompt: EncodedPrompt, response: tuple[int, ...]) -> Transformer | None:
    """The model as the engine computes it on this text; None where autograd must compute it.

    The engine leaves out the last response token and pads the text to a multiple of STEP rows. The rotary angles of
    some models depend on the length of the text. Where the padded length has other angles than the text's own, only the
    module's own forward pass has the right ones. Raises InputError where the module is no causal language model.
    """
    autograd.ends(model.module)
    tokens = len(prompt.prefix_ids) + len(prompt.prompt_ids) + len(response)
    computed = tokens - 1 + -(tokens - 1) % STEP
    return model.transformer_or_reason[0] if same_angles(model.module.config, tokens, computed) else None


@contextmanager
def _pass_over_one_text(model: Model, prompt: EncodedPrompt) -> Iterator[None]:
    """Context for passes over one text: rotary angles start as the model's own, whatever was read before.

    Raises InputError where logits are not finite.
    """
    reset_angles(model.module)
    with not_finite_as_input_error(model, f"prompt {prompt.prompt.id!r}"):
        yield


def _integrate(at_scale: GradXInputAtScale, steps: int) -> Tensor:
    """Integrated gradients by the midpoint rule, from gradient times input at `steps` scales.

    At scale a the input is a * e, so gradient times input is divided by a to give the gradient times e. The points are
    evenly spaced. Points that are denser near zero, where a model with a norm on its input changes fastest, did not
    bring the sum closer to p on the bundled models: gradients there are large and of both signs.
    """
    points = [(step + 0.5) / steps for step in range(steps)]
    return torch.stack([at_scale(a) / (a * steps) for a in points]).sum(0)


def _engine_tokens(model: Model, prompt: EncodedPrompt, response: tuple[int, ...], scale: float) -> Tokens:
    """The text as the engine takes it, with the prompt's embeddings multiplied by scale."""
    rows = slice(len(prompt.prefix_ids), len(prompt.prefix_ids) + len(prompt.prompt_ids))
    ids = torch.tensor(prompt.prefix_ids + prompt.prompt_ids + response, device=model.input_device)
    embedding_TD = model.module.get_input_embeddings()(ids).detach()
    if scale != 1.0:
        embedding_TD[rows] *= scale
    return Tokens(embedding_TD, rows, ids[rows.stop :])


def _require_finite(importance: Tensor, model: Model, prompt: EncodedPrompt) -> Tensor:
    """The importance itself; raises InputError where it is not finite."""
    check_importance(importance, model, prompt.prompt.id)
    return importance


def _grad_x_input_by_autograd(
    model: Model, prompt: EncodedPrompt, response: tuple[int, ...], memory: int, scale: float
) -> tuple[Tensor, Tensor]:
    """(importance_PR, probability_R) of a model that the engine does not know. memory: bytes."""
    kept = autograd.forward(model.module, prompt.prefix_ids, prompt.prompt_ids, response, scale)
    embedding_PD = kept.embedding_PD.cpu()
    # grad_x_input runs on the CPU here. Gradients are copied chunk by chunk, because all of them (R x P x D) are too
    # large.
    gradients = autograd.gradients(kept, autograd.chunk(model.module.config.get_text_config(), kept, memory))
    columns = [ops.grad_x_input(grad_RPD.cpu(), embedding_PD) for _, grad_RPD in gradients]
    return torch.cat(columns, dim=1), kept.probability_R
