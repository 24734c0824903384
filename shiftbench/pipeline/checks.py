"""Refusing a job that cannot be done: before any weight is read, and once more when models are loaded."""

from __future__ import annotations

from shiftbench.contracts.explainer import Explainer, WeightExplainer
from shiftbench.contracts.need import Need
from shiftbench.errors import InputError
from shiftbench.models import Model
from shiftbench.models.pairs import base_tokenizer_hint
from shiftbench.models.pairs import check as check_pair
from shiftbench.models.weights import check_weight_files
from shiftbench.pipeline.encoding import TEMPLATES, check_templates
from shiftbench.pipeline.job import Job
from shiftbench.pipeline.session import Session
from shiftbench.words import Vocabulary, word_ids


def check(job: Job) -> None:
    """Raise InputError for whatever can be refused before a model's weights are read."""
    if job.template not in TEMPLATES:
        raise InputError(f"template={job.template!r} is not known; choose from {', '.join(TEMPLATES)}")
    if not job.findings:
        raise InputError("no findings to score: the suite names none")
    _check_ids(job)
    tokenizers = check_pair(job.pair)
    if job.needs(Need.PROMPTS):
        check_templates(job, *tokenizers)
    if job.control is not None:
        job.control.check(job.pair.tuned)
    for name, finding in job.findings.items():
        _check_method(job, f"findings.{name}.explain", finding.explain)
        ratings = finding.ratings_of_responses()
        if ratings is not None:
            ratings.check(job.prompts)
    if "reference" in job.responses.modes and job.needs(Need.RESPONSES):
        missing = [prompt.id for prompt in job.prompts if prompt.reference is None]
        if missing:
            raise InputError(
                f"response mode 'reference' needs a response for every prompt; {len(missing)} have none, "
                f"first {missing[0]!r}"
            )


def check_loaded(session: Session) -> None:
    """Raise InputError for what only loaded models show; loads those that some finding needs, and no other."""
    job, models = session.job, session.models
    loaded = [models.base] if job.needs(Need.BASE) else []
    loaded += [models.tuned] if job.needs(Need.TUNED) else []
    if job.needs(Need.BASE) and job.needs(Need.TUNED):
        _check_words(job.vocabulary, models.base, models.tuned)
    for finding in job.findings.values():
        if isinstance(finding.explain, Explainer):
            for model in loaded:
                _check_parts(finding.name, finding.needs, model)
                finding.explain.check_model(model)
    if job.control is not None and len(loaded) == 2:
        job.control.check_models(models.base, models.tuned)


def _check_ids(job: Job) -> None:
    seen: set[str] = set()
    for prompt in job.prompts:
        if prompt.id in seen:
            raise InputError(f"two prompts have the id {prompt.id!r}; ids must differ")
        seen.add(prompt.id)


def _check_method(job: Job, option: str, explain: Explainer | WeightExplainer) -> None:
    """option: the key of the method's options in the configuration, for messages."""
    for source in (job.pair.base, job.pair.tuned):
        if isinstance(explain, WeightExplainer):
            check_weight_files(source)
        else:
            explain.check_source(source)
    if isinstance(explain, Explainer):
        explain.check_words(option, job.vocabulary, job.vectors)


def _check_parts(finding: str, needs: frozenset[Need], model: Model) -> None:
    """Refuse a model without the parts that a finding looks at."""
    offers = {Need.ATTENTION_HEADS: model.views.heads > 0, Need.GATED_NETWORK: model.views.gated}
    for need, offered in offers.items():
        if need in needs and not offered:
            raise InputError(
                f"finding {finding} needs {need.value}, and {model.name} has none; leave the finding out with "
                f"~findings.{finding}"
            )


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
