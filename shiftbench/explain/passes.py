"""What every pass over one text needs: the model as the engine takes it, its tokens, and the context of the pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from shiftbench.engine import autograd
from shiftbench.engine.importance import Tokens
from shiftbench.engine.product import STEP
from shiftbench.explain.finite import not_finite_as_input_error
from shiftbench.models import Model
from shiftbench.models.block import Transformer
from shiftbench.models.rotary import reset_angles, same_angles
from shiftbench.prompts import EncodedPrompt


def engine_model(
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


def engine_tokens(model: Model, prompt: EncodedPrompt, response: tuple[int, ...]) -> Tokens:
    """Prefix, prompt and response as the engine takes them."""
    rows = slice(len(prompt.prefix_ids), len(prompt.prefix_ids) + len(prompt.prompt_ids))
    ids = torch.tensor(prompt.prefix_ids + prompt.prompt_ids + response, device=model.input_device)
    embedding_TD: Tensor = model.module.get_input_embeddings()(ids).detach()
    return Tokens(embedding_TD, rows, ids[rows.stop :])


@contextmanager
def pass_over_one_text(model: Model, prompt: EncodedPrompt) -> Iterator[None]:
    """A context for passes over one text. On entry it restores the rotary angles that the model had when it was loaded.

    transformers may have left the angles of another text in the module. Within the context NotFinite becomes an
    InputError that names the prompt.
    """
    reset_angles(model.module)
    with not_finite_as_input_error(model, f"prompt {prompt.prompt.id!r}"):
        yield
