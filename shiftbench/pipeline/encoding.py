"""Encodes prompts as token ids for both models, and leaves out those without a token or too long for a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from transformers import PreTrainedTokenizerFast

from shiftbench.errors import InputError
from shiftbench.models import Model
from shiftbench.models.pairs import base_tokenizer_hint
from shiftbench.pipeline.job import Job
from shiftbench.prompts import EncodedPrompt, Prompt, encode_all, in_template
from shiftbench.readers.templates import chat_template

TEMPLATES = ("none", "tuned", "own")
NamedTokenizer = tuple[str, Any]  # a model's name and its tokenizer


@dataclass(frozen=True)
class EncodedPrompts:
    """The prompts that can be explained, as token ids, and notes for the report.

    base, tuned: the same prompts in the same order, as each model gets them. notes: which prompts were left out and
    why, and which prompts' texts begin with the beginning-of-text token.
    """

    base: Sequence[EncodedPrompt] = ()
    tuned: Sequence[EncodedPrompt] = ()
    notes: Sequence[str] = field(default=())


def check_templates(job: Job, base: PreTrainedTokenizerFast, tuned: PreTrainedTokenizerFast) -> None:
    """Raise InputError where a chat template that the job uses is missing, or fails on one of the job's prompts.

    base, tuned: the models' tokenizers; no model is needed. With template 'none' nothing is checked.
    """
    sources = (job.pair.base, job.pair.tuned)
    named = [(source.name, tokenizer) for source, tokenizer in zip(sources, (base, tuned), strict=True)]
    for tokenizer, template, name in _encoders(job.template, *named):
        if template is not None:
            in_template(job.prompts, tokenizer, template, name)


def encode_prompts(job: Job, prompts: Sequence[Prompt], base: Model, tuned: Model) -> EncodedPrompts:
    """Prompts as token ids for both models, in the order of `prompts`, without those that cannot be explained.

    A prompt is left out, with a note, where it has no token, or where the longer of its two encodings, the special
    tokens in front of it and `max_new_tokens` response tokens together exceed the smaller of the two models' contexts.
    job: gives the template and `max_new_tokens`. prompts: the job's prompts, or those that an explainer made from them.
    Raises InputError where base and tuned give a prompt different ids, or base has no embedding of one of the ids. With
    template 'own' this is checked on the prompts without templates. Raises InputError too where a chat template is
    missing, and as `encode_all` does.
    """
    encoders = _encoders(job.template, *((model.name, model.tokenizer) for model in (base, tuned)))
    first_side = encode_all(prompts, *encoders[0])
    second_side = first_side if encoders[0] == encoders[1] else encode_all(prompts, *encoders[1])
    bare = [first_side, second_side]
    if job.template == "own":  # two templates may give different ids, so the prompts are compared without them
        bare = [encode_all(prompts, model.tokenizer, None, model.name) for model in (base, tuned)]
    for first, second in zip(*bare, strict=True):
        _check_same_ids(first, second, base)
    room = min(base.context_length, tuned.context_length) - job.responses.max_new_tokens
    both: list[tuple[EncodedPrompt, EncodedPrompt]] = []
    too_long, empty = [], []
    for prompt, first, second in zip(prompts, first_side, second_side, strict=True):
        longest = max(len(side.prefix_ids) + len(side.prompt_ids) for side in (first, second))
        if not first.prompt_ids:
            empty.append(prompt.id)
        elif longest > room:
            too_long.append(prompt.id)
        else:
            both.append((first, second))
    notes = [
        left_out("have no token", empty),
        left_out(f"and response exceed the context ({room} tokens left)", too_long),
        _spelled_prefix([first for first, second in both if first.spells_prefix or second.spells_prefix]),
    ]
    return EncodedPrompts([a for a, _ in both], [b for _, b in both], [note for note in notes if note])


def left_out(why: str, ids: Sequence[str]) -> str:
    """The note that the prompts with these ids were left out; "" where there are no ids.

    why: what follows "N prompts" in the note, for example "have no token".
    """
    return f"{len(ids)} prompts {why} and were left out: {', '.join(ids)}." if ids else ""


def _encoders(template: str, base: NamedTokenizer, tuned: NamedTokenizer) -> list[tuple[Any, str | None, str]]:
    """For base and then for tuned, the arguments of `encode_all`: (tokenizer, chat template, model name).

    template: with 'tuned' both have the tuned model's tokenizer, template and name; with 'own' each has its own; with
    'none' each has its own tokenizer and name, and the template is None. Raises InputError where a model whose template
    is to be used has none.
    """
    if template == "none":
        return [(tokenizer, None, name) for name, tokenizer in (base, tuned)]
    # template=tuned uses the tuned model's tokenizer for both: base's may not have the tokens of the template.
    found: list[tuple[Any, str | None, str]] = []
    for name, tokenizer in {"tuned": (tuned, tuned), "own": (base, tuned)}[template]:
        text = chat_template(tokenizer, name)
        if text is None:
            raise InputError(f"template={template}: {name} has no chat template; use template=none")
        found.append((tokenizer, text, name))
    return found


def _check_same_ids(first: EncodedPrompt, second: EncodedPrompt, base: Model) -> None:
    """Raise InputError where two encodings of a prompt differ, or base has no embedding for one of the ids.

    The ids are those of the prompt and of the special tokens in front of it.
    first, second: the same prompt as base and as tuned encode it. base: the base model.
    """
    ids = (first.prefix_ids + first.prompt_ids, second.prefix_ids + second.prompt_ids)
    if ids[0] != ids[1]:
        place = next((i for i, (a, b) in enumerate(zip(*ids, strict=False)) if a != b), min(map(len, ids)))
        raise InputError(
            f"prompt {first.prompt.id!r}: base and tuned give different token ids from token {place} on "
            f"({ids[0][place : place + 1]} against {ids[1][place : place + 1]}); the pair is not comparable"
            f"{base_tokenizer_hint(base.source) if base.source else ''}"
        )
    rows = base.module.get_input_embeddings().weight.shape[0]
    beyond = [token for token in ids[1] if token >= rows]
    if beyond:
        token = second.tokens[second.prompt_ids.index(beyond[0])] if beyond[0] in second.prompt_ids else "in front"
        raise InputError(f"the base model has no embedding for the template's token {token!r} (id {beyond[0]})")


def _spelled_prefix(prompts: Sequence[EncodedPrompt]) -> str:
    """The note that the texts of these prompts begin with the beginning-of-text token; "" without prompts."""
    if not prompts:
        return ""
    return (
        f"{len(prompts)} prompts begin with the beginning-of-text token, which is put in front of every text anyway; "
        f"each of them has it once, not twice: {', '.join(prompt.prompt.id for prompt in prompts)}."
    )
