"""Importance of prompt tokens for response tokens, by one of three definitions.

p_r is the probability of response token r and e_n the embedding of prompt token n (docs/mathematics.md, 'Attribution of
a response to its prompt'). Gradient times input, d p_r / d e_n . e_n, is the first-order approximation of occlusion,
p_r - p_r(e_n = 0). Integrated gradients (Sundararajan et al. 2017, section 3) are the integral of the gradient along
the straight path from embeddings of zero to the prompt's, times the embedding. docs/controls.md, 'Faithfulness'
compares the three.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

from shiftbench import ops
from shiftbench.engine import autograd, masked
from shiftbench.engine import importance as engine
from shiftbench.engine.importance import Tokens
from shiftbench.engine.product import STEP, Precision
from shiftbench.errors import InputError
from shiftbench.explain.finite import check_importance, not_finite_as_input_error
from shiftbench.explain.masks import Mask, Masking
from shiftbench.models import Model
from shiftbench.models.block import Transformer
from shiftbench.models.rotary import reset_angles, same_angles
from shiftbench.prompts import EncodedPrompt

# A function of a scale, by which the prompt's embeddings e are multiplied. It returns gradient times input, where the
# input is scale * e: as importance_PR, or as importance_P, which is summed over the response.
GradXInputAtScale = Callable[[float], Tensor]

ZERO = Masking(Mask.ZERO)

# Default of `memory` on a CPU, in MiB. From 160 tokens on, SmolLM2 is 4 to 10% faster with 384 than with 256; 512 gains
# little more.
CPU_MEMORY = 384


class Definition(Enum):
    """What the importance of prompt token n for response token r is.

    GRAD_X_INPUT: d p_r / d e_n . e_n. INTEGRATED_GRADIENTS: the mean of d p_r / d e_n along the path from embeddings of
    zero to the prompt's, times e_n. OCCLUSION: p_r less the probability of r where the token is masked, with any mask
    of explain.masks.Mask; all other tokens stay as they are.
    """

    GRAD_X_INPUT = "grad_x_input"
    INTEGRATED_GRADIENTS = "integrated_gradients"
    OCCLUSION = "occlusion"


@dataclass(frozen=True)
class Options:
    """What definitions depend on besides the model and the text; each uses what is named for it.

    steps: at how many points of the path INTEGRATED_GRADIENTS takes the gradient. masking: what a masked token becomes
    by OCCLUSION.
    """

    steps: int = 32
    masking: Masking = ZERO


def memory_bytes(memory: int | None, device: torch.device) -> int:
    """The bytes that the engine may fill on a device.

    memory: MiB; None for the default, which is CPU_MEMORY on a CPU and an eighth of a GPU's whole memory (a GPU needs
    larger chunks to be busy).
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
    """(importance_PR, probability_R) of gradient times input, on the CPU, float64 for a model in float64, else float32.

    importance_PR[n, r] = d p_r / d e_n . e_n, summed over the embedding's width. response: token ids; for an empty one,
    R is 0 and the dtype float32. memory: MiB, or None (memory_bytes). precision: of the engine's derivatives. Where the
    engine cannot compute the model or the text, autograd computes the same numbers up to rounding, more slowly, and
    `precision` has no effect. Raises InputError where a logit that predicts the response is NaN or +inf or an
    importance is not finite (half precision overflows in some models), and where the module is no causal language
    model that takes input embeddings.
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

    steps: at how many points of the path the gradient is computed, 1 or more. importance_PR.sum(0) is p_r less the
    probability of r where all embeddings of the prompt are zero, up to an error that falls as `steps` grows. The other
    arguments are those of `importance`. Raises InputError also where log p_r is not finite.
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
    masking: Masking = ZERO,
) -> tuple[Tensor, Tensor]:
    """(importance_KR, probability_R), on the CPU: p_r less the probability of r where token n is masked.

    Dtypes are those of `importance`. token_K: indices n of the prompt tokens that get a row, int64, in the order of the
    rows; None for all prompt tokens. masking: what a masked token becomes. response: token ids; for an empty one, R is
    0. memory: MiB, or None (memory_bytes). Errors are those of `log_probabilities`.
    """
    count = len(prompt.prompt_ids)
    single_KP = torch.eye(count, dtype=torch.bool)
    single_KP = single_KP if token_K is None else single_KP[token_K]
    if not response:
        return torch.zeros(len(single_KP), 0), torch.zeros(0)
    masked_BP = torch.cat([torch.zeros(1, count, dtype=torch.bool), single_KP])
    log_BR = log_probabilities(model, prompt, response, masked_BP, memory, masking)
    importance_KR = change_under_masks(log_BR[0], log_BR[1:])
    return _require_finite(importance_KR, model, prompt), log_BR[0].exp()


def change_under_masks(log_R: Tensor, log_BR: Tensor) -> Tensor:
    """change_BR: by how much each response token's probability falls under each mask.

    log_R: log p without a mask. log_BR: log q under each mask. p - q = -p (q / p - 1), and q / p - 1 is expm1(log q -
    log p), which loses no digits where q is close to p.
    """
    return -log_R.exp() * (log_BR - log_R).expm1()


def importance_by(
    definition: Definition,
    options: Options,
    model: Model,
    prompt: EncodedPrompt,
    response: tuple[int, ...],
    memory: int | None,
    precision: Precision = Precision.FLOAT32,
) -> tuple[Tensor, Tensor]:
    """(importance_PR, probability_R) by a definition, as the function of that name returns them.

    precision: of derivatives; OCCLUSION takes none.
    """
    if definition is Definition.OCCLUSION:
        return occlusion(model, prompt, response, memory, masking=options.masking)
    if definition is Definition.INTEGRATED_GRADIENTS:
        return integrated_gradients(model, prompt, response, memory, options.steps, precision)
    return importance(model, prompt, response, memory, precision)


def total_importance(
    definition: Definition,
    options: Options,
    model: Model,
    prompt: EncodedPrompt,
    response: tuple[int, ...],
    memory: int | None,
) -> Tensor:
    """importance_P on the CPU: the importance of each prompt token, summed over the response, which must not be empty.

    By gradients it is in the model's dtype, half precision too; by occlusion in that of `occlusion`. For the
    definitions by gradients each point of a path costs about as much as one derivative, not R of them, because the
    gradient of the sum of probabilities is taken. memory: MiB, or None (memory_bytes). Errors are those of
    `importance`, and for occlusion those of `occlusion`.
    """
    if definition is Definition.OCCLUSION:
        return occlusion(model, prompt, response, memory, masking=options.masking)[0].sum(1)
    at_scale = _total_at_scale(model, prompt, response, memory)
    importance_P = at_scale(1.0) if definition is Definition.GRAD_X_INPUT else _integrate(at_scale, options.steps)
    return _require_finite(importance_P, model, prompt).cpu()


def log_probabilities(
    model: Model,
    prompt: EncodedPrompt,
    response: tuple[int, ...],
    masked_BP: Tensor,
    memory: int | None,
    masking: Masking = ZERO,
) -> Tensor:
    """log_BR on the CPU: log p of each response token where prompt tokens are masked.

    It is float64 for a model in float64, else float32. masked_BP: bool, one mask in each row, True for a masked token.
    masking: what a masked token becomes; where it has several draws, log_BR is the logarithm of the probability's mean
    over them. memory: MiB, or None (memory_bytes). Where the engine cannot compute the model or the text, the module's
    own forward pass does. Raises InputError where a log-probability is not finite, where the tokenizer has no token for
    the mask, where tokens are deleted and none is left in front of the response, and where the module is no causal
    language model that takes input embeddings.
    """
    replacements = masking.replacements(model, prompt)
    if masking.kind is Mask.DELETE and not prompt.prefix_ids and bool(masked_BP.all(1).any()):
        raise InputError(
            f"mask=delete: prompt {prompt.prompt.id!r} has {len(prompt.prompt_ids)} token, and deleting all of them "
            "leaves nothing in front of the response; leave the prompt out or use mask=mean"
        )
    # The engine computes the unmasked tokens once for each draw; of masks without a masked token all draws are equal.
    found = [_log_probabilities(model, prompt, response, masked_BP, memory, one) for one in replacements]
    if len(found) == 1:
        return found[0]
    return torch.stack(found).logsumexp(0) - math.log(len(found))


def _log_probabilities(
    model: Model,
    prompt: EncodedPrompt,
    response: tuple[int, ...],
    masked_BP: Tensor,
    memory: int | None,
    replacement_PD: Tensor | None,
) -> Tensor:
    memory_limit = memory_bytes(memory, model.input_device)
    deleted = 0 if replacement_PD is not None else int(masked_BP.sum(1).max()) if len(masked_BP) else 0
    transformer = _engine_model(model, prompt, response, deleted)
    tokens = _engine_tokens(model, prompt, response, 1.0)
    with _pass_over_one_text(model, prompt):
        if transformer is not None:
            return masked.log_probabilities(transformer, tokens, masked_BP, memory_limit, replacement_PD).cpu()
        found_BR = autograd.log_probabilities(
            model.module,
            tokens.embedding_TD,
            tokens.prompt,
            tokens.response_R,
            masked_BP,
            memory_limit,
            replacement_PD,
        )
    return found_BR.cpu()


def _grad_x_input_at_scale(
    model: Model, prompt: EncodedPrompt, response: tuple[int, ...], memory: int | None, precision: Precision
) -> GradXInputAtScale:
    """A function from a scale of the prompt's embeddings to importance_PR, by gradient times input, at that scale."""
    return lambda scale: _grad_x_input(model, prompt, response, memory, precision, scale)[0]


def _grad_x_input(
    model: Model,
    prompt: EncodedPrompt,
    response: tuple[int, ...],
    memory: int | None,
    precision: Precision,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """(importance_PR, probability_R) by gradient times input, where the prompt's embeddings are multiplied by `scale`.

    The input is the scaled embedding. The engine computes it where it can, else autograd does.
    """
    memory_limit = memory_bytes(memory, model.input_device)
    transformer = _engine_model(model, prompt, response)
    with _pass_over_one_text(model, prompt):
        if transformer is None:
            return _grad_x_input_by_autograd(model, prompt, response, memory_limit, scale)
        return engine.importance(transformer, _engine_tokens(model, prompt, response, scale), memory_limit, precision)


def _total_at_scale(
    model: Model, prompt: EncodedPrompt, response: tuple[int, ...], memory: int | None
) -> GradXInputAtScale:
    """A function from a scale of the prompt's embeddings to importance_P at that scale, by gradient times input.

    importance_P is summed over the response.
    """
    memory_limit = memory_bytes(memory, model.input_device)
    transformer = _engine_model(model, prompt, response)

    def at_scale(scale: float) -> Tensor:
        with _pass_over_one_text(model, prompt):
            if transformer is not None:
                return engine.total(transformer, _engine_tokens(model, prompt, response, scale), memory_limit)[0]
            kept = autograd.forward(model.module, prompt.prefix_ids, prompt.prompt_ids, response, scale)
            return (autograd.total_gradient(kept) * kept.embedding_PD).sum(-1)

    return at_scale


def _engine_model(
    model: Model, prompt: EncodedPrompt, response: tuple[int, ...], deleted: int = 0
) -> Transformer | None:
    """The model as the engine computes it; None where autograd must compute it, because of the model or of this text.

    The engine leaves out the last response token and pads the text to a multiple of STEP rows. The rotary angles of
    some models depend on the length of the text. Where a text of the padded length has other angles than the text
    itself, only the module's own forward pass has the right ones. deleted: the most tokens that a mask takes out of the
    text. Raises InputError where the module is no causal language model.
    """
    autograd.ends(model.module)
    tokens = len(prompt.prefix_ids) + len(prompt.prompt_ids) + len(response)
    computed = tokens - 1 + -(tokens - 1) % STEP
    same = same_angles(model.module.config, tokens, computed)
    same = same and same_angles(model.module.config, tokens - deleted, computed)
    return model.transformer_or_reason[0] if same else None


@contextmanager
def _pass_over_one_text(model: Model, prompt: EncodedPrompt) -> Iterator[None]:
    """A context for passes over one text. On entry it restores the rotary angles that the model had when it was loaded.

    transformers may have left the angles of another text in the module. Within the context NotFinite becomes an
    InputError that names the prompt.
    """
    reset_angles(model.module)
    with not_finite_as_input_error(model, f"prompt {prompt.prompt.id!r}"):
        yield


def _integrate(at_scale: GradXInputAtScale, steps: int) -> Tensor:
    """Integrated gradients by the midpoint rule, from gradient times input at `steps` evenly spaced scales.

    at_scale: gives gradient times input at scale a, where the input is a * e; divided by a, it is the gradient times e.
    Points that are denser near zero, where a model with a norm on its input changes fastest, did not bring the sum over
    prompt tokens closer to p_r less the probability at scale 0 on the bundled models: gradients there are large and of
    both signs.
    """
    points = [(step + 0.5) / steps for step in range(steps)]
    return torch.stack([at_scale(a) / (a * steps) for a in points]).sum(0)


def _engine_tokens(model: Model, prompt: EncodedPrompt, response: tuple[int, ...], scale: float) -> Tokens:
    """Prefix, prompt and response as the engine takes them. scale: the factor of the prompt's embeddings."""
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
    """What _grad_x_input returns, by autograd, for models and texts that the engine cannot compute. memory: bytes.

    importance_PR is on the CPU, probability_R on the model's device.
    """
    kept = autograd.forward(model.module, prompt.prefix_ids, prompt.prompt_ids, response, scale)
    embedding_PD = kept.embedding_PD.cpu()
    # Gradients are copied to the CPU and multiplied there chunk by chunk, because all of them together (R x P x D) can
    # be too large for the device.
    gradients = autograd.gradients(kept, autograd.chunk(model.module.config.get_text_config(), kept, memory))
    columns = [ops.grad_x_input(grad_RPD.cpu(), embedding_PD) for _, grad_RPD in gradients]
    return torch.cat(columns, dim=1), kept.probability_R
