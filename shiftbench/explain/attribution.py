"""Local explanation: which prompt tokens each response token rests on (Wu et al. 2023, section 3.1; DESIGN 2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from shiftbench import ops
from shiftbench.engine import autograd
from shiftbench.engine import importance as engine
from shiftbench.engine.importance import Tokens
from shiftbench.errors import InputError
from shiftbench.explain.work import Inputs, Work, made_by
from shiftbench.explanation import Unit
from shiftbench.models import Model
from shiftbench.prompts import EncodedPrompt, token_texts


@dataclass(frozen=True)
class Attribution:
    """Gradient-times-input importance of prompt tokens for response tokens, as levels 0..levels.

    memory: MiB of one forward pass that may be kept at a time; changes no result beyond rounding.
    """

    levels: int
    memory: int
    method: ClassVar[str] = "attribution"
    version: ClassVar[int] = 1
    needs_responses: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 1 <= self.levels <= 255:
            raise InputError(f"attribution: levels={self.levels} must lie between 1 and 255")
        if self.memory < 1:
            raise InputError(f"attribution: memory={self.memory} (MiB) must be at least 1")

    def work(self, model: Model, inputs: Inputs) -> list[Work]:
        """A unit a prompt: level_PR (uint8, uncut), probability_R (float32), instruction_P and context_P (bool)."""
        common = made_by(self, model, {"levels": self.levels})
        return [
            Work(
                unit=prompt.prompt.id,
                content={
                    **common,
                    "prefix": list(prompt.prefix_ids),
                    "prompt": list(prompt.prompt_ids),
                    "response": list(response),
                    # The masks are stored with the levels, so they belong to what is stored.
                    "instruction": prompt.instruction_P.nonzero()[:, 0].tolist(),
                    "context": prompt.context_P.nonzero()[:, 0].tolist(),
                },
                compute=lambda prompt=prompt, response=response: self._unit(model, prompt, response),  # type: ignore[misc]
            )
            for prompt, response in inputs.prompts
        ]

    def _unit(self, model: Model, prompt: EncodedPrompt, response: tuple[int, ...]) -> Unit:
        importance_PR, probability_R = importance(model, prompt, response, self.memory)
        arrays = {
            "level_PR": ops.importance_levels(importance_PR, self.levels),
            "probability_R": probability_R.float(),
            "instruction_P": prompt.instruction_P,
            "context_P": prompt.context_P,
        }
        words = {
            "prompt_tokens": list(prompt.tokens),
            "response_tokens": list(token_texts(model.tokenizer, response)),
        }
        return Unit(arrays, words)


def importance(model: Model, prompt: EncodedPrompt, response: tuple[int, ...], memory: int) -> tuple[Tensor, Tensor]:
    """(importance_PR, probability_R) on the CPU, float32 or the model's float64.

    importance_PR[n, r] = d p_r / d e_n . e_n, summed over the embedding's width (DESIGN 2). By the engine's own forward
    or reverse mode where the model is known to it, else by autograd: the same numbers, more slowly.
    Raises RuntimeError where a gradient is not finite: half precision overflows in some models, float32 does not.
    """
    if not response:
        return torch.zeros(len(prompt.prompt_ids), 0), torch.zeros(0)
    transformer, _ = model.plain
    if transformer is None:
        importance_PR, probability_R = _by_autograd(model, prompt, response, memory)
    else:
        prompt_rows = slice(len(prompt.prefix_ids), len(prompt.prefix_ids) + len(prompt.prompt_ids))
        ids = torch.tensor(prompt.prefix_ids + prompt.prompt_ids + response, device=model.input_device)
        embedding_TD = model.module.get_input_embeddings()(ids)
        tokens = Tokens(embedding_TD, prompt_rows, ids[prompt_rows.stop :])
        importance_PR, probability_R = engine.importance(transformer, tokens, memory * 2**20)
    if not torch.isfinite(importance_PR).all():
        raise RuntimeError(
            f"attribution of prompt {prompt.prompt.id!r} by {model.name} in {model.dtype} is not finite; "
            "use dtype=float32"
        )
    return importance_PR.cpu(), probability_R.cpu()


def _by_autograd(model: Model, prompt: EncodedPrompt, response: tuple[int, ...], memory: int) -> tuple[Tensor, Tensor]:
    kept = autograd.forward(model.module, prompt.prefix_ids, prompt.prompt_ids, response)
    embedding_PD = kept.embedding_PD.cpu()
    # The core reads host memory: a chunk's gradients come over, never the whole P x R x D.
    gradients = autograd.gradients(kept, autograd.chunk(model.module.config, kept, memory * 2**20))
    columns = [ops.grad_x_input(grad_RPD.cpu(), embedding_PD) for _, grad_RPD in gradients]
    return torch.cat(columns, dim=1), kept.probability_R
