"""Greedy responses: what a model itself would answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from shiftbench.contracts.explainer import Method
from shiftbench.engine.decoding import greedy
from shiftbench.engine.probability import check_finite
from shiftbench.engine.product import fast_linears
from shiftbench.engine.schedule import threads_each
from shiftbench.explain.finite import finite
from shiftbench.explain.keys import method_content, text_content
from shiftbench.models import Model
from shiftbench.models.block import Transformer
from shiftbench.models.rotary import follows_length, reset_angles
from shiftbench.prompts import EncodedPrompt
from shiftbench.store.explanation import Unit
from shiftbench.store.work import Work

SMALL = 50_000_000  # parameters below which a token takes less time than threads need to meet at every product


@dataclass(frozen=True)
class GreedyResponse(Method):
    """The model's greedy continuation of each prompt, at most max_new_tokens long."""

    max_new_tokens: int
    method: ClassVar[str] = "greedy_response"
    version: ClassVar[int] = 1

    def work(self, model: Model, prompts: Sequence[EncodedPrompt]) -> list[Work]:
        """A unit a prompt: `response_R`, int64 token ids as generated, without the end-of-text token."""
        known = decodable(model)
        batch = partial(self._decode, model, known) if known else None
        common = method_content(self, model, {"max_new_tokens": self.max_new_tokens, "ends": sorted(end_tokens(model))})
        return [
            Work(
                unit=prompt.prompt.id,
                content={**common, **text_content(prompt)},
                compute=lambda prompt=prompt: Unit({"response_R": self._generate(model, prompt)}),  # type: ignore[misc]
                batch=batch,
            )
            for prompt in prompts
        ]

    def _decode(self, model: Model, known: Transformer, work: Sequence[Work]) -> Iterator[tuple[int, Unit]]:
        """By the engine, many prompts at a time."""
        prompts = [[*item.content["prefix"], *item.content["prompt"]] for item in work]
        embedding = model.module.get_input_embeddings()

        def embed(ids: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = embedding(ids.to(model.input_device))
            return found

        found = greedy(known, embed, prompts, self.max_new_tokens, end_tokens(model))
        while True:
            # The number of threads is not ours while a unit is out of our hands.
            with threads_each(threads_for(model)), finite(model, "one of the prompts"):
                made = next(found, None)
            if made is None:
                return
            yield made[0], Unit({"response_R": torch.tensor(made[1], dtype=torch.int64)})

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
        reset_angles(model.module)
        # Given as an argument it would be filled up from the checkpoint's, whose penalties make greedy something else.
        own, model.module.generation_config = model.module.generation_config, greedy
        try:
            with (
                threads_each(threads_for(model)),
                fast_linears(model.module),
                finite(model, f"prompt {prompt.prompt.id!r}"),
            ):
                made = model.module.generate(
                    ids, attention_mask=torch.ones_like(ids), logits_processor=LogitsProcessorList([_Finite()])
                )
        finally:
            model.module.generation_config = own
        response = made[0, ids.shape[1] :].cpu()
        return response[:-1] if len(response) and int(response[-1]) in ends else response


class _Finite(LogitsProcessor):
    """Leaves the logits of transformers' decoding as they are, and raises NotFinite where they are not finite."""

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        check_finite(scores.amax(-1), "of the next token")
        return scores


def threads_for(model: Model) -> int:
    """How many threads a token of this model is worth."""
    return 1 if model.module.num_parameters() < SMALL else torch.get_num_threads()


def decodable(model: Model) -> Transformer | None:
    """The model as the engine decodes it; None where transformers generates: it is unknown, or its angles follow the
    length of the text, which the prompts of a step do not share."""
    return None if follows_length(model.module.config) else model.transformer_or_reason[0]


def end_tokens(model: Model) -> list[int]:
    """Ids that end a text: those of the checkpoint's generation settings, else the tokenizer's."""
    own = model.module.generation_config
    ends = own.eos_token_id if own is not None and own.eos_token_id is not None else model.tokenizer.eos_token_id
    return [ends] if isinstance(ends, int) else list(ends or [])
