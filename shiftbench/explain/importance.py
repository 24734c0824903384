"""Importance of prompt tokens for response tokens, by one of three definitions (docs/mathematics.md; docs/controls.md).

Gradient times input is what occlusion is at first order: d p_r / d e_n . e_n against p_r - p_r(e_n = 0). Integrated
gradients (Sundararajan et al. 2017) add the first up along the straight path from a prompt whose embeddings are zero.
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
from shiftbench.explain.finite import check_importance, finite
from shiftbench.models import Model
from shiftbench.models.block import Transformer
from shiftbench.models.rotary import reset_angles, same_angles
from shiftbench.prompts import EncodedPrompt

At = Callable[[float], Tensor]  # scale of the prompt's embeddings -> importance there

CPU_MEMORY = 384  # MiB. SmolLM2 is 4 to 10% faster by it than by 256 from 160 tokens on, and little more by 512


class Definition(Enum):
    """GRAD_X_INPUT: d p_r / d e_n . e_n. INTEGRATED_GRADIENTS: its mean along the path from zero embeddings to the
    prompt's. OCCLUSION: p_r less what it is where e_n is zero, the token's position and all other tokens as they are.
    """

    GRAD_X_INPUT = "grad_x_input"
    INTEGRATED_GRADIENTS = "integrated_gradients"
    OCCLUSION = "occlusion"


def memory_bytes(memory: int | None, device: torch.device) -> int:
    """The bytes that so many MiB are; None: CPU_MEMORY, or an eighth of a GPU's memory, where chunks are larger."""
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
    """(importance_PR, probability_R) on the CPU, float32 or the model's float64.

    importance_PR[n, r] = d p_r / d e_n . e_n, summed over the embedding's width (docs/mathematics.md). By the engine's
    own forward or reverse mode where the model is known to it, else by autograd: the same numbers, more slowly, in one
    precision.
    Raises InputError where a logit or a gradient is not finite: half precision overflows in some models.
    """
    if not response:
        return torch.zeros(len(prompt.prompt_ids), 0), torch.zeros(0)
    importance_PR, probability_R = _gradients(model, prompt, response, memory, precision, 1.0)
    return _finite(importance_PR, model, prompt).cpu(), probability_R.cpu()


def integrated_gradients(
    model: Model,
    prompt: EncodedPrompt,
    response: tuple[int, ...],
    memory: int | None,
    steps: int,
    precision: Precision = Precision.FLOAT32,
) -> tuple[Tensor, Tensor]:
    """(importance_PR, probability_R) as `importance` gives them, summed along a path of so many points.

    importance_PR.sum(0) is p_r less p_r where all embeddings of the prompt are zero, up to an error that falls with the
    number of steps.
    """
    if not response:
        return torch.zeros(len(prompt.prompt_ids), 0), torch.zeros(0)
    importance_PR = _along(_at(model, prompt, response, memory, precision), steps)
    nothing_1P = torch.zeros(1, len(prompt.prompt_ids), dtype=torch.bool)
    log_1R = log_probabilities(model, prompt, response, nothing_1P, memory)
    return _finite(importance_PR, model, prompt).cpu(), log_1R[0].exp()


def occlusion(
    model: Model,
    prompt: EncodedPrompt,
    response: tuple[int, ...],
    memory: int | None,
    token_K: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """(importance_PR, probability_R): p_r less what it is where the embedding of token n is zero.

    token_K: the prompt tokens that get a row; None: all.
    """
    count = len(prompt.prompt_ids)
    one_KP = torch.eye(count, dtype=torch.bool)
    one_KP = one_KP if token_K is None else one_KP[token_K]
    if not response:
        return torch.zeros(len(one_KP), 0), torch.zeros(0)
    masked_BP = torch.cat([torch.zeros(1, count, dtype=torch.bool), one_KP])
    log_BR = log_probabilities(model, prompt, response, masked_BP, memory)
    probability_R = log_BR[0].exp()
    # p - q = -p (q / p - 1): small changes keep their digits.
    importance_KR = -probability_R * (log_BR[1:] - log_BR[0]).expm1()
    return _finite(importance_KR, model, prompt), probability_R


def total_importance(
    model: Model,
    prompt: EncodedPrompt,
    response: tuple[int, ...],
    memory: int | None,
    definition: Definition,
    steps: int,
) -> Tensor:
    """importance_P summed over a response that is not empty; gradients of the sum cost one derivative, not R."""
    if definition is Definition.OCCLUSION:
        return occlusion(model, prompt, response, memory)[0].sum(1)
    at = _total_at(model, prompt, response, memory)
    importance_P = at(1.0) if definition is Definition.GRAD_X_INPUT else _along(at, steps)
    return _finite(importance_P, model, prompt).cpu()


def log_probabilities(
    model: Model, prompt: EncodedPrompt, response: tuple[int, ...], masked_BP: Tensor, memory: int | None
) -> Tensor:
    """log_BR on the CPU: log p of each response token where the embeddings of masked prompt tokens are zero.

    masked_BP: bool, a row a mask. By the engine, else by the module's own forward pass.
    """
    most = memory_bytes(memory, model.input_device)
    transformer = _engine(model, prompt, response)
    tokens = _tokens(model, prompt, response, 1.0)
    with _alone(model, prompt):
        if transformer is not None:
            return masked.log_probabilities(transformer, tokens, masked_BP, most).cpu()
        found_BR = autograd.log_probabilities(
            model.module, tokens.embedding_TD, tokens.prompt, tokens.response_R, masked_BP, most
        )
    return found_BR.cpu()


def _at(model: Model, prompt: EncodedPrompt, response: tuple[int, ...], memory: int | None, precision: Precision) -> At:
    """importance_PR at any scale of the prompt's embeddings."""
    return lambda scale: _gradients(model, prompt, response, memory, precision, scale)[0]


def _gradients(
    model: Model,
    prompt: EncodedPrompt,
    response: tuple[int, ...],
    memory: int | None,
    precision: Precision,
    scale: float,
) -> tuple[Tensor, Tensor]:
    most = memory_bytes(memory, model.input_device)
    transformer = _engine(model, prompt, response)
    with _alone(model, prompt):
        if transformer is None:
            return _by_autograd(model, prompt, response, most, scale)
        return engine.importance(transformer, _tokens(model, prompt, response, scale), most, precision)


def _total_at(model: Model, prompt: EncodedPrompt, response: tuple[int, ...], memory: int | None) -> At:
    """importance_P, summed over the response, at any scale of the prompt's embeddings."""
    most = memory_bytes(memory, model.input_device)
    transformer = _engine(model, prompt, response)

    def at(scale: float) -> Tensor:
        with _alone(model, prompt):
            if transformer is not None:
                return engine.total(transformer, _tokens(model, prompt, response, scale), most)[0]
            kept = autograd.forward(model.module, prompt.prefix_ids, prompt.prompt_ids, response, scale)
            return (autograd.total_gradient(kept) * kept.embedding_PD).sum(-1)

    return at


def _engine(model: Model, prompt: EncodedPrompt, response: tuple[int, ...]) -> Transformer | None:
    """The model as the engine computes it on this text; None: autograd does.

    The engine leaves the last response token out and pads the rest. Where the angles follow the text's length, and are
    others for so many rows, only the module's own forward pass has the right ones. Raises InputError where the module
    is no causal language model.
    """
    autograd.ends(model.module)
    tokens = len(prompt.prefix_ids) + len(prompt.prompt_ids) + len(response)
    computed = tokens - 1 + -(tokens - 1) % STEP
    return model.transformer_or_reason[0] if same_angles(model.module.config, tokens, computed) else None


@contextmanager
def _alone(model: Model, prompt: EncodedPrompt) -> Iterator[None]:
    """Passes over one text, with angles that no earlier text changed; InputError where logits are not finite."""
    reset_angles(model.module)
    with finite(model, f"prompt {prompt.prompt.id!r}"):
        yield


def _along(at: At, steps: int) -> Tensor:
    """Integrated importance by the midpoint rule; what is there at scale a is the gradient times a e.

    Points crowded toward zero, where a model that norms its input changes fastest, left no less of p unexplained on the
    bundled models: there gradients are large and of either sign.
    """
    points = [(step + 0.5) / steps for step in range(steps)]
    return torch.stack([at(a) / (a * steps) for a in points]).sum(0)


def _tokens(model: Model, prompt: EncodedPrompt, response: tuple[int, ...], scale: float) -> Tokens:
    rows = slice(len(prompt.prefix_ids), len(prompt.prefix_ids) + len(prompt.prompt_ids))
    ids = torch.tensor(prompt.prefix_ids + prompt.prompt_ids + response, device=model.input_device)
    embedding_TD = model.module.get_input_embeddings()(ids).detach()
    if scale != 1.0:
        embedding_TD[rows] *= scale
    return Tokens(embedding_TD, rows, ids[rows.stop :])


def _finite(importance: Tensor, model: Model, prompt: EncodedPrompt) -> Tensor:
    check_importance(importance, model, prompt.prompt.id)
    return importance


def _by_autograd(
    model: Model, prompt: EncodedPrompt, response: tuple[int, ...], memory: int, scale: float
) -> tuple[Tensor, Tensor]:
    kept = autograd.forward(model.module, prompt.prefix_ids, prompt.prompt_ids, response, scale)
    embedding_PD = kept.embedding_PD.cpu()
    # The core reads host memory: a chunk's gradients come over, never the whole P x R x D.
    gradients = autograd.gradients(kept, autograd.chunk(model.module.config.get_text_config(), kept, memory))
    columns = [ops.grad_x_input(grad_RPD.cpu(), embedding_PD) for _, grad_RPD in gradients]
    return torch.cat(columns, dim=1), kept.probability_R
