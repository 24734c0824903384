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
from shiftbench.store.explanation import Explanation


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


def result_of(session: Session, comparison: Comparison, null: Model | Weights | None = None) -> Result:
    """Gather the explanations that a finding compares, and return the finding's result.

    null: a null model, or its weights, in place of the tuned model; None: the tuned model itself.
    """
    name = "tuned" if null is None else null.name
    explanations = _explanations(session, comparison, null, name)
    result: Result = comparison.finding(*explanations)
    return result


def _explanations(
    session: Session, comparison: Comparison, null: Model | Weights | None, name: str
) -> list[Explanation]:
    """The arguments of `Finding.__call__`: base's explanation, tuned's, and those that the finding uses besides.

    For a finding whose method is a WeightExplainer: the one explanation of the pair. name: 'tuned' or the null model's
    name, for titles of stages.
    """
    finding, gather, record_key = comparison.finding, session.gatherer, null is None
    explain = finding.explain
    if isinstance(explain, WeightExplainer):
        tuned_weights = null if isinstance(null, Weights) else session.tuned_weights
        work = explain.work(session.base_weights, tuned_weights)
        return [gather(f"{explain.method}, base to {name}", work, record_key)]
    base, tuned = session.models.base, null if isinstance(null, Model) else session.models.tuned
    # Components of tuned and null models are read as words in base's embeddings; tuned's in their own embeddings too.
    as_base = dataclasses.replace(comparison.tuned, read_in=base, also_own=null is None)
    found = [
        gather(f"{explain.method}{comparison.responses}, base", explain.work(base, comparison.base), record_key),
        gather(f"{explain.method}{comparison.responses}, {name}", explain.work(tuned, as_base), record_key),
    ]
    between = finding.pair_explainer()
    if between is not None:
        found.append(gather(f"{between.method}, base to {name}", between.work(base, tuned), record_key))
    ratings = finding.ratings_of_responses()
    if ratings is not None:
        work = ratings.work(tuned, comparison.tuned)
        found.append(gather(f"{ratings.method}{comparison.responses}, {name}", work, record_key))
    return found


def _with_second(main: Result, second: Result, suffix: str) -> Result:
    """The main result with the scores and tables of the second added, each under the name NAME_SUFFIX."""
    renamed = [dataclasses.replace(score, name=f"{score.name}_{suffix}") for score in second.scores]
    tables = {f"{name}_{suffix}": table for name, table in second.tables.items()}
    return dataclasses.replace(main, scores=[*main.scores, *renamed], tables={**main.tables, **tables})
