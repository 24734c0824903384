"""One job: explain what the store lacks, let the findings compare, give back results.

The file reads from top to bottom as one sentence: for a pair, explain each model, let a finding compare the two
explanations, and report its scores.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from shiftbench.errors import InputError
from shiftbench.explain.response import GreedyResponse
from shiftbench.explain.work import Inputs, Work
from shiftbench.explanation import Explanation, Unit, content_key
from shiftbench.findings.null import beside_null
from shiftbench.findings.result import Result
from shiftbench.models import Model
from shiftbench.pairs import Pair, base_tokenizer_hint, load_pair
from shiftbench.pairs import check as check_pair
from shiftbench.progress import Progress
from shiftbench.prompts import EncodedPrompt, Prompt, encode_all, placed
from shiftbench.readers.templates import chat_template
from shiftbench.sharing import shared
from shiftbench.spans import span_notes
from shiftbench.store import Store
from shiftbench.words import StaticVectors, Vocabulary, word_ids

Speaker = tuple[str, Any]  # a model's name and its tokenizer
Side = list[tuple[EncodedPrompt, tuple[int, ...]]]  # one model's prompts, each with the response ids to explain
RESPONSE_MODES = ("shared", "own", "reference")
TEMPLATES = ("none", "tuned", "own")


@dataclass(frozen=True)
class Responses:
    """Which continuation is explained: mode, one of RESPONSE_MODES; beside: a second one next to it, or None."""

    mode: str
    beside: str | None
    max_new_tokens: int

    def __post_init__(self) -> None:
        for field, mode in (("response.mode", self.mode), ("response.beside", self.beside)):
            if mode is not None and mode not in RESPONSE_MODES:
                raise InputError(f"{field}={mode!r} is not a response mode; choose from {', '.join(RESPONSE_MODES)}")
        if not isinstance(self.max_new_tokens, int) or self.max_new_tokens < 1:
            raise InputError(f"response.max_new_tokens={self.max_new_tokens} must be a whole number, at least 1")


@dataclass(frozen=True)
class Job:
    """Everything that one run of `shiftbench score` was asked for."""

    pair: Pair
    prompts: Sequence[Prompt]
    vocabulary: Vocabulary
    vectors: StaticVectors | None
    findings: Mapping[str, Any]
    responses: Responses
    template: str
    store: Store
    control: Any = None  # gives null models (shiftbench/controls.py); None: scores stand for themselves
    group: bool = False  # whether the prompts are one group of a larger job: its responses may then all be empty


@dataclass(frozen=True)
class Outcome:
    """What a job gave: results in the order of its findings, and remarks for the reader."""

    results: Sequence[Result]
    notes: Sequence[str]
    models: tuple[Model, Model]
    keys: Mapping[str, str]  # digest of the unit keys of each explanation
    prompts: int  # that fit and were explained
    explained: int
    found: int
    unanswered: str = ""  # of a group: why none of its responses could be explained, empty where one could


@dataclass(frozen=True)
class Encoded:
    """The prompts that fit, as each model sees them, and remarks on those that do not."""

    base: Sequence[EncodedPrompt]
    tuned: Sequence[EncodedPrompt]
    notes: Sequence[str]


@dataclass(frozen=True)
class Question:
    """What a finding is asked of a pair. of: which responses, as stages are named; base, tuned: what to explain."""

    finding: Any
    of: str
    base: Inputs
    tuned: Inputs


def run(job: Job, progress: Progress, load: Callable[[Pair], tuple[Model, Model]] = load_pair) -> Outcome:
    """Score a pair, once `check` has passed. Raises InputError before any long work where it cannot be done.

    load: gives (base, tuned) of a pair; a Loader keeps a base for the next job.
    """
    base, tuned = load(job.pair)
    _check_words(job.vocabulary, base, tuned)
    for finding in job.findings.values():
        for model in (base, tuned):
            getattr(finding.explain, "check_model", lambda _: None)(model)
    getattr(job.control, "check_models", lambda *_: None)(base, tuned)
    encoded = encode_prompts(job, job.prompts, base, tuned)
    if not encoded.base:
        raise InputError(f"no prompt is left to explain: {' '.join(encoded.notes)}")
    gather = Gathering(job.store, progress)
    results = [score(finding, job, base, tuned, encoded, gather) for finding in job.findings.values()]
    if job.control is not None:
        results = controlled(results, job, base, tuned, encoded, gather)
    said = [note for result in results for note in result.notes]
    notes = [*said, *encoded.notes, *dict.fromkeys(gather.notes), *remarks(job)]
    notes += [*dict.fromkeys([*base.notes, *tuned.notes]), *by_autograd(base, tuned), *by_method(job)]
    counts = (len(encoded.base), gather.explained, gather.found)
    return Outcome(results, notes, (base, tuned), dict(gather.keys), *counts, gather.unanswered)


def check(job: Job) -> None:
    """Refuse, by InputError, what can be refused before a model's weights are read."""
    if job.template not in TEMPLATES:
        raise InputError(f"template={job.template!r} is not known; choose from {', '.join(TEMPLATES)}")
    if not job.findings:
        raise InputError("no findings to score: the suite names none")
    seen: set[str] = set()
    for prompt in job.prompts:
        if prompt.id in seen:
            raise InputError(f"two prompts have the id {prompt.id!r}; ids must differ")
        seen.add(prompt.id)
    tokenizers = check_pair(job.pair)
    sources = (job.pair.base, job.pair.tuned)
    named = [(source.name, tokenizer) for source, tokenizer in zip(sources, tokenizers, strict=True)]
    for tokenizer, template, name in _speakers(job.template, *named):
        if template is not None:  # a template that fails is refused here, before any weight is read
            placed(job.prompts, tokenizer, template, name)
    if job.control is not None:
        job.control.check(job.pair.tuned)
    words = len(job.vocabulary.words)
    for name, finding in job.findings.items():
        for source in (job.pair.base, job.pair.tuned):
            getattr(finding.explain, "check_source", lambda _: None)(source)
        annotator = getattr(finding.explain, "annotator", None)
        if annotator is not None:
            annotator.check(job.vectors)
        if getattr(finding, "ratings", None) is not None:
            finding.ratings.check(job.prompts)
        for field in ("k", "top"):
            wanted = getattr(finding.explain, field, 0)
            if wanted > words:
                raise InputError(
                    f"findings.{name}.explain.{field}={wanted} is larger than the vocabulary ({words} words); "
                    f"lower it or take a larger vocabulary"
                )
    if "reference" in (job.responses.mode, job.responses.beside):
        missing = [prompt.id for prompt in job.prompts if prompt.reference is None]
        if missing:
            raise InputError(
                f"response mode 'reference' needs a response for every prompt; {len(missing)} have none, "
                f"first {missing[0]!r}"
            )


def encode_prompts(job: Job, prompts: Sequence[Prompt], base: Model, tuned: Model) -> Encoded:
    """Prompts as token ids, checked to be the same ids for both models, without those that exceed the context."""
    speakers = _speakers(job.template, *((model.name, model.tokenizer) for model in (base, tuned)))
    first_side = encode_all(prompts, *speakers[0])
    second_side = first_side if speakers[0] == speakers[1] else encode_all(prompts, *speakers[1])
    alone = [first_side, second_side]
    if job.template == "own":  # two templates give different ids; the prompts alone must still have the same
        alone = [encode_all(prompts, model.tokenizer, None, model.name) for model in (base, tuned)]
    for first, second in zip(*alone, strict=True):
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
        _skipped("have no token", empty),
        _skipped(f"and response exceed the context ({room} tokens left)", too_long),
        _spelled_prefix([first for first, second in both if first.spells_prefix or second.spells_prefix]),
    ]
    return Encoded([a for a, _ in both], [b for _, b in both], [note for note in notes if note])


def question(
    finding: Any, mode: str, job: Job, base: Model, tuned: Model, encoded: Encoded, gather: Gathering
) -> Question:
    """A finding on responses of a mode, where it depends on responses; to the job's prompts, or to those it makes."""
    if not getattr(finding.explain, "needs_responses", False):
        inputs = Inputs((), job.vocabulary, job.vectors)
        return Question(finding, "", inputs, inputs)
    asks = getattr(finding.explain, "asks", None)
    if asks is not None:
        encoded = encode_prompts(job, asks(job.prompts), base, tuned)
        gather.notes += [f"{finding.name}: {note}" for note in encoded.notes]
    sides = embeddable(prompts_with_responses(mode, job, base, tuned, encoded, gather), base, tuned, gather.notes)
    try:
        check_answered(mode, sides, base, tuned)
    except Unanswered as empty:
        if not job.group:
            raise
        gather.unanswered = str(empty)
        gather.notes.append(f"{str(empty)[0].upper()}{str(empty)[1:]}.")
    first, second = (Inputs(side, job.vocabulary, job.vectors) for side in sides)
    return Question(finding, f" of {mode} responses", first, second)


def score(finding: Any, job: Job, base: Model, tuned: Model, encoded: Encoded, gather: Gathering) -> Result:
    """One finding on the pair; where it depends on responses, also on those of the mode reported beside."""
    twice = getattr(finding.explain, "needs_responses", False) and not checks(finding)
    modes = dict.fromkeys((job.responses.mode, job.responses.beside if twice else None))
    by_mode = []
    for mode in (mode for mode in modes if mode is not None):
        try:
            by_mode.append(answer(question(finding, mode, job, base, tuned, encoded, gather), base, tuned, gather))
        except Unanswered as empty:
            if mode == job.responses.mode:
                raise
            gather.notes.append(f"Nothing is reported on {mode} responses: {empty}.")
    return beside(by_mode[0], by_mode[1], f"{job.responses.beside}_response") if len(by_mode) > 1 else by_mode[0]


def controlled(
    results: Sequence[Result], job: Job, base: Model, tuned: Model, encoded: Encoded, gather: Gathering
) -> list[Result]:
    """The results beside those of null models, on the main mode's responses; a check of attributions stays alone."""
    asked = [
        question(finding, job.responses.mode, job, base, tuned, encoded, gather)
        for finding in job.findings.values()
        if not checks(finding)
    ]
    # Base's explanations are read from the store for each draw: all findings' at once may be more than memory has.
    nulls = [[answer(one, base, null, gather, null.name) for one in asked] for null in job.control.models(base, tuned)]
    of_findings = iter(zip(*nulls, strict=True))
    return [
        result
        if checks(finding)
        else beside_null(result, next(of_findings), job.control.kind, finding.bootstrap.confidence)
        for result, finding in zip(results, job.findings.values(), strict=True)
    ]


def checks(finding: Any) -> bool:
    """Whether a finding says what one model is like: asked of the pair alone, on the main mode's responses."""
    return bool(getattr(finding, "checks", False))


def answer(asked: Question, base: Model, tuned: Model, gather: Gathering, called: str = "tuned") -> Result:
    """What a finding says of base's explanation, tuned's, and, where it asks for them, the pair's own and ratings.

    A null model in tuned's place, called by its name, is asked what tuned was asked, on the same responses.
    """
    finding, told = asked.finding, called == "tuned"
    method = finding.explain.method
    explanations = [
        gather(f"{method}{asked.of}, base", finding.explain.work(base, asked.base), told),
        gather(f"{method}{asked.of}, {called}", finding.explain.work(tuned, asked.tuned), told),
    ]
    between = getattr(finding, "explain_pair", None)
    if between is not None:
        explanations.append(gather(f"{between.method}, base to {called}", between.work(base, tuned), told))
    ratings = getattr(finding, "ratings", None)
    if ratings is not None:
        explanations.append(gather(f"{ratings.method}{asked.of}, {called}", ratings.work(tuned, asked.tuned), told))
    result: Result = finding(*explanations)
    return result


class Unanswered(InputError):
    """No response of a mode has a token, or none is left, so a score of that mode would be of nothing."""


def check_answered(mode: str, sides: Sequence[Side], base: Model, tuned: Model) -> None:
    """Raise Unanswered where one side has responses and none of them has a token."""
    for side, model in zip(sides, (tuned, tuned) if mode == "shared" else (base, tuned), strict=True):
        if side and not any(response for _, response in side):
            whose = "the references" if mode == "reference" else f"the responses of {model.name}"
            raise Unanswered(
                f"response mode {mode!r}: {whose} to all {len(side)} prompts are empty, so nothing can be explained; "
                f"look at the tokens that end a text (eos_token_id in generation_config.json) and at template=, or "
                f"explain other responses with response.mode="
            )


def embeddable(sides: Sequence[Side], base: Model, tuned: Model, notes: list[str]) -> list[Side]:
    """The prompts whose ids both models have an embedding for: tuning may have added tokens that base cannot read."""
    rows = [model.module.get_input_embeddings().weight.shape[0] for model in (base, tuned)]
    good = [
        all(max((*p.prefix_ids, *p.prompt_ids, *ids)) < count for (p, ids), count in zip(pair, rows, strict=True))
        for pair in zip(*sides, strict=True)
    ]
    left_out = [prompt.prompt.id for (prompt, _), fine in zip(sides[0], good, strict=True) if not fine]
    if left_out:
        notes.append(_skipped("have a response with tokens that the base model has no embedding for", left_out))
    if left_out and not any(good):
        raise Unanswered(
            f"no response is left to explain: {notes.pop().removesuffix('.')}; explain other responses with "
            f"response.mode="
        )
    return [[item for item, fine in zip(side, good, strict=True) if fine] for side in sides]


def prompts_with_responses(
    mode: str, job: Job, base: Model, tuned: Model, encoded: Encoded, gather: Gathering
) -> list[Side]:
    """Base's and tuned's prompts, each with the response ids to explain."""
    if mode == "reference":
        return references(job, base, tuned, encoded, gather.notes)
    greedy = GreedyResponse(job.responses.max_new_tokens)
    of_tuned = gather("greedy response, tuned", greedy.work(tuned, encoded.tuned))
    of_base = of_tuned if mode == "shared" else gather("greedy response, base", greedy.work(base, encoded.base))
    return [
        [(prompt, tuple(responses.units[prompt.prompt.id].arrays["response_R"].tolist())) for prompt in side]
        for side, responses in ((encoded.base, of_base), (encoded.tuned, of_tuned))
    ]


def references(job: Job, base: Model, tuned: Model, encoded: Encoded, notes: list[str]) -> list[Side]:
    """Base's and tuned's prompts with the ids of their given responses, which are the same for both models.

    Tuning may have added a token that base spells in several pieces: a prompt whose response has other ids for the two
    models is left out with a note. Raises InputError where none is left.
    """
    limit = job.responses.max_new_tokens
    # As prompts are encoded: with one template for both, the tuned model's tokenizer speaks for both.
    speakers = (tuned if job.template == "tuned" else base, tuned)
    sides: list[Side] = [[], []]
    left_out, cut = [], 0
    for pair in zip(encoded.base, encoded.tuned, strict=True):
        reference = pair[0].prompt.reference or ""
        whole = [p.response_ids(m.tokenizer, reference) for p, m in zip(pair, speakers, strict=True)]
        if whole[0][:limit] != whole[1][:limit]:
            left_out.append(pair[0].prompt.id)
            continue
        cut += len(whole[1]) > limit
        for side, prompt, ids in zip(sides, pair, whole, strict=True):
            side.append((prompt, ids[:limit]))
    if left_out:
        notes.append(_skipped("have a response that base and tuned spell by different token ids", left_out))
    if left_out and not sides[0]:
        hint = base_tokenizer_hint(base.source) if base.source else ""
        raise Unanswered(f"no response is left to explain: {notes.pop().removesuffix('.')}{hint}")
    if cut:
        notes.append(f"{cut} references are longer than {limit} tokens; only their beginning is explained.")
    return sides


def beside(main: Result, other: Result, suffix: str) -> Result:
    """The main result with the other's scores and tables next to its own, under names that end in the suffix."""
    renamed = [dataclasses.replace(score, name=f"{score.name}_{suffix}") for score in other.scores]
    tables = {f"{name}_{suffix}": table for name, table in other.tables.items()}
    return dataclasses.replace(main, scores=[*main.scores, *renamed], tables={**main.tables, **tables})


def remarks(job: Job) -> list[str]:
    """What a reader of the numbers must know about how this job was set."""
    notes = []
    if job.vectors is None:
        notes.append(
            "Word vectors: each model's own input embeddings stand in for static ones; word pairs and labels are not "
            "comparable with those of runs over GloVe."
        )
    without = sum(not prompt.instruction_spans for prompt in job.prompts)
    if without:
        notes.append(f"{without} prompts have no instruction span and do not count for instruction recognition.")
    if job.responses.mode == "own":
        notes.append("Base and tuned are explained on responses of different length, and density depends on length.")
    return [*notes, *span_notes(job.prompts)]


def by_autograd(*models: Model) -> list[str]:
    """A remark on each model whose attributions the engine leaves to autograd."""
    why = {model.name: model.plain[1] for model in models}
    return [
        f"{name} was explained by autograd, slower and the same numbers: {reason}."
        for name, reason in why.items()
        if reason
    ]


def by_method(job: Job) -> list[str]:
    """Remarks of the explainers on what they made, each once."""
    found: list[str] = []
    for finding in job.findings.values():
        found += getattr(finding.explain, "notes", list)()
    return list(dict.fromkeys(found))


class Gathering:
    """Turns work into explanations: takes each unit from the store, or makes and stores it at once."""

    def __init__(self, store: Store, progress: Progress) -> None:
        self._store, self._progress = store, progress
        self.explained = self.found = 0  # each unit once, however many explanations it is part of
        self._seen: set[str] = set()
        self.keys: dict[str, str] = {}
        self.notes: list[str] = []
        self.unanswered = ""  # why no response of the main mode could be explained

    def __call__(self, title: str, work: Sequence[Work], told: bool = True) -> Explanation:
        """told: False where the explanation's key is nobody's business, as of each of many null models."""
        by_key: dict[str, Unit] = {}
        keys = {item.unit: item.key for item in work}
        with self._progress.stage(title, len(work)) as advance:
            for item, unit, made in shared(self._store, work):
                self.explained += made and item.key not in self._seen
                self.found += not made and item.key not in self._seen
                self._seen.add(item.key)
                by_key[item.key] = unit
                advance(made)
        if told:
            self.keys[title] = combined_key(keys.values())
        units = {name: by_key[key] for name, key in keys.items()}  # in the order of the work, whoever made what first
        return Explanation(units, dict(work[0].content) if work else {}, keys)


def combined_key(keys: Iterable[str]) -> str:
    """One digest for many unit keys, for tags and records."""
    return content_key({"units": sorted(keys)})


def _speakers(template: str, base: Speaker, tuned: Speaker) -> list[tuple[Any, str | None, str]]:
    """For base and for tuned: whose tokenizer and chat template its prompts are encoded by, as `encode_all` takes them.

    template: one of TEMPLATES. Raises InputError where a model that must have a template has none.
    """
    if template == "none":
        return [(tokenizer, None, name) for name, tokenizer in (base, tuned)]
    # One template for both means one tokenizer for both: only the tuned model's may know the template's tokens.
    found: list[tuple[Any, str | None, str]] = []
    for name, tokenizer in {"tuned": (tuned, tuned), "own": (base, tuned)}[template]:
        text = chat_template(tokenizer, name)
        if text is None:
            raise InputError(f"template={template}: {name} has no chat template; use template=none")
        found.append((tokenizer, text, name))
    return found


def _check_same_ids(first: EncodedPrompt, second: EncodedPrompt, base: Model) -> None:
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


def _check_words(vocabulary: Vocabulary, base: Model, tuned: Model) -> None:
    """Refuse a word that has no token, and one that tuning added a token for: base's row of it is another quantity."""
    ids = word_ids(base.tokenizer, vocabulary.words)
    if tuned.tokenizer_digest == base.tokenizer_digest:
        return
    for word, first, second in zip(vocabulary.words, ids, word_ids(tuned.tokenizer, vocabulary.words), strict=True):
        if first != second:
            raise InputError(
                f"vocabulary word {word!r}: base and tuned give different token ids ({first} against {second}); leave "
                f"the word out{base_tokenizer_hint(base.source) if base.source else ''}"
            )


def _spelled_prefix(prompts: Sequence[EncodedPrompt]) -> str:
    if not prompts:
        return ""
    return (
        f"{len(prompts)} prompts begin with the beginning-of-text token, which stands in front of every text anyway; "
        f"they have it once: {', '.join(prompt.prompt.id for prompt in prompts)}."
    )


def _skipped(why: str, ids: Sequence[str]) -> str:
    return f"{len(ids)} prompts {why} and were left out: {', '.join(ids)}." if ids else ""


def release() -> None:
    """Give a finished job's device memory back before the next job of a sweep."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
