"""The responses to explain: decoded greedily by a model, or given with the prompts (references)."""

from __future__ import annotations

from collections.abc import Sequence

from shiftbench.contracts.explainer import PromptWithResponse
from shiftbench.errors import InputError
from shiftbench.explain.response import GreedyResponse
from shiftbench.models import Model
from shiftbench.models.pairs import base_tokenizer_hint
from shiftbench.pipeline.encoding import EncodedPrompts, left_out
from shiftbench.pipeline.session import Session

Side = list[PromptWithResponse]  # one model's prompts, each with the token ids of the response to explain


class Unanswered(InputError):
    """No response of a mode can be explained: all of one model's are empty, or all were left out.

    The mode then has no scores.
    """


def prompts_with_responses(session: Session, mode: str, encoded: EncodedPrompts) -> list[Side]:
    """[base's side, tuned's side]: each model's prompts with the token ids of the response to explain.

    Both sides have the same prompts in the same order. mode: one of job.RESPONSE_MODES. encoded: the prompts.
    Prompts are left out of both sides, with a note, where a model has no embedding of a token of the prompt or of its
    response, or in mode 'reference' where base and tuned give the response different ids. Raises Unanswered where this
    leaves no prompt, or where all responses of one side are empty. In a group of a larger job (`Job.group`) the latter
    is no error: a note says so, and so does `Gatherer.unanswered`.
    """
    job, gatherer = session.job, session.gatherer
    if mode == "reference":
        sides = _references(session, encoded)
    else:
        sides = _greedy(session, mode, encoded)
    sides = _embeddable(session, sides)
    try:
        _check_answered(session, mode, sides)
    except Unanswered as empty:
        if not job.group:
            raise
        gatherer.unanswered = str(empty)
        gatherer.notes.append(f"{str(empty)[0].upper()}{str(empty)[1:]}.")
    return sides


def _greedy(session: Session, mode: str, encoded: EncodedPrompts) -> list[Side]:
    """[base's side, tuned's side] with greedy responses, which are decoded where the store lacks them.

    mode 'shared': the tuned model's responses for both models; 'own': each model's own.
    """
    greedy, gather = GreedyResponse(session.job.responses.max_new_tokens), session.gatherer
    of_tuned = gather("greedy response, tuned", greedy.work(session.models.tuned, encoded.tuned))
    of_base = of_tuned
    if mode == "own":
        of_base = gather("greedy response, base", greedy.work(session.models.base, encoded.base))
    return [
        [(prompt, tuple(responses.units[prompt.prompt.id].arrays["response_R"].tolist())) for prompt in side]
        for side, responses in ((encoded.base, of_base), (encoded.tuned, of_tuned))
    ]


def _references(session: Session, encoded: EncodedPrompts) -> list[Side]:
    """[base's side, tuned's side] with the responses given with the prompts, cut at `max_new_tokens` tokens.

    Tuning may have added a token for what is several tokens in base. A prompt whose cut response has different ids in
    the two models is left out with a note. Raises Unanswered where this leaves no prompt.
    """
    base, tuned, notes = session.models.base, session.models.tuned, session.gatherer.notes
    limit = session.job.responses.max_new_tokens
    # As in encoding.py: with template=tuned, the tuned model's tokenizer is used for both.
    encoders = (tuned if session.job.template == "tuned" else base, tuned)
    sides: list[Side] = [[], []]
    skipped, cut = [], 0
    for pair in zip(encoded.base, encoded.tuned, strict=True):
        reference = pair[0].prompt.reference or ""
        whole = [p.response_ids(m.tokenizer, reference) for p, m in zip(pair, encoders, strict=True)]
        if whole[0][:limit] != whole[1][:limit]:
            skipped.append(pair[0].prompt.id)
            continue
        cut += len(whole[1]) > limit
        for side, prompt, ids in zip(sides, pair, whole, strict=True):
            side.append((prompt, ids[:limit]))
    if skipped:
        notes.append(left_out("have a response that base and tuned spell by different token ids", skipped))
    if skipped and not sides[0]:
        hint = base_tokenizer_hint(base.source) if base.source else ""
        raise Unanswered(f"no response is left to explain: {notes.pop().removesuffix('.')}{hint}")
    if cut:
        notes.append(f"{cut} references are longer than {limit} tokens; only their beginning is explained.")
    return sides


def _embeddable(session: Session, sides: Sequence[Side]) -> list[Side]:
    """The two sides, without the prompts that have a token of which a model has no embedding.

    The tokens are those of the prompt, those in front of it and those of the response. Base may have no embedding of a
    token that tuning added. A note names the prompts that are left out. Raises Unanswered where this leaves no prompt.
    """
    notes = session.gatherer.notes
    rows = [_embedding_rows(model) for model in (session.models.base, session.models.tuned)]
    good = [
        all(max((*p.prefix_ids, *p.prompt_ids, *ids)) < count for (p, ids), count in zip(pair, rows, strict=True))
        for pair in zip(*sides, strict=True)
    ]
    skipped = [prompt.prompt.id for (prompt, _), fine in zip(sides[0], good, strict=True) if not fine]
    if skipped:
        notes.append(left_out("have a response with tokens that the base model has no embedding for", skipped))
    if skipped and not any(good):
        raise Unanswered(
            f"no response is left to explain: {notes.pop().removesuffix('.')}; explain other responses with "
            f"response.mode="
        )
    return [[item for item, fine in zip(side, good, strict=True) if fine] for side in sides]


def _embedding_rows(model: Model) -> int:
    """The number of rows of a model's input embeddings; token ids from this number on have no embedding."""
    rows: int = model.module.get_input_embeddings().weight.shape[0]
    return rows


def _check_answered(session: Session, mode: str, sides: Sequence[Side]) -> None:
    """Raise Unanswered where one of the two sides has prompts and all its responses are empty.

    mode: the mode of the responses, for the message.
    """
    base, tuned = session.models.base, session.models.tuned
    for side, model in zip(sides, (tuned, tuned) if mode == "shared" else (base, tuned), strict=True):
        if side and not any(response for _, response in side):
            subject = "the references" if mode == "reference" else f"the responses of {model.name}"
            raise Unanswered(
                f"response mode {mode!r}: {subject} to all {len(side)} prompts are empty, so nothing can be explained; "
                f"look at the tokens that end a text (eos_token_id in generation_config.json) and at template=, or "
                f"explain other responses with response.mode="
            )
