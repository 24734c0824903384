"""Greedy responses: what a model itself would answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from transformers import GenerationConfig

from shiftbench.engine.product import fast_linears
from shiftbench.engine.schedule import threads_each
from shiftbench.explain.work import Work, made_by
from shiftbench.explanation import Unit
from shiftbench.models import Model
from shiftbench.prompts import EncodedPrompt

SMALL = 50_000_000  # parameters below which a token takes less time than threads need to meet at every product


@dataclass(frozen=True)
class GreedyResponse:
    """The model's greedy continuation of each prompt, at most max_new_tokens long."""

    max_new_tokens: int
    method: ClassVar[str] = "greedy_response"
    version: ClassVar[int] = 1

    def work(self, model: Model, prompts: Sequence[EncodedPrompt]) -> list[Work]:
        """A unit a prompt: `response_R`, int64 token ids as generated, without the end-of-text token."""
        common = made_by(self, model, {"max_new_tokens": self.max_new_tokens, "ends": sorted(end_tokens(model))})
        return [
            Work(
                unit=prompt.prompt.id,
                content={**common, "prefix": list(prompt.prefix_ids), "prompt": list(prompt.prompt_ids)},
                compute=lambda prompt=prompt: Unit({"response_R": self._generate(model, prompt)}),  # type: ignore[misc]
            )
            for prompt in prompts
        ]

    @torch.no_grad()
    def _generate(self, model: Model, prompt: EncodedPrompt) -> torch.Tensor:
        ends = end_tokens(model)
        greedy = GenerationConfig(
            max_new_tokens=self.max_new_tokens,
            do_sample=False,
            eos_token_id=ends or None,
            pad_token_id=ends[0] if ends else 0,
        )
        ids = torch.tensor([prompt.prefix_ids + prompt.prompt_ids], device=model.input_device)
        # Given as an argument it would be filled up from the checkpoint's, whose penalties make greedy something else.
        own, model.module.generation_config = model.module.generation_config, greedy
        threads = 1 if model.module.num_parameters() < SMALL else torch.get_num_threads()
        try:
            with threads_each(threads), fast_linears(model.module):
                made = model.module.generate(ids, attention_mask=torch.ones_like(ids))
        finally:
            model.module.generation_config = own
        response = made[0, ids.shape[1] :].cpu()
        return response[:-1] if len(response) and int(response[-1]) in ends else response


def end_tokens(model: Model) -> list[int]:
    """Ids that end a text: those of the checkpoint's generation settings, else the tokenizer's."""
    own = model.module.generation_config
    ends = own.eos_token_id if own is not None and own.eos_token_id is not None else model.tokenizer.eos_token_id
    return [ends] if isinstance(ends, int) else list(ends or [])
