"""Greedy responses: a model's own continuation of each prompt, the most probable token at each step."""

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
from shiftbench.explain.finite import not_finite_as_input_error
from shiftbench.explain.keys import method_content, text_content
from shiftbench.models import Model
from shiftbench.models.block import Transformer
from shiftbench.models.rotary import follows_length, reset_angles
from shiftbench.prompts import EncodedPrompt
from shiftbench.store.explanation import Unit
from shiftbench.store.work import Work

# Models with fewer parameters decode on one thread: synchronising several threads at each product costs more than the
# shared work saves.
SINGLE_THREAD_PARAMETERS = 50_000_000


@dataclass(frozen=True)
class GreedyResponse(Method):
    """The model's greedy continuation of each prompt, of at most max_new_tokens tokens."""

    max_new_tokens: int
    method: ClassVar[str] = "greedy_response"
    version: ClassVar[int] = 1

    def work(self, model: Model, prompts: Sequence[EncodedPrompt]) -> list[Work]:
        """A unit for each prompt: `response_R`, int64 token ids as generated, without the token that ends the text."""
        transformer = engine_model(model)
        batch = partial(self._decode_by_engine, model, transformer) if transformer else None
        common = method_content(self, model, {"max_new_tokens": self.max_new_tokens, "ends": sorted(end_tokens(model))})
        return [
            Work(
                unit=prompt.prompt.id,
                content={**common, **text_content(prompt)},
                compute=lambda prompt=prompt: Unit({"response_R": self._generate_by_transformers(model, prompt)}),  # type: ignore[misc]
                batch=batch,
            )
            for prompt in prompts
        ]

    def _decode_by_engine(
        self, model: Model, transformer: Transformer, work: Sequence[Work]
    ) -> Iterator[tuple[int, Unit]]:
        """Yields (index into work, unit) as each response ends. The engine decodes many prompts at a time."""
        prompts = [[*item.content["prefix"], *item.content["prompt"]] for item in work]
        embedding = model.module.get_input_embeddings()

        def embed(ids: torch.Tensor) -> torch.Tensor:
            embedding_ND: torch.Tensor = embedding(ids.to(model.input_device))
            return embedding_ND

        responses = greedy(transformer, embed, prompts, self.max_new_tokens, end_tokens(model))
        while True:
            # Threads are set around next() alone: while the caller holds a unit, their number is the caller's.
            with threads_each(decoding_threads(model)), not_finite_as_input_error(model, "one of the prompts"):
                ended = next(responses, None)
            if ended is None:
                return
            index, response = ended
            yield index, Unit({"response_R": torch.tensor(response, dtype=torch.int64)})

    @torch.no_grad()
    def _generate_by_transformers(self, model: Model, prompt: EncodedPrompt) -> torch.Tensor:
        """response_R of one prompt, by transformers, without the token that ends the text.

        Raises InputError where the logits of a token contain NaN or +inf.
        """
        ends = end_tokens(model)
        configuration = GenerationConfig(
            max_new_tokens=self.max_new_tokens,
            do_sample=False,
            eos_token_id=ends or None,
            pad_token_id=ends[0] if ends else 0,
        )
        ids = torch.tensor([prompt.prefix_ids + prompt.prompt_ids], device=model.input_device)
        reset_angles(model.module)
        # The configuration is not given to generate() as an argument: transformers would complete it from the
        # checkpoint's own configuration, whose penalties may change which token is taken.
        original, model.module.generation_config = model.module.generation_config, configuration
        try:
            with (
                threads_each(decoding_threads(model)),
                fast_linears(model.module),
                not_finite_as_input_error(model, f"prompt {prompt.prompt.id!r}"),
            ):
                text_1T = model.module.generate(
                    ids, attention_mask=torch.ones_like(ids), logits_processor=LogitsProcessorList([_CheckLogits()])
                )
        finally:
            model.module.generation_config = original
        response_R: torch.Tensor = text_1T[0, ids.shape[1] :].cpu()
        return response_R[:-1] if len(response_R) and int(response_R[-1]) in ends else response_R


class _CheckLogits(LogitsProcessor):
    """A step of transformers' decoding that changes no logit.

    It raises NotFinite where a logit of a row is NaN or +inf, or all logits of a row are -inf.
    """

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        check_finite(scores.amax(-1), "of the next token")
        return scores


def decoding_threads(model: Model) -> int:
    """With how many of torch's threads the model decodes: 1 below SINGLE_THREAD_PARAMETERS, else as many as are set."""
    return 1 if model.module.num_parameters() < SINGLE_THREAD_PARAMETERS else torch.get_num_threads()


def engine_model(model: Model) -> Transformer | None:
    """The model as the engine decodes it; None where transformers must generate.

    That is where the engine cannot compute the model (Model.transformer_or_reason), and where the model's rotary angles
    depend on the length of the text: the engine takes one step for many prompts at once, whose lengths differ.
    """
    return None if follows_length(model.module.config) else model.transformer_or_reason[0]


def end_tokens(model: Model) -> list[int]:
    """Ids of the tokens that end a text: those of the checkpoint's generation settings, or else the tokenizer's.

    Empty where neither has one.
    """
    own = model.module.generation_config
    ends = own.eos_token_id if own is not None and own.eos_token_id is not None else model.tokenizer.eos_token_id
    return [ends] if isinstance(ends, int) else list(ends or [])
