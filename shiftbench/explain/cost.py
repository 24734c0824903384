"""About how many floating-point operations explanations take, from a model's shape (docs/mathematics.md)."""

from __future__ import annotations

from collections.abc import Sequence

from shiftbench.models import ModelShape


def layer_parameters(shape: ModelShape) -> int:
    """Parameters of the layers, about: all but the input embeddings, which tied output embeddings share."""
    return shape.parameters - shape.vocabulary * shape.width


def attribution_flops(shape: ModelShape, prompt_tokens: Sequence[int], response_tokens: int) -> float:
    """Of a forward pass, and of derivatives of P R rows through the layers: 2 operations a parameter and row."""
    forward, derivatives = 2.0 * shape.parameters, 2.0 * layer_parameters(shape) * response_tokens
    return sum(forward * (tokens + response_tokens) + derivatives * tokens for tokens in prompt_tokens)


def mask_flops(shape: ModelShape, passes: Sequence[tuple[int, int]], response_tokens: int) -> float:
    """Of forward passes over masked prompts. passes: of each prompt (its tokens, how many forward passes)."""
    return sum(2.0 * shape.parameters * (tokens + response_tokens) * count for tokens, count in passes)
