"""What masking the key parts of an instruction does to the response's probability (arXiv 2403.10056)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from shiftbench.contracts.explainer import Explainer, Inputs
from shiftbench.explain.cost import mask_flops
from shiftbench.explain.importance import log_probabilities, memory_bytes
from shiftbench.explain.keys import method_content, prompt_draws, text_content
from shiftbench.models import Model, ModelShape
from shiftbench.prompts import EncodedPrompt
from shiftbench.readers.numbers import check_whole
from shiftbench.store.explanation import Unit
from shiftbench.store.work import Work

# The names of masks say what is masked. Those of the random masks are "random 1", "random 2", ...
NOTHING, KEY, RANDOM = "nothing", "key parts", "random"


@dataclass(frozen=True)
class KeyParts(Explainer):
    """Mean log-probability of a response's tokens in three cases.

    In the first case nothing is masked. In the second the key parts of the instruction are masked. In the third as many
    other tokens are masked, drawn at random.

    The embedding of a masked token is zero, as in explain/faithfulness.py. draws: the number of random masks, at least
    1, else InputError. Each of them masks as many tokens as the key parts have. They are drawn from the other tokens of
    instruction and context, or, where those are too few, from all tokens outside the key parts. Where even all tokens
    outside the key parts are too few, all of them are masked. seed: of the draws. Base and tuned get the same masks
    where they get equal token ids. memory: MiB that the engine may fill; None for the device's default (memory_bytes).
    """

    draws: int
    seed: int
    memory: int | None
    method: ClassVar[str] = "key_parts"
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_whole("key_parts: draws", self.draws, 1)
        check_whole("key_parts: seed", self.seed, None)
        check_whole("key_parts: memory", self.memory, 1, null="the device's default (MiB)")

    def work(self, model: Model, inputs: Inputs) -> list[Work]:
        """A unit for each prompt that has key parts, other tokens and a response.

        log_M (float32): the mean log-probability of the response's tokens under each of M = 2 + `draws` masks, in nats.
        Words `masks`: the names of the masks. tokens_2 (int64): how many tokens the key parts have, and how many the
        prompt has.
        """
        common = method_content(self, model, {"draws": self.draws, "seed": self.seed})
        return [
            Work(
                unit=prompt.prompt.id,
                content={**common, **text_content(prompt, response), "key": prompt.key_P.nonzero()[:, 0].tolist()},
                compute=lambda prompt=prompt, response=response: self._unit(model, prompt, response),  # type: ignore[misc]
            )
            for prompt, response in inputs.prompts
            if response and prompt.key_P.any() and not prompt.key_P.all()
        ]

    def flops(self, shape: ModelShape, prompt_tokens: Sequence[int], response_tokens: int) -> float:
        """Operations of one forward pass for each mask, summed over all prompts, as if each of them got a unit."""
        return mask_flops(shape, [(tokens, self._mask_count()) for tokens in prompt_tokens], response_tokens)

    def engine_bytes(self, device: torch.device) -> int:
        """The bytes that the engine may fill: what `memory` says, or the device's default where it is None."""
        return memory_bytes(self.memory, device)

    def _mask_count(self) -> int:
        return 2 + self.draws  # nothing masked, the key parts masked, and the random masks

    def _unit(self, model: Model, prompt: EncodedPrompt, response: tuple[int, ...]) -> Unit:
        names, masked_MP = self._named_masks(prompt)
        log_MR = log_probabilities(model, prompt, response, masked_MP, self.memory)
        count = torch.tensor([int(masked_MP[1].sum()), masked_MP.shape[1]])
        return Unit({"log_M": log_MR.mean(1).float(), "tokens_2": count}, {"masks": names})

    def _named_masks(self, prompt: EncodedPrompt) -> tuple[list[str], Tensor]:
        """(names, masked_MP) of the masks: that of no token, that of the key parts, and the random masks.

        masked_MP: bool, True for a masked token.
        """
        key_P = prompt.key_P
        # Labels (as 'Output:') and the prompt's end fix the answer's form. Masking them may cost any response much of
        # its probability, so random masks take them only where the other tokens are too few.
        others_N = ((prompt.instruction_P | prompt.context_P) & ~key_P).nonzero()[:, 0]
        if len(others_N) < int(key_P.sum()):
            others_N = (~key_P).nonzero()[:, 0]
        count = min(int(key_P.sum()), len(others_N))
        generator = prompt_draws(prompt, self.seed, self.method)
        random_SP = torch.zeros(self.draws, len(key_P), dtype=torch.bool)
        for drawn_P in random_SP:
            drawn_P[others_N[torch.randperm(len(others_N), generator=generator)[:count]]] = True
        names = [NOTHING, KEY, *(f"{RANDOM} {draw + 1}" for draw in range(self.draws))]
        return names, torch.cat([torch.zeros(1, len(key_P), dtype=torch.bool), key_P[None], random_SP])
