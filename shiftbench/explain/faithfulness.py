"""A check of attributions: the response's probability where tokens are masked in the order of their importance.

Comprehensiveness and sufficiency are those of DeYoung et al. 2020 (ERASER, section 4). How to read the numbers:
docs/controls.md, 'Faithfulness'.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from shiftbench.contracts.explainer import Explainer, Inputs
from shiftbench.errors import InputError
from shiftbench.explain.cost import mask_flops
from shiftbench.explain.importance import (
    Definition,
    Options,
    log_probabilities,
    memory_bytes,
    occlusion,
    total_importance,
)
from shiftbench.explain.keys import method_content, prompt_draws, text_content
from shiftbench.models import Model, ModelShape
from shiftbench.prompts import EncodedPrompt
from shiftbench.readers.numbers import check_whole
from shiftbench.store.explanation import Unit
from shiftbench.store.work import Work

# An order is named "grad_x_input" (most important token first), "grad_x_input reversed" or "random 1", for example.
REVERSED = " reversed"
RANDOM = "random"


@dataclass(frozen=True)
class Faithfulness(Explainer):
    """Probabilities of a response under masks of its prompt: most important tokens first, reversed, and at random.

    methods: values of explain.importance.Definition. steps: how many points of integrated gradients' path are computed.
    fractions: shares of the prompt's tokens, each above 0 and below 1. For each fraction and order one mask masks the
    order's first tokens, round(fraction * P) of them and one at least; another mask masks all tokens but these. draws:
    the number of random orders. prompts: the most prompts that are used, evenly spread over those with a response; None
    for all. tokens: how many tokens of each prompt, drawn at random, are also masked alone; all of them where it is
    None, where the prompt has no more, or where occlusion is among the methods. seed: of all draws. memory: MiB that
    the engine may fill; None for the device's default (memory_bytes).

    Raises InputError where a method is unknown or named twice, methods or fractions are empty, a fraction is out of
    range, `tokens` is less than 3, or steps, draws or prompts are less than 1.
    """

    methods: Sequence[str]
    steps: int
    fractions: Sequence[float]
    draws: int
    prompts: int | None
    tokens: int | None
    seed: int
    memory: int | None
    method: ClassVar[str] = "faithfulness"
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        known = [definition.value for definition in Definition]
        for name in self.methods:
            if name not in known:
                raise InputError(f"faithfulness: methods: {name!r} is not known; choose from {', '.join(known)}")
        if not self.methods or len(set(self.methods)) < len(self.methods):
            raise InputError("faithfulness: methods must name at least one method, and each once")
        if not self.fractions or not all(0 < fraction < 1 for fraction in self.fractions):
            raise InputError(f"faithfulness: fractions={list(self.fractions)} must lie between 0 and 1")
        check_whole("faithfulness: draws", self.draws, 1)
        check_whole("faithfulness: steps", self.steps, 1)
        check_whole("faithfulness: prompts", self.prompts, 1, null="all prompts")
        check_whole("faithfulness: tokens", self.tokens, 3, null="all tokens")  # 3, for a rank correlation
        check_whole("faithfulness: seed", self.seed, None)
        check_whole("faithfulness: memory", self.memory, 1, null="the device's default (MiB)")

    def work(self, model: Model, inputs: Inputs) -> list[Work]:
        """A unit for each prompt that is used. O: orders (words `orders`), F: fractions, M: methods (words `methods`).

        All arrays but token_K are float32. "Mean probability" and "mean log-probability" are over the response's
        tokens. removed_OF, removed_log_OF: both means where the first tokens of an order, a fraction of all, are
        masked. kept_OF, kept_log_OF: both means where these tokens are left and all others are masked. full_2: the mean
        probability and the mean log-probability where no token is masked. token_K (int64): indices of the prompt tokens
        that are masked alone. change_K: by how much the mean probability falls where one of them is masked.
        importance_MP: each method's importance of each prompt token, averaged over the response's tokens.
        """
        contents = [Options(self.steps).content(Definition(name)) for name in self.methods]
        used = {option: value for content in contents for option, value in content.items()}
        common = method_content(
            self,
            model,
            {
                "methods": list(self.methods),
                "fractions": list(self.fractions),
                "draws": self.draws,
                "tokens": None if self._all_tokens_alone() else self.tokens,
                "seed": self.seed,
                **used,
            },
        )
        return [
            Work(
                unit=prompt.prompt.id,
                content={**common, **text_content(prompt, response)},
                compute=lambda prompt=prompt, response=response: self._unit(model, prompt, response),  # type: ignore[misc]
            )
            for prompt, response in self._used_prompts(inputs.prompts)
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
        alone = tokens if self._all_tokens_alone() or self.tokens is None else min(self.tokens, tokens)
        orders = 2 * len(self.methods) + self.draws
        points = sum(Options(self.steps).points(Definition(name)) for name in self.methods)
        return alone + 1 + 2 * orders * len(self.fractions) + 3 * points

    def _used_prompts(
        self, prompts: Sequence[tuple[EncodedPrompt, tuple[int, ...]]]
    ) -> Sequence[tuple[EncodedPrompt, tuple[int, ...]]]:
        """The prompts that are used, with their responses: as many as the option `prompts` says.

        They are evenly spread over those whose response is not empty. All of those are used where there are no more of
        them, or where the option is None.
        """
        answered = [item for item in prompts if item[1]]
        wanted = len(answered) if self.prompts is None else min(self.prompts, len(answered))
        return [answered[i * len(answered) // wanted] for i in range(wanted)]

    def _unit(self, model: Model, prompt: EncodedPrompt, response: tuple[int, ...]) -> Unit:
        token_K = self._tokens_alone(prompt)
        change_K = occlusion(model, prompt, response, self.memory, token_K)[0].mean(1)
        importance_MP = torch.stack(
            [self._importance(name, change_K, model, prompt, response) for name in self.methods]
        )
        names, order_OP = self._orders(importance_MP, prompt)
        masked_BP = torch.cat([torch.zeros(1, order_OP.shape[1], dtype=torch.bool), self._masks_of_orders(order_OP)])
        # Orders may share masks, as an order and its reverse do, so only the U distinct ones of the B masks are
        # computed.
        distinct_UP, distinct_of_B = masked_BP.unique(dim=0, return_inverse=True)
        log_BR = log_probabilities(model, prompt, response, distinct_UP, self.memory)[distinct_of_B]
        mean_B, mean_log_B = log_BR.exp().mean(1).float(), log_BR.mean(1).float()
        shape = (2, len(names), len(self.fractions))
        (removed_OF, kept_OF), (removed_log_OF, kept_log_OF) = mean_B[1:].view(shape), mean_log_B[1:].view(shape)
        arrays = {
            "full_2": torch.stack([mean_B[0], mean_log_B[0]]),
            "removed_OF": removed_OF,
            "removed_log_OF": removed_log_OF,
            "kept_OF": kept_OF,
            "kept_log_OF": kept_log_OF,
            "token_K": token_K,
            "change_K": change_K.float(),
            "importance_MP": importance_MP.float(),
        }
        return Unit(arrays, {"orders": names, "methods": list(self.methods)})

    def _importance(
        self, name: str, change_K: Tensor, model: Model, prompt: EncodedPrompt, response: tuple[int, ...]
    ) -> Tensor:
        """importance_P by one method, averaged over the response's tokens.

        name: the method. change_K: what masking single tokens changes, which is occlusion's importance.
        """
        definition = Definition(name)
        if definition is Definition.OCCLUSION:
            return change_K  # for all tokens, because occlusion is a method
        options = Options(self.steps)
        return total_importance(definition, options, model, prompt, response, self.memory) / len(response)

    def _orders(self, importance_MP: Tensor, prompt: EncodedPrompt) -> tuple[list[str], Tensor]:
        """(names, order_OP): the names of O orders of the prompt's tokens, and the token indices in each order.

        The orders are: the token of largest importance first, negative ones last, for each method; the reverse of
        these, for each method; and the random orders. Tokens of equal importance are in the order of the prompt, in the
        reversed orders the other way.
        """
        method_order_MP = importance_MP.argsort(dim=1, descending=True, stable=True)
        draws = prompt_draws(prompt, self.seed, "orders")
        random_SP = torch.stack([torch.randperm(method_order_MP.shape[1], generator=draws) for _ in range(self.draws)])
        names = [*self.methods, *(name + REVERSED for name in self.methods)]
        names += [f"{RANDOM} {draw + 1}" for draw in range(self.draws)]
        return names, torch.cat([method_order_MP, method_order_MP.flip(1), random_SP])

    def _all_tokens_alone(self) -> bool:
        """Whether the options say that all tokens of every prompt are masked alone, not only a sample."""
        return self.tokens is None or Definition.OCCLUSION.value in self.methods

    def _tokens_alone(self, prompt: EncodedPrompt) -> Tensor:
        """Indices of the prompt's tokens that are masked alone, int64, ascending."""
        count = len(prompt.prompt_ids)
        if self._all_tokens_alone() or self.tokens is None:
            return torch.arange(count)
        return torch.randperm(count, generator=prompt_draws(prompt, self.seed, "tokens"))[: self.tokens].sort().values

    def _masks_of_orders(self, order_OP: Tensor) -> Tensor:
        """bool [2 * O * F, P], True for a masked token: the masks of every order and fraction.

        The first O * F masks mask the first tokens of an order, round(fraction * P) of them and one at least; those of
        one order stand together. The others, in the same sequence, mask all tokens but these.
        """
        rank_OP = order_OP.argsort(dim=1)
        tokens = order_OP.shape[1]
        count_F = torch.tensor([max(1, round(fraction * tokens)) for fraction in self.fractions])
        first_BP = (rank_OP[:, None] < count_F[:, None]).flatten(0, 1)
        return torch.cat([first_BP, ~first_BP])
