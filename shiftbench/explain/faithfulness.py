"""A check of attributions: the response's probability where tokens are masked in the order of their importance.

Comprehensiveness and sufficiency are those of DeYoung et al. 2020 (ERASER, section 4). A method that is itself a mask
is right by definition under that mask, so the tokens are masked in several ways. The orders are compared with random
ones and with orders that look at no model. How to read the numbers: docs/attribution.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from shiftbench.contracts.explainer import Explainer, Inputs
from shiftbench.errors import InputError
from shiftbench.explain.cost import mask_flops
from shiftbench.explain.importance import (
    Definition,
    Options,
    change_under_masks,
    log_probabilities,
    memory_bytes,
    total_importance,
)
from shiftbench.explain.keys import method_content, prompt_draws, text_content
from shiftbench.explain.masks import Mask, Masking, mask_named
from shiftbench.explain.methods import AttributionMethod, method_named
from shiftbench.models import Model, ModelShape
from shiftbench.prompts import EncodedPrompt
from shiftbench.readers.numbers import check_whole
from shiftbench.store.explanation import Unit
from shiftbench.store.work import Work

# An order is named "grad_x_input" (most important token first), "longest first" or "random 1", for example.
RANDOM = "random"


def _longest(prompt: EncodedPrompt, response: tuple[int, ...]) -> list[float]:
    return [float(len(token.strip())) for token in prompt.tokens]


def _last(prompt: EncodedPrompt, response: tuple[int, ...]) -> list[float]:
    return [float(place) for place in range(len(prompt.prompt_ids))]


def _rarest(prompt: EncodedPrompt, response: tuple[int, ...]) -> list[float]:
    # A tokenizer numbers its tokens in the order of its merges, the most frequent pair of its training text first.
    return [float(token) for token in prompt.prompt_ids]


def _repeated(prompt: EncodedPrompt, response: tuple[int, ...]) -> list[float]:
    return [float(response.count(token)) for token in prompt.prompt_ids]


# Orders that look at no model: each gives a number for every prompt token, and the largest comes first.
BASELINES: dict[str, Callable[[EncodedPrompt, tuple[int, ...]], list[float]]] = {
    "longest first": _longest,
    "last first": _last,
    "rarest first": _rarest,
    "repeated first": _repeated,
}


@dataclass(frozen=True)
class Faithfulness(Explainer):
    """Probabilities of a response where tokens of its prompt are masked, by several orders and in several ways.

    The orders of tokens are one for each method, the most important token first, those of BASELINES, and random ones.
    For each order and fraction two masks are made. The first masks the first tokens of the order: round(fraction * N),
    at least one and at most N - 1. The second masks the other tokens.

    methods: names of explain.methods, the cheapest first. perturbations: names of explain.masks.Mask, in which tokens
    are masked. steps: points of a method's path. method_draws: a method's draws, of resampled tokens or of noise.
    mask_draws: draws of resampled tokens where they judge. fractions: shares of the N tokens that may be masked
    (`maskable`), each above 0 and below 1. draws: the number of random orders. prompts: the most prompts that are used,
    evenly spread over those with a response and at least two tokens that may be masked; None for all. tokens: how many
    tokens of each prompt, drawn at random, are also masked alone; all where it is None or the prompt has no more.
    seed: of all draws. memory: MiB that the engine may fill; None for the device's default (memory_bytes).

    Raises InputError where a method or perturbation is unknown or named twice, one of the lists is empty, a fraction is
    out of range, `tokens` is less than 3, or steps, draws, method_draws, mask_draws or prompts are less than 1.
    """

    methods: Sequence[str]
    perturbations: Sequence[str]
    steps: int
    method_draws: int
    mask_draws: int
    fractions: Sequence[float]
    draws: int
    prompts: int | None
    tokens: int | None
    seed: int
    memory: int | None
    method: ClassVar[str] = "faithfulness"
    version: ClassVar[int] = 2

    def __post_init__(self) -> None:
        for option, names in (("methods", self.methods), ("perturbations", self.perturbations)):
            if not names or len(set(names)) < len(names):
                raise InputError(f"faithfulness: {option} must name at least one, and each once")
        if not self.fractions or not all(0 < fraction < 1 for fraction in self.fractions):
            raise InputError(f"faithfulness: fractions={list(self.fractions)} must lie between 0 and 1")
        check_whole("faithfulness: draws", self.draws, 1)
        check_whole("faithfulness: mask_draws", self.mask_draws, 1)
        check_whole("faithfulness: method_draws", self.method_draws, 1)
        check_whole("faithfulness: steps", self.steps, 1)
        check_whole("faithfulness: prompts", self.prompts, 1, null="all prompts")
        check_whole("faithfulness: tokens", self.tokens, 3, null="all tokens")  # 3, for a rank correlation
        check_whole("faithfulness: seed", self.seed, None)
        check_whole("faithfulness: memory", self.memory, 1, null="the device's default (MiB)")
        _ = self.maskings  # raises InputError for a name that is not known
        for each in self.attributions:
            if not self.perturbations_for(each.name):
                raise InputError(
                    f"faithfulness: methods: {each.name} is right by definition where its own mask judges it; add "
                    "another to perturbations, such as delete or resample"
                )

    @cached_property
    def attributions(self) -> list[AttributionMethod]:
        """The methods, in the order of `methods`."""
        options = Options(self.steps, Masking(Mask.ZERO, self.method_draws, self.seed))
        return [method_named("faithfulness: methods", name, options) for name in self.methods]

    @cached_property
    def maskings(self) -> list[Masking]:
        """The perturbations, in the order of `perturbations`.

        Their draws are others than the methods', so that a method by resampling is not judged by its own draws.
        """
        kinds = [mask_named("faithfulness: perturbations", name) for name in self.perturbations]
        return [Masking(kind, self.mask_draws, self.seed + 1) for kind in kinds]

    def perturbations_for(self, method: str) -> list[str]:
        """The perturbations that may judge a method: all but the mask that it uses itself."""
        own = next(each.own_mask for each in self.attributions if each.name == method)
        return [name for name in self.perturbations if own is None or name != own.value]

    def check_model(self, model: Model) -> None:
        """Raise InputError where the model's tokenizer has no token for one of the masks."""
        for masking in (*self.maskings, *(each.options.masking for each in self.attributions if each.uses_mask)):
            masking.check(model)

    def work(self, model: Model, inputs: Inputs) -> list[Work]:
        """A unit for each prompt that is used.

        Its axes are O: orders (words `orders`), F: fractions, M: methods (words `methods`), K: perturbations (words
        `perturbations`), J: tokens that are masked alone. All arrays but token_J are float32. "Mean probability" and
        "mean log-probability" are over the response's tokens. removed_KOF, removed_log_KOF: both means where the first
        tokens of an order, a fraction of all, are masked. kept_KOF, kept_log_KOF: both means where these tokens are
        left and all others are masked. full_2: both means where no token is masked. token_J (int64): indices of the
        prompt tokens that are masked alone. change_KJ: by how much the mean probability falls where one of them is
        masked. importance_MP: each method's importance of each prompt token, averaged over the response's tokens.
        Raises InputError as `check_model` does.
        """
        self.check_model(model)
        common = method_content(
            self,
            model,
            {
                "methods": [_content(each) for each in self.attributions],
                "perturbations": [{"kind": each.kind.value, **each.content()} for each in self.maskings],
                "fractions": list(self.fractions),
                "draws": self.draws,
                "tokens": self.tokens,
                "seed": self.seed,
            },
        )
        return [
            Work(
                unit=prompt.prompt.id,
                content={**common, **text_content(prompt, response)},
                compute=lambda prompt=prompt, response=response: self._unit(model, prompt, response),  # type: ignore[misc]
            )
            for prompt, response in self.used_prompts(inputs.prompts)
        ]

    def flops(self, shape: ModelShape, prompt_tokens: Sequence[int], response_tokens: int) -> float:
        """About the operations of the forward passes and gradients, summed over the first `prompts` prompts.

        The prompts that are used may be others: which ones have a response is not known yet.
        """
        return mask_flops(
            shape, [(tokens, self._forward_passes(tokens)) for tokens in prompt_tokens[: self.prompts]], response_tokens
        )

    def engine_bytes(self, device: torch.device) -> int:
        """The bytes that the engine may fill: what `memory` says, or the device's default where it is None."""
        return memory_bytes(self.memory, device)

    def _forward_passes(self, tokens: int) -> int:
        """About how many forward passes a prompt of so many tokens takes.

        They are one for the prompt without a mask, one for each mask, as if no two masks were equal, and three for each
        gradient of the summed probabilities.
        """
        alone = tokens if self.tokens is None else min(self.tokens, tokens)
        orders = len(self.methods) + len(BASELINES) + self.draws
        masks = sum(
            (alone + 2 * orders * len(self.fractions)) * (self.mask_draws if masking.is_drawn else 1)
            for masking in self.maskings
        )
        return 1 + masks + sum(_passes(each, tokens) for each in self.attributions)

    def used_prompts(
        self, prompts: Sequence[tuple[EncodedPrompt, tuple[int, ...]]]
    ) -> Sequence[tuple[EncodedPrompt, tuple[int, ...]]]:
        """The prompts that are used, with their responses: as many as the option `prompts` says.

        They are evenly spread over those that have a response and two tokens to mask or more: where there is one token,
        there is no order. All of those are used where there are no more of them, or where the option is None.
        """
        answered = [item for item in prompts if item[1] and len(maskable(item[0])) > 1]
        wanted = len(answered) if self.prompts is None else min(self.prompts, len(answered))
        return [answered[i * len(answered) // wanted] for i in range(wanted)]

    def _unit(self, model: Model, prompt: EncodedPrompt, response: tuple[int, ...]) -> Unit:
        importance_MP = torch.stack([self._importance(each, model, prompt, response) for each in self.attributions])
        names, order_ON = self._orders(importance_MP, prompt, response)
        token_J = self._tokens_alone(prompt)
        none_1P = torch.zeros(1, len(prompt.prompt_ids), dtype=torch.bool)
        alone_JP = torch.eye(len(prompt.prompt_ids), dtype=torch.bool)[token_J]
        masked_BP = torch.cat([none_1P, alone_JP, self._masks_of_orders(order_ON, len(prompt.prompt_ids))])
        # Masks of several orders may be equal, so only the U distinct ones of the B masks are computed.
        distinct_UP, distinct_of_B = masked_BP.unique(dim=0, return_inverse=True)
        removed, kept, changes = [], [], []
        for masking in self.maskings:
            log_BR = log_probabilities(model, prompt, response, distinct_UP, self.memory, masking)[distinct_of_B]
            changes.append(change_under_masks(log_BR[0], log_BR[1 : 1 + len(token_J)]).mean(1).float())
            means_2B = torch.stack([log_BR.exp().mean(1), log_BR.mean(1)]).float()
            of_orders = means_2B[:, 1 + len(token_J) :].view(2, 2, len(names), len(self.fractions))
            removed.append(of_orders[:, 0])
            kept.append(of_orders[:, 1])
        removed_2KOF, kept_2KOF = torch.stack(removed, 1), torch.stack(kept, 1)
        arrays = {
            "full_2": means_2B[:, 0].clone(),
            "removed_KOF": removed_2KOF[0].contiguous(),
            "removed_log_KOF": removed_2KOF[1].contiguous(),
            "kept_KOF": kept_2KOF[0].contiguous(),
            "kept_log_KOF": kept_2KOF[1].contiguous(),
            "token_J": token_J,
            "change_KJ": torch.stack(changes),
            "importance_MP": importance_MP.float(),
        }
        words = {"orders": names, "methods": list(self.methods), "perturbations": list(self.perturbations)}
        return Unit(arrays, words)

    def _importance(
        self, method: AttributionMethod, model: Model, prompt: EncodedPrompt, response: tuple[int, ...]
    ) -> Tensor:
        """importance_P by one method, averaged over the response's tokens."""
        total_P = total_importance(method.definition, method.options, model, prompt, response, self.memory)
        return total_P / len(response)

    def _orders(
        self, importance_MP: Tensor, prompt: EncodedPrompt, response: tuple[int, ...]
    ) -> tuple[list[str], Tensor]:
        """(names, order_ON): the names of O orders of the tokens that may be masked, and their indices in each order.

        The orders are: the token of largest importance first, negative ones last, for each method; the orders of
        BASELINES; and the random ones. Tokens of equal importance are in the order of the prompt.
        """
        token_N = maskable(prompt)
        baseline_BP = torch.tensor([number(prompt, response) for number in BASELINES.values()])
        ranked = [
            each[:, token_N].argsort(dim=1, descending=True, stable=True) for each in (importance_MP, baseline_BP)
        ]
        draws = prompt_draws(prompt, self.seed, "orders")
        random_SN = torch.stack([torch.randperm(len(token_N), generator=draws) for _ in range(self.draws)])
        names = [*self.methods, *BASELINES, *(f"{RANDOM} {draw + 1}" for draw in range(self.draws))]
        return names, token_N[torch.cat([*ranked, random_SN])]

    def _tokens_alone(self, prompt: EncodedPrompt) -> Tensor:
        """Indices of the prompt's tokens that are masked alone, int64, ascending."""
        token_N = maskable(prompt)
        if self.tokens is None:
            return token_N
        drawn = torch.randperm(len(token_N), generator=prompt_draws(prompt, self.seed, "tokens"))
        return token_N[drawn[: self.tokens]].sort().values

    def _masks_of_orders(self, order_ON: Tensor, prompt_tokens: int) -> Tensor:
        """bool [2 * O * F, P], True for a masked token: the masks of every order and fraction.

        The first O * F masks mask the first tokens of an order; those of one order stand together. The others, in the
        same sequence, mask all tokens of the order but these.
        """
        count = order_ON.shape[1]
        firsts = [min(count - 1, max(1, round(fraction * count))) for fraction in self.fractions]
        masked = []
        for is_kept in (False, True):
            for order_N in order_ON:
                for first in firsts:
                    mask_P = torch.zeros(prompt_tokens, dtype=torch.bool)
                    mask_P[order_N[first:] if is_kept else order_N[:first]] = True
                    masked.append(mask_P)
        return torch.stack(masked)


def maskable(prompt: EncodedPrompt) -> Tensor:
    """Indices of the tokens that may be masked, int64 [N], ascending: those of instruction and context.

    The prompt's other tokens are labels, such as 'Output:', that fix the answer's form. Masking them costs any response
    much of its probability, whatever it says, so that an order which takes the last tokens first would look right. All
    tokens may be masked where fewer than two belong to instruction or context.
    """
    token_N = (prompt.instruction_P | prompt.context_P).nonzero()[:, 0]
    return token_N if len(token_N) > 1 else torch.arange(len(prompt.prompt_ids))


def _content(method: AttributionMethod) -> dict[str, str | int | float]:
    """What a method's importance depends on besides the model and the text."""
    return {"method": method.definition.value, **method.options.content(method.definition)}


def _passes(method: AttributionMethod, tokens: int) -> int:
    """About how many forward passes a method's summed importance takes for a prompt of so many tokens."""
    if method.definition is Definition.OCCLUSION:
        return tokens * (method.options.masking.draws if method.options.masking.is_drawn else 1)
    return 3 * method.options.points(method.definition)
