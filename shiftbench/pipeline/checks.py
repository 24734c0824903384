"""Refuses a job that cannot be done: `check` before any weight is read, `check_loaded` once models are loaded."""

from __future__ import annotations

from collections.abc import Sequence

from shiftbench.contracts.explainer import Explainer, WeightExplainer
from shiftbench.contracts.need import Need
from shiftbench.errors import InputError
from shiftbench.models import Model, ModelSource
from shiftbench.models.pairs import base_tokenizer_hint
from shiftbench.models.pairs import check as check_pair
from shiftbench.models.weights import check_weight_files
from shiftbench.pipeline.encoding import TEMPLATES, check_templates
from shiftbench.pipeline.job import Job
from shiftbench.pipeline.session import Session
from shiftbench.words import Vocabulary, word_ids


def check(job: Job, base: Model | None = None, tuned: Model | None = None) -> None:
    """Raise InputError for a job of which it is seen, without reading a weight, that it cannot be done.

    base, tuned: the models that the caller has loaded; None: the model is described by its source in the job's pair.

    These are checked: the name of the template; that there is a finding; that no two prompts have one id; that base and
    tuned can be compared (`models.pairs.check`); the chat templates, where a finding needs prompts; the control, unless
    it is one for weights alone; each finding's method; whether the job's prompts suit the ratings of responses that a
    finding reads (`Finding.ratings_of_responses`); that no model was given loaded, where a finding reads weight files;
    and that every prompt has a response, where a finding needs responses and 'reference' is one of the job's response
    modes.
    """
    if job.template not in TEMPLATES:
        raise InputError(f"template={job.template!r} is not known; choose from {', '.join(TEMPLATES)}")
    if not job.findings:
        raise InputError("the job has no finding to score; choose a suite with suite=NAME, for example suite=all")
    _check_ids(job)
    tokenizers = check_pair(job.pair, base, tuned)
    if job.needs(Need.PROMPTS):
        check_templates(job, *tokenizers)
    if job.control is not None and not job.control.weights_only:
        job.control.check(job.pair.tuned)
    for name, finding in job.findings.items():
        sources = [source for source, model in ((job.pair.base, base), (job.pair.tuned, tuned)) if model is None]
        if isinstance(finding.explain, WeightExplainer) and len(sources) < 2:
            raise InputError(
                f"finding {finding.name} reads weight files, and a model was given loaded; give paths, or leave the "
                f"finding out with ~findings.{name}"
            )
        _check_method(job, f"findings.{name}.explain", finding.explain, sources)
        ratings = finding.ratings_of_responses()
        if ratings is not None:
            ratings.check(job.prompts)
    if "reference" in job.responses.modes and job.needs(Need.RESPONSES):
        missing = [prompt.id for prompt in job.prompts if prompt.reference is None]
        if missing:
            raise InputError(
                f"response mode 'reference' needs a response with every prompt; {len(missing)} prompts have none, the "
                f"first is {missing[0]!r}; add the responses to the prompts, or choose another response.mode="
            )


def check_loaded(session: Session) -> None:
    """Load base and tuned, and raise InputError where they show that the job cannot be done.

    Where no finding needs a loaded model, nothing is loaded or checked. Otherwise these are checked: the token ids of
    the vocabulary's words; for each finding whose method explains loaded models, that both models have the parts that
    it needs and that the method can explain them (`Explainer.check_model`); and that the control can make null models
    from them, unless it is one for weights alone.
    """
    job, models = session.job, session.models
    if not job.needs_models:
        return
    _check_words(job.vocabulary, models.base, models.tuned)
    for finding in job.findings.values():
        if isinstance(finding.explain, Explainer):
            for model in (models.base, models.tuned):
                _check_parts(finding.name, finding.needs, model)
                finding.explain.check_model(model)
    if job.control is not None and not job.control.weights_only:
        job.control.check_models(models.base, models.tuned)


def _check_ids(job: Job) -> None:
    seen: set[str] = set()
    for prompt in job.prompts:
        if prompt.id in seen:
            raise InputError(f"two prompts have the id {prompt.id!r}; give every prompt an id of its own")
        seen.add(prompt.id)


def _check_method(job: Job, option: str, explain: Explainer | WeightExplainer, sources: Sequence[ModelSource]) -> None:
    """Raise InputError where a finding's method cannot explain the pair.

    A WeightExplainer needs weight files of each of `sources`. An Explainer must accept each of them, and the job's
    vocabulary and word vectors. option: the key of the method's options in the configuration, for messages. sources:
    those of the models that the caller has not loaded; a loaded one is checked later, by `check_loaded`.
    """
    for source in sources:
        if isinstance(explain, WeightExplainer):
            check_weight_files(source)
        else:
            explain.check_source(source)
    if isinstance(explain, Explainer):
        explain.check_words(option, job.vocabulary, job.vectors)


def _check_parts(finding: str, needs: frozenset[Need], model: Model) -> None:
    """Raise InputError where a model lacks attention heads or a gated feed-forward network that a finding needs.

    finding: the finding's name, for the message. needs: what the finding needs.
    """
    offers = {Need.ATTENTION_HEADS: model.views.heads > 0, Need.GATED_NETWORK: model.views.gated}
    for need, offered in offers.items():
        if need in needs and not offered:
            raise InputError(
                f"finding {finding} needs {need.value}, and {model.name} has none; leave the finding out with "
                f"~findings.{finding}"
            )


def _check_words(vocabulary: Vocabulary, base: Model, tuned: Model) -> None:
    """Raise InputError for a vocabulary word that has no token in a model, or other token ids in tuned than in base.

    An empty vocabulary is an error too. Tuning may have added a token for a word, of which base has no embedding. The
    word's embeddings in the two models could then not be compared. Where base and tuned have the same tokenizer, only
    base's ids are looked at.
    """
    ids = word_ids(base.tokenizer, vocabulary.words)
    if tuned.tokenizer_digest == base.tokenizer_digest:
        return
    for word, first, second in zip(vocabulary.words, ids, word_ids(tuned.tokenizer, vocabulary.words), strict=True):
        if first != second:
            raise InputError(
                f"vocabulary word {word!r}: base and tuned give different token ids ({first} against {second}); leave "
                f"the word out{base_tokenizer_hint(base.source) if base.source else ''}"
            )
