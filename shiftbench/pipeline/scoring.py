"""Every finding on the explanations that it needs, of the pair or with a null model in the tuned model's place."""

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
class Question:
    """What a finding is to compare. responses: which responses, as the titles of stages say it, or empty.

    base, tuned: what each model's explanation is computed from. Null models are asked with tuned's.
    """

    finding: Finding
    responses: str
    base: Inputs
    tuned: Inputs


def score(session: Session, finding: Finding, encoded: EncodedPrompts) -> Result:
    """One finding on the pair; where it depends on responses, on those of the mode reported beside too."""
    responses = session.job.responses
    modes = responses.modes if finding.needs_responses and not finding.is_check else [responses.mode]
    by_mode = []
    for mode in modes:
        try:
            by_mode.append(answer(session, question(session, finding, mode, encoded)))
        except Unanswered as empty:
            if mode == responses.mode:
                raise
            session.gatherer.notes.append(f"Nothing is reported on {mode} responses: {empty}.")
    return _beside(by_mode[0], by_mode[1], f"{responses.beside}_response") if len(by_mode) > 1 else by_mode[0]


def question(session: Session, finding: Finding, mode: str, encoded: EncodedPrompts) -> Question:
    """A finding on the responses of a mode, to the job's prompts or to those that its method makes of them."""
    job, explain = session.job, finding.explain
    if not finding.needs_responses:
        inputs = Inputs((), job.vocabulary, job.vectors)
        return Question(finding, "", inputs, inputs)
    own = explain.own_prompts(job.prompts) if isinstance(explain, Explainer) else None
    if own is not None:
        encoded = encode_prompts(job, own, session.models.base, session.models.tuned)
        session.gatherer.notes += [f"{finding.name}: {note}" for note in encoded.notes]
    sides = prompts_with_responses(session, mode, encoded)
    base, tuned = (Inputs(side, job.vocabulary, job.vectors) for side in sides)
    return Question(finding, f" of {mode} responses", base, tuned)


def answer(session: Session, asked: Question, null: Model | Weights | None = None) -> Result:
    """The finding's result. null: a null model, or its weights, in the tuned model's place; None: the pair itself."""
    name = "tuned" if null is None else null.name
    explanations = _explanations(session, asked, null, name)
    result: Result = asked.finding(*explanations)
    return result


def _explanations(session: Session, asked: Question, null: Model | Weights | None, name: str) -> list[Explanation]:
    """In the order in which a finding takes them: of its method, of its pair method, and ratings."""
    finding, gather, record_key = asked.finding, session.gatherer, null is None
    explain = finding.explain
    if isinstance(explain, WeightExplainer):
        tuned_weights = null if isinstance(null, Weights) else session.tuned_weights
        work = explain.work(session.base_weights, tuned_weights)
        return [gather(f"{explain.method}, base to {name}", work, record_key)]
    base, tuned = session.models.base, null if isinstance(null, Model) else session.models.tuned
    found = [
        gather(f"{explain.method}{asked.responses}, base", explain.work(base, asked.base), record_key),
        gather(f"{explain.method}{asked.responses}, {name}", explain.work(tuned, asked.tuned), record_key),
    ]
    between = finding.pair_explainer()
    if between is not None:
        found.append(gather(f"{between.method}, base to {name}", between.work(base, tuned), record_key))
    ratings = finding.ratings_of_responses()
    if ratings is not None:
        found.append(gather(f"{ratings.method}{asked.responses}, {name}", ratings.work(tuned, asked.tuned), record_key))
    return found


def _beside(main: Result, other: Result, suffix: str) -> Result:
    """The main result with the other's scores and tables next to its own, under names that end in the suffix."""
    renamed = [dataclasses.replace(score, name=f"{score.name}_{suffix}") for score in other.scores]
    tables = {f"{name}_{suffix}": table for name, table in other.tables.items()}
    return dataclasses.replace(main, scores=[*main.scores, *renamed], tables={**main.tables, **tables})
