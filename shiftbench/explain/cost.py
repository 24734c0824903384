"""About how many floating-point operations explanations take, estimated from a model's shape.

A product with the weights takes 2 operations for each parameter and row. How many rows there are is derived in
docs/mathematics.md, 'How it is computed'.
"""

from __future__ import annotations

from collections.abc import Sequence

from shiftbench.models import ModelShape


def layer_parameters(shape: ModelShape) -> int:
    """About how many parameters the layers have: all of the model's but one embedding matrix.

    Where inputs and outputs have a matrix each, the other one is counted.
    """
    return shape.parameters - shape.vocabulary * shape.width


def attribution_flops(shape: ModelShape, prompt_tokens: Sequence[int], response_tokens: int) -> float:
    """Operations of attribution, summed over prompts: a forward pass, and derivatives of P R rows through the layers.

    The forward pass takes P + R rows through all parameters; the derivatives' rows go through layer_parameters alone.
    prompt_tokens: P of each prompt. response_tokens: R, the same for every prompt.
    """
    forward, derivatives = 2.0 * shape.parameters, 2.0 * layer_parameters(shape) * response_tokens
    return sum(forward * (tokens + response_tokens) + derivatives * tokens for tokens in prompt_tokens)


def occlusion_flops(shape: ModelShape, prompt_tokens: Sequence[int], response_tokens: int) -> float:
    """Operations of masking every prompt token alone, summed over prompts.

    A mask changes nothing in front of its token, so P masks take P R + P^2 / 2 rows through the layers, of which P R go
    through the output embeddings. One unmasked forward pass is added. The arguments are those of `attribution_flops`.
    """
    layers, embedding = 2.0 * layer_parameters(shape), 2.0 * shape.vocabulary * shape.width
    return sum(
        2.0 * shape.parameters * (tokens + response_tokens)
        + layers * (tokens * response_tokens + tokens**2 / 2)
        + embedding * tokens * response_tokens
        for tokens in prompt_tokens
    )


def mask_flops(shape: ModelShape, passes: Sequence[tuple[int, int]], response_tokens: int) -> float:
    """Operations of forward passes over masked prompts with their responses, summed over prompts.

    passes: for each prompt, (its number of tokens, how many forward passes it takes). response_tokens: the length of
    every response.
    """
    return sum(2.0 * shape.parameters * (tokens + response_tokens) * count for tokens, count in passes)
