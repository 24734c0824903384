"""Gradients of a response by the embeddings of its prompt: at the prompt itself, along a path to it, and around it.

The definitions that are built from them, with their sources: explain.importance.Definition.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property

import torch
from torch import Tensor

from shiftbench import ops
from shiftbench.engine import autograd
from shiftbench.engine import importance as engine
from shiftbench.engine.importance import Tokens
from shiftbench.engine.probability import Objective
from shiftbench.engine.product import Precision
from shiftbench.explain.keys import prompt_draws
from shiftbench.explain.masks import embedding_size
from shiftbench.explain.passes import engine_model, engine_tokens, pass_over_one_text
from shiftbench.models import Model
from shiftbench.prompts import EncodedPrompt

# A function of a share a of the path from a start b to the prompt's embeddings e. It returns the gradient at b + a (e -
# b), times a (e - b): as importance_PR, or as importance_P, which is summed over the response.
GradAlongPath = Callable[[float], Tensor]

FIRST_POINTS = 7  # of the adaptive rule; with fewer points the sum could be right by chance


@dataclass(frozen=True)
class Gradients:
    """The gradients of one text's response by its prompt's embeddings, each times a direction.

    response: token ids, at least one. memory: bytes. precision: of the engine's derivatives. objective: what of a
    response token has the gradient. summed: whether gradients are summed over the response's tokens, which takes one
    derivative instead of one for each of them.
    """

    model: Model
    prompt: EncodedPrompt
    response: tuple[int, ...]
    memory: int
    precision: Precision = Precision.FLOAT32
    objective: Objective = Objective.PROBABILITY
    summed: bool = False

    @cached_property
    def tokens(self) -> Tokens:
        """Prefix, prompt and response as the engine takes them."""
        return engine_tokens(self.model, self.prompt, self.response)

    def at_prompt(self) -> tuple[Tensor, Tensor]:
        """What `at` returns, with the prompt's embeddings both as the point and as the direction."""
        return self.at(self.tokens.embedding_PD, self.tokens.embedding_PD)

    def at(self, point_PD: Tensor, direction_PD: Tensor) -> tuple[Tensor, Tensor]:
        """(importance_PR, probability_R): the gradient where the prompt's embeddings are `point_PD`, times a direction.

        importance_PR[n, r] is the gradient by the embedding of token n, multiplied by direction_PD[n] and summed over
        the embedding's width; where `summed` is true, importance_P is returned in its place, summed over r.
        probability_R: the response tokens' probabilities at this point. The engine computes both where it can, else
        autograd does. Raises InputError as explain.importance.importance does.
        """
        transformer = engine_model(self.model, self.prompt, self.response)
        with pass_over_one_text(self.model, self.prompt):
            if transformer is None:
                return self._by_autograd(point_PD, direction_PD)
            compute = engine.total if self.summed else engine.importance
            tokens = self._tokens_at(point_PD, direction_PD)
            return compute(transformer, tokens, self.memory, self.precision, self.objective)

    def _tokens_at(self, point_PD: Tensor, direction_PD: Tensor) -> Tokens:
        embedding_TD = self.tokens.embedding_TD.clone()
        embedding_TD[self.tokens.prompt] = point_PD
        return replace(self.tokens, embedding_TD=embedding_TD, other_direction_PD=direction_PD)

    def _by_autograd(self, point_PD: Tensor, direction_PD: Tensor) -> tuple[Tensor, Tensor]:
        """What `at` returns. importance_PR is on the CPU; importance_P and probability_R are on the model's device."""
        module, prompt = self.model.module, self.prompt
        graph = autograd.forward(module, prompt.prefix_ids, prompt.prompt_ids, self.response, point_PD, self.objective)
        if self.summed:
            return (autograd.total_gradient(graph) * direction_PD).sum(-1), graph.probability_R
        # Gradients are copied to the CPU and multiplied there chunk by chunk, because all of them together (R x P x D)
        # can be too large for the device.
        direction_PD = direction_PD.cpu().contiguous()
        gradients = autograd.gradients(graph, autograd.chunk(module.config.get_text_config(), graph, self.memory))
        columns = [ops.grad_x_input(grad_RPD.cpu(), direction_PD) for _, grad_RPD in gradients]
        return torch.cat(columns, dim=1), graph.probability_R


def along_path(gradients: Gradients, starts: Sequence[Tensor]) -> GradAlongPath:
    """The function of a share a of the path that GradAlongPath describes, averaged over the starts.

    starts: the embeddings [P, D] at which paths to the prompt's embeddings begin, one for each path.
    """
    own_PD = gradients.tokens.embedding_PD

    def at_share(share: float) -> Tensor:
        found = []
        for start_PD in starts:
            offset_PD = share * (own_PD - start_PD)
            found.append(gradients.at(start_PD + offset_PD, offset_PD)[0])
        return found[0] if len(found) == 1 else torch.stack(found).mean(0)

    return at_share


def midpoint(along: GradAlongPath, steps: int) -> Tensor:
    """The integral over the path by the midpoint rule, from gradients at `steps` evenly spaced shares of it.

    `along` multiplies by a (e - b), so its result at share a is divided by a. On a path from zero, points that are
    denser near zero, where a model with a norm on its input changes fastest, did not bring the sum over prompt tokens
    closer to p_r less the probability at the start on the bundled models: gradients there are large and of both signs.
    """
    points = [(step + 0.5) / steps for step in range(steps)]
    return torch.stack([along(a) / (a * steps) for a in points]).sum(0)


def adaptive(along: GradAlongPath, wanted: Tensor, steps: int, tolerance: float) -> tuple[Tensor, int]:
    """(integral over the path, number of its points), with about twice as many points until the error is small enough.

    The rule is Fejér's second (Waldvogel 2006, "Fast construction of the Fejér and Clenshaw-Curtis quadrature rules"):
    its points are in the path's inside, and those of a rule are among the points of the next one, so no gradient is
    computed twice. wanted: what the integral summed over the prompt's tokens should come to (`completeness_error`).
    steps: the most points; they are 2^m - 1, FIRST_POINTS at first where `steps` allows so many. tolerance: the
    completeness error at which no further point is taken.
    """
    most = (steps + 1).bit_length() - 1  # the largest m with 2^m - 1 <= steps
    known: dict[Fraction, Tensor] = {}
    for power in range(min(most, FIRST_POINTS.bit_length()), most + 1):
        integral = _fejer(along, power, known)
        if completeness_error(integral, wanted) <= tolerance:
            break
    return integral, len(known)


def _fejer(along: GradAlongPath, power: int, known: dict[Fraction, Tensor]) -> Tensor:
    """The integral by Fejér's second rule with 2^power - 1 points.

    known: the gradient at each point that was computed before, by the point's angle as a fraction of pi; new points are
    added.
    """
    count = 2**power
    parts = []
    for k in range(1, count):
        angle = Fraction(k, count)
        share, weight = fejer_point(k, count)
        if angle not in known:
            known[angle] = along(share) / share
        parts.append(known[angle] * weight)
    return torch.stack(parts).sum(0)


def fejer_point(k: int, count: int) -> tuple[float, float]:
    """(point, weight) number k, from 1 to count - 1, of Fejér's second rule with count - 1 points on [0, 1].

    count: even.
    """
    angle = math.pi * k / count
    series = sum(math.sin((2 * j - 1) * angle) / (2 * j - 1) for j in range(1, count // 2 + 1))
    return (1 - math.cos(angle)) / 2, 2 * math.sin(angle) / count * series


def completeness_error(integral: Tensor, wanted: Tensor) -> float:
    """How far integrated gradients are from summing to what the prompt adds, as a share of what it adds; 0 or more.

    It is sum_r |sum_n integral[n, r] - wanted[r]| / sum_r |wanted[r]|. integral: importance_PR, with wanted [R] =
    p_r - p_r(start); or importance_P, with `wanted` the sum of these over r, which makes the error a lower bound of the
    one above.
    """
    found = integral.sum(0).double().cpu()
    wanted = wanted.double().cpu()
    smallest = torch.finfo(torch.float64).tiny  # so that the error is 0 where both sides are 0
    return float((found - wanted).abs().sum() / wanted.abs().sum().clamp_min(smallest))


def smooth(gradients: Gradients, noise: float, draws: int, seed: int) -> Tensor:
    """The mean over `draws` of the gradient at e + noise, times the prompt's embeddings e.

    The noise is normal, with a standard deviation of `noise` times embedding_size(model). It is drawn in float64 from
    generators that depend on `seed` and the prompt's token ids, so that base and tuned get equal draws up to this
    factor where they get equal token ids.
    """
    own_PD = gradients.tokens.embedding_PD
    deviation = noise * embedding_size(gradients.model)
    generator = prompt_draws(gradients.prompt, seed, "noise on embeddings")
    found = []
    for _ in range(draws):
        noise_PD = deviation * torch.randn(own_PD.shape, generator=generator, dtype=torch.float64)
        found.append(gradients.at(own_PD + noise_PD.to(own_PD), own_PD)[0])
    return torch.stack(found).mean(0)
