"""Importance of prompt tokens for response tokens, by one of several definitions.

p_r is the probability of response token r and e_n the embedding of prompt token n (docs/mathematics.md, 'Attribution of
a response to its prompt'). Gradient times input, d p_r / d e_n . e_n, is the first-order approximation of occlusion,
p_r - p_r(e_n = 0). docs/attribution.md compares the definitions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

from shiftbench.engine import autograd, masked
from shiftbench.engine.probability import Objective
from shiftbench.engine.product import Precision
from shiftbench.errors import InputError
from shiftbench.explain import gradients
from shiftbench.explain.finite import check_importance
from shiftbench.explain.gradients import Gradients
from shiftbench.explain.masks import Mask, Masking
from shiftbench.explain.passes import engine_model, engine_tokens, pass_over_one_text
from shiftbench.models import Model
from shiftbench.prompts import EncodedPrompt

ZERO = Masking(Mask.ZERO)

# Default of `memory` on a CPU, in MiB. From 160 tokens on, SmolLM2 is 4 to 10% faster with 384 than with 256; 512 gains
# little more.
CPU_MEMORY = 384


class Definition(Enum):
    """What the importance of prompt token n for response token r is.

    GRAD_X_INPUT: d p_r / d e_n . e_n. GRAD_X_INPUT_LOG: d log p_r / d e_n . e_n, which is GRAD_X_INPUT divided by p_r.
    In levels both are equal, because levels are relative to a response token's largest importance (except where that
    is so small that the 1e-7 in the formula of levels counts); in sums over the response's tokens they differ.
    CONTRAST: d (p_r - p_f) / d e_n . e_n, with the foil f, the most probable token other than r at its position in the
    unmasked text (Yin and Neubig 2022, "Interpreting Language Models with Contrastive Explanations").
    INTEGRATED_GRADIENTS: the mean of d p_r / d e_n along the straight path from embeddings b to the prompt's, times
    e_n - b_n (Sundararajan et al. 2017, section 3); with b drawn, averaged over the draws (expected gradients, Erion et
    al. 2021). SMOOTH_GRADIENTS: the mean of d p_r / d e_n over draws of normal noise that is added to the prompt's
    embeddings, times e_n (Smilkov et al. 2017). OCCLUSION: p_r less the probability of r where the token is masked,
    with any mask of explain.masks.Mask; all other tokens stay as they are.
    """

    GRAD_X_INPUT = "grad_x_input"
    GRAD_X_INPUT_LOG = "grad_x_input_log"
    CONTRAST = "contrast"
    SMOOTH_GRADIENTS = "smooth_gradients"
    INTEGRATED_GRADIENTS = "integrated_gradients"
    OCCLUSION = "occlusion"


OBJECTIVES = {Definition.GRAD_X_INPUT_LOG: Objective.LOG_PROBABILITY, Definition.CONTRAST: Objective.CONTRAST}


@dataclass(frozen=True)
class Options:
    """What importance depends on besides the definition, the model and the text.

    OCCLUSION uses masking: what a masked token becomes.
    INTEGRATED_GRADIENTS uses three. masking: the path begins at the embeddings of the prompt with all tokens masked
    (DELETE has no such embeddings). steps: the number of points of the path; with a tolerance, the largest number.
    tolerance: no further point is taken once the completeness error (gradients.completeness_error) is at most this;
    None: `steps` points are taken in any case.
    SMOOTH_GRADIENTS uses noise, the noise's standard deviation in units of the root mean square of the vocabulary's
    embeddings, and the draws and the seed of masking. The other definitions use none.
    """

    steps: int = 32
    masking: Masking = ZERO
    tolerance: float | None = None
    noise: float = 0.1

    def content(self, definition: Definition) -> Mapping[str, str | int | float]:
        """The options that the definition uses, by their names in a unit's content; empty where it uses none.

        Options with the value that they had before they existed are left out: zero, no tolerance.
        """
        masking = self.masking
        if definition is Definition.OCCLUSION:
            return masking.content()
        if definition is Definition.INTEGRATED_GRADIENTS:
            rule = {} if self.tolerance is None else {"tolerance": self.tolerance}
            return {"steps": self.steps, **rule, **masking.content()}
        if definition is Definition.SMOOTH_GRADIENTS:
            return {"noise": self.noise, "noise_draws": masking.draws, "noise_seed": masking.seed}
        return {}

    def points(self, definition: Definition) -> int:
        """At how many points the definition takes the gradient, at most; 0 for OCCLUSION."""
        draws = self.masking.draws
        if definition is Definition.INTEGRATED_GRADIENTS:
            return self.steps * (draws if self.masking.kind is Mask.RESAMPLE else 1)
        return {Definition.OCCLUSION: 0, Definition.SMOOTH_GRADIENTS: draws}.get(definition, 1)


@dataclass(frozen=True)
class Completeness:
    """How well integrated gradients sum to what the prompt adds: `error`, a share of it, with `points` on each path.

    error: gradients.completeness_error. Both are 0 for an empty response.
    """

    error: float
    points: int


def check_path(masking: Masking) -> None:
    """Raise InputError where no path of integrated gradients can begin at a prompt that is masked so."""
    if masking.kind is Mask.DELETE:
        raise InputError(
            "mask=delete leaves no embeddings at which the path of method=integrated_gradients could begin; use "
            "mask=mean, another mask, or method=occlusion"
        )


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
    objective: Objective = Objective.PROBABILITY,
) -> tuple[Tensor, Tensor]:
    """(importance_PR, probability_R) of gradient times input, on the CPU, float64 for a model in float64, else float32.

    importance_PR[n, r] = d p_r / d e_n . e_n, summed over the embedding's width; objective: what takes the place of p_r
    in the gradient. probability_R is p_r in any case. response: token ids; for an empty one, R is 0 and the dtype
    float32. memory: MiB, or None (memory_bytes). precision: of the engine's derivatives. Where the engine cannot
    compute the model or the text, autograd computes the same numbers up to rounding, more slowly, and `precision` has
    no effect. Raises InputError where a logit that predicts the response is NaN or +inf or an importance is not finite
    (half precision overflows in some models), and where the module is no causal language model that takes input
    embeddings.
    """
    if not response:
        return torch.zeros(len(prompt.prompt_ids), 0), torch.zeros(0)
    memory_limit = memory_bytes(memory, model.input_device)
    found_PR, probability_R = Gradients(model, prompt, response, memory_limit, precision, objective).at_prompt()
    return _require_finite(found_PR, model, prompt).cpu(), probability_R.cpu()


def integrated_gradients(
    model: Model,
    prompt: EncodedPrompt,
    response: tuple[int, ...],
    memory: int | None,
    options: Options,
    precision: Precision = Precision.FLOAT32,
) -> tuple[Tensor, Tensor, Completeness]:
    """(importance_PR, probability_R, completeness), with dtypes and errors of the tensors as those of `importance`.

    options: where the path begins and at how many points of it the gradient is computed. importance_PR.sum(0) is p_r
    less the probability of r at the start of the path, averaged over draws, up to an error that falls as there are more
    points, and that `completeness` has. The other arguments are those of `importance`. Raises InputError also where log
    p_r is not finite, and where `check_path` does.
    """
    check_path(options.masking)
    if not response:
        return torch.zeros(len(prompt.prompt_ids), 0), torch.zeros(0), Completeness(0.0, 0)
    given = Gradients(model, prompt, response, memory_bytes(memory, model.input_device), precision)
    probability_R, start_R = _at_both_ends(model, prompt, response, memory, options.masking)
    added_R = probability_R - start_R
    importance_PR, points = _integral(given, options, added_R)
    _require_finite(importance_PR, model, prompt)
    completeness = Completeness(gradients.completeness_error(importance_PR, added_R), points)
    return importance_PR.cpu(), probability_R, completeness


def smooth_gradients(
    model: Model,
    prompt: EncodedPrompt,
    response: tuple[int, ...],
    memory: int | None,
    options: Options,
    precision: Precision = Precision.FLOAT32,
) -> tuple[Tensor, Tensor]:
    """(importance_PR, probability_R): the gradient, averaged over noise on the prompt's embeddings, times these.

    probability_R is that without noise. options: the noise, its draws and their seed. Dtypes and the other arguments
    are those of `importance`. Raises InputError as `importance` does, and where log p_r is not finite.
    """
    if not response:
        return torch.zeros(len(prompt.prompt_ids), 0), torch.zeros(0)
    given = Gradients(model, prompt, response, memory_bytes(memory, model.input_device), precision)
    found_PR = gradients.smooth(given, options.noise, options.masking.draws, options.masking.seed)
    probability_R = _probability(model, prompt, response, memory)
    return _require_finite(found_PR, model, prompt).cpu(), probability_R


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
) -> tuple[Tensor, Tensor, Completeness | None]:
    """(importance_PR, probability_R, completeness) by a definition; completeness is None but for INTEGRATED_GRADIENTS.

    The tensors are as the function of that name returns them. precision: of derivatives; OCCLUSION takes none.
    """
    given = (model, prompt, response, memory)
    if definition is Definition.INTEGRATED_GRADIENTS:
        return integrated_gradients(*given, options, precision)
    if definition is Definition.OCCLUSION:
        return *occlusion(*given, masking=options.masking), None
    if definition is Definition.SMOOTH_GRADIENTS:
        return *smooth_gradients(*given, options, precision), None
    return *importance(*given, precision, OBJECTIVES.get(definition, Objective.PROBABILITY)), None


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
    definitions by gradients each point costs about as much as one derivative, not R of them, because the gradient of
    the sum over the response is taken. With a tolerance, integrated gradients compare only this sum with what the
    prompt adds, so they may take fewer points than `integrated_gradients` does. memory: MiB, or None (memory_bytes).
    Errors are those of the function of the definition's name.
    """
    if definition is Definition.OCCLUSION:
        return occlusion(model, prompt, response, memory, masking=options.masking)[0].sum(1)
    objective = OBJECTIVES.get(definition, Objective.PROBABILITY)
    limit = memory_bytes(memory, model.input_device)
    given = Gradients(model, prompt, response, limit, objective=objective, summed=True)
    if definition is Definition.INTEGRATED_GRADIENTS:
        check_path(options.masking)
        added = None
        if options.tolerance is not None:
            probability_R, start_R = _at_both_ends(model, prompt, response, memory, options.masking)
            added = (probability_R - start_R).sum()
        found_P, _ = _integral(given, options, added)
    elif definition is Definition.SMOOTH_GRADIENTS:
        found_P = gradients.smooth(given, options.noise, options.masking.draws, options.masking.seed)
    else:
        found_P, _ = given.at_prompt()
    return _require_finite(found_P, model, prompt).cpu()


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
            f"mask=delete: deleting every token of prompt {prompt.prompt.id!r} leaves nothing in front of the "
            "response; leave the prompt out or use mask=mean"
        )
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
    deleted = int(masked_BP.sum(1).max()) if replacement_PD is None else 0
    transformer = engine_model(model, prompt, response, deleted)
    tokens = engine_tokens(model, prompt, response)
    with pass_over_one_text(model, prompt):
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


def _integral(given: Gradients, options: Options, added: Tensor | None) -> tuple[Tensor, int]:
    """(integrated gradients, number of points on each path): importance_PR, or importance_P where `given` is summed.

    added: what the prompt adds to p_r or to its sum over r; used only where there is a tolerance.
    """
    starts = [start for start in options.masking.replacements(given.model, given.prompt) if start is not None]
    along = gradients.along_path(given, starts)
    if options.tolerance is None or added is None:
        return gradients.midpoint(along, options.steps), options.steps
    return gradients.adaptive(along, added, options.steps, options.tolerance)


def _probability(model: Model, prompt: EncodedPrompt, response: tuple[int, ...], memory: int | None) -> Tensor:
    """probability_R on the CPU: the probability of each response token where no prompt token is masked."""
    unmasked_1P = torch.zeros(1, len(prompt.prompt_ids), dtype=torch.bool)
    return log_probabilities(model, prompt, response, unmasked_1P, memory)[0].exp()


def _at_both_ends(
    model: Model, prompt: EncodedPrompt, response: tuple[int, ...], memory: int | None, masking: Masking
) -> tuple[Tensor, Tensor]:
    """(probability_R of the prompt, probability_R where all of its tokens are masked, averaged over draws)."""
    masked_1P = torch.ones(1, len(prompt.prompt_ids), dtype=torch.bool)
    start_R = log_probabilities(model, prompt, response, masked_1P, memory, masking)[0].exp()
    return _probability(model, prompt, response, memory), start_R


def _require_finite(importance: Tensor, model: Model, prompt: EncodedPrompt) -> Tensor:
    """The importance itself; raises InputError where it is not finite."""
    check_importance(importance, model, prompt.prompt.id)
    return importance
