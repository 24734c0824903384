"""The verdicts of a run, from the results of its findings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from shiftbench.contracts.claim import Claim
from shiftbench.contracts.finding import Finding
from shiftbench.contracts.result import NullScores, Result, Score
from shiftbench.explain.attribution import Attribution
from shiftbench.findings.null import excess_name
from shiftbench.stats import holm, place_in_null
from shiftbench.verdicts.decision import Evidence, Null, Verdict, decide, deciding_p, headline


@dataclass(frozen=True)
class Circumstances:
    """What a run's verdicts depend on besides its results.

    static_vectors: whether words had static vectors. confidence: of the intervals, 0 to 1.
    """

    static_vectors: bool
    confidence: float


def verdicts_of(
    findings: Mapping[str, Finding], results: Sequence[Result], circumstances: Circumstances
) -> list[Verdict]:
    """A verdict on each claim of each finding, in their order. Findings without claims get none.

    findings: of the run, by their keys in the configuration. results: one for each, in the same order. The p of each
    claim is corrected by Holm's method over all claims of the run that were tested.
    """
    pairs = list(zip(findings.values(), results, strict=True))
    claims = [(finding, result, claim) for finding, result in pairs for claim in finding.claims]
    evidence = [_evidence(finding, result, claim, pairs, circumstances) for finding, result, claim in claims]
    uncorrected = [deciding_p(claim, one.score, one.excess) for (*_, claim), one in zip(claims, evidence, strict=True)]
    tests = sum(p is not None for p in uncorrected)
    return [
        decide(claim, replace(one, p=p, tests=tests))
        for (*_, claim), one, p in zip(claims, evidence, holm(uncorrected), strict=True)
    ]


def _evidence(
    finding: Finding,
    result: Result,
    claim: Claim,
    pairs: Sequence[tuple[Finding, Result]],
    circumstances: Circumstances,
) -> Evidence:
    score, excess = result.score(claim.score), _found(result, excess_name(claim.score))
    rises = headline(claim, score, excess).value > 0
    checks = [models for _, other in pairs if (models := _unfaithful_models(other, finding)) is not None]
    return Evidence(
        score=score,
        excess=excess,
        null=_null(score, result.nulls, circumstances.confidence, rises),
        specific=[one for name in claim.specific if (one := _found(result, name)) is not None],
        checked=bool(checks),
        unfaithful=frozenset(model for models in checks for model in models),
        method_chosen=isinstance(finding.explain, Attribution) and finding.explain.was_open,
        static_vectors=circumstances.static_vectors,
        inapplicable=result.inapplicable,
        confidence=circumstances.confidence,
    )


def _unfaithful_models(check: Result, finding: Finding) -> Sequence[str] | None:
    """The models in which the attribution method that a finding rests on is not shown to be faithful.

    None where `check` is not the result of a check of that method.
    """
    return check.unfaithful.get(finding.explain.method_name) if isinstance(finding.explain, Attribution) else None


def _null(score: Score, nulls: NullScores | None, confidence: float, rises: bool) -> Null | None:
    """The place of a score among the null models. rises: whether the claim's headline is above 0."""
    values = None if nulls is None else nulls.values.get(score.name)
    if nulls is None or values is None:
        return None
    place = place_in_null(score.value, values, confidence)
    # A null model that scores as much as the tuned model speaks against the word on either side.
    lower = sum(value < score.value or (value == score.value and not rises) for value in values)
    return Null(nulls.kind, place.n, place.mean, place.low, place.high, lower)


def _found(result: Result, name: str) -> Score | None:
    return next((score for score in result.scores if score.name == name), None)
