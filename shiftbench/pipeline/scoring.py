"""Scores one finding on the explanations that it needs: on the pair, or on base and a null model."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from shiftbench.contracts.explainer import Explainer, Inputs, WeightExplainer
from shiftbench.contracts.finding import Finding
from shiftbench.contracts.result import Result
from shiftbench.models import Model
from shiftbench.models.weights import Weights
from shiftbench.pipeline.encoding import EncodedPrompts, encode_prompts
from shiftbench.pipeline.responses import Unanswered, prompts_with_responses
from shiftbench.pipeline.session import Session
from shiftbench.store.work import Work


@dataclass(frozen=True)
class Comparison:
    """A finding, and what the two explanations that it compares are computed from.

    responses: the responses' mode as part of a stage's title, for example " of shared responses"; empty where the
    finding needs no responses. base, tuned: the inputs of each model's explanation. A null model gets tuned's inputs.
    """

    finding: Finding
    responses: str
    base: Inputs
    tuned: Inputs


def score(session: Session, finding: Finding, encoded: EncodedPrompts) -> Result:
    """The result of one finding on the pair.

    encoded: the job's prompts. The main mode and the second mode are `mode` and `beside` of the job's Responses. Where
    there is a second mode, and the finding depends on responses and does not check a method, the result also has the
    scores and tables on the responses of the second mode, with names that end in _MODE_response; where none of those
    responses can be explained, a note says so instead. Raises Unanswered where no response of the main mode can be
    explained.
    """
    responses = session.job.responses
    modes = responses.modes if finding.needs_responses and not finding.is_check else [responses.mode]
    by_mode = []
    for mode in modes:
        try:
            by_mode.append(result_of(session, comparison_of(session, finding, mode, encoded)))
        except Unanswered as empty:
            if mode == responses.mode:
                raise
            session.gatherer.notes.append(f"Nothing is reported on {mode} responses: {empty}.")
    return _with_second(by_mode[0], by_mode[1], f"{responses.beside}_response") if len(by_mode) > 1 else by_mode[0]


def comparison_of(session: Session, finding: Finding, mode: str, encoded: EncodedPrompts) -> Comparison:
    """A finding with the inputs of base's and of tuned's explanation, on the responses of a mode.

    Decodes the responses that the store lacks. A finding that needs no responses gets inputs without prompts. encoded:
    the job's prompts. A method with prompts of its own (`Explainer.own_prompts`) explains those instead. Raises
    Unanswered as `prompts_with_responses` does.
    """
    job, explain = session.job, finding.explain
    if not finding.needs_responses:
        inputs = Inputs((), job.vocabulary, job.vectors)
        return Comparison(finding, "", inputs, inputs)
    own = explain.own_prompts(job.prompts) if isinstance(explain, Explainer) else None
    if own is not None:
        encoded = encode_prompts(job, own, session.models.base, session.models.tuned)
        session.gatherer.notes += [f"{finding.name}: {note}" for note in encoded.notes]
    sides = prompts_with_responses(session, mode, encoded)
    base, tuned = (Inputs(side, job.vocabulary, job.vectors) for side in sides)
    return Comparison(finding, f" of {mode} responses", base, tuned)


def result_of(session: Session, comparison: Comparison) -> Result:
    """Gather the explanations that a finding compares, and return the finding's result on the pair."""
    works = works_of(session, comparison, session.models.tuned if session.job.needs_models else None)
    result: Result = comparison.finding(*(session.gatherer(title, work) for title, work in works))
    return result


def works_of(
    session: Session, comparison: Comparison, tuned: Model | Weights | None, is_null: bool = False
) -> list[tuple[str, list[Work]]]:
    """(title, work) of each explanation that the finding compares, in the order of the arguments of `Finding.__call__`.

    tuned: the tuned model. For a method that reads weight files, it is the tuned weights; a model or None then stands
    for the weight files of the job's tuned model. is_null: whether `tuned` is a null model; the order is then that of
    the arguments of `Finding.null_values`.
    """
    finding, explain = comparison.finding, comparison.finding.explain
    if isinstance(explain, WeightExplainer):
        weights = tuned if isinstance(tuned, Weights) else session.tuned_weights
        return [(f"{explain.method}, base to tuned", explain.work(session.base_weights, weights))]
    base = session.models.base
    assert isinstance(tuned, Model)
    # The tuned model's and a null model's components are read as words in base's embeddings. The tuned model's are also
    # read in the tuned model's own embeddings.
    as_base = dataclasses.replace(comparison.tuned, read_in=base, also_own=not is_null)
    works = [
        (f"{explain.method}{comparison.responses}, base", explain.work(base, comparison.base)),
        (f"{explain.method}{comparison.responses}, tuned", explain.work(tuned, as_base)),
    ]
    between = finding.null_pair_explainer() if is_null else finding.pair_explainer()
    if between is not None:
        works.append((f"{between.method}, base to tuned", between.work(base, tuned)))
    ratings = finding.ratings_of_responses()
    if ratings is not None:
        works.append((f"{ratings.method}{comparison.responses}, tuned", ratings.work(tuned, comparison.tuned)))
    return works


def _with_second(main: Result, second: Result, suffix: str) -> Result:
    """The main result with the scores and tables of the second added, each under the name NAME_SUFFIX."""
    renamed = [dataclasses.replace(score, name=f"{score.name}_{suffix}") for score in second.scores]
    tables = {f"{name}_{suffix}": table for name, table in second.tables.items()}
    return dataclasses.replace(main, scores=[*main.scores, *renamed], tables={**main.tables, **tables})
