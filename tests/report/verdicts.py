"""A summary of a run with four verdicts of three words, whose numbers are planted."""

from __future__ import annotations

from datetime import datetime, timezone

from shiftbench.contracts.claim import Claim
from shiftbench.contracts.result import Result, Score
from shiftbench.report import RunSummary
from shiftbench.verdicts import Evidence, Null, Verdict, decide

GIVEN = ("pair=demo", "suite=smoke")
FLAGS = ("unfaithful:base", "unfaithful:tuned")


def claim(score: str, short: str, attributions: bool = False, zero_is_null: bool = False) -> Claim:
    return Claim(
        score=score, short=short, statement=f"the tuned model {short}", opposite=f"the tuned model {short} less",
        observations="prompts", floor=10, zero_is_null=zero_is_null, attributions=attributions,
    )  # fmt: skip


def verdict(finding: str, made: Claim, value: float = 0.3, controlled: bool = False, **evidence: object) -> Verdict:
    """A verdict on a score of `value` within 0.1. controlled: whether 199 null models score within 0.05 of 0."""
    score = Score(finding, made.score, value, value - 0.1, value + 0.1, 1e-4, 60)
    excess = Score(finding, f"{made.score}_over_null", value, value - 0.1, value + 0.1, 1e-4, 60)
    null = Null("permuted", 199, 0.0, -0.05, 0.05, 199)
    found = Evidence(score, excess if controlled else None, null if controlled else None, p=0.0004, tests=4)
    return decide(made, Evidence(**{**vars(found), **evidence}))  # type: ignore[arg-type]


def four_verdicts() -> list[Verdict]:
    """Supported, not trustworthy, not clear because of the control, and not clear without a control."""
    return [
        verdict("verbs", claim("verbs", "heads encode instruction verbs"), controlled=True),
        verdict(
            "recognition", claim("recognition", "recognises the instruction", attributions=True, zero_is_null=True),
            unfaithful=frozenset({"base", "tuned"}),
        ),
        verdict("rotation", claim("fall", "concepts moved toward user tasks"), value=0.05, controlled=True),
        verdict("recognition", claim("rise", "leans more on the whole prompt", zero_is_null=True)),
    ]  # fmt: skip


def run_with_verdicts(verdicts: list[Verdict] | None = None, flags: tuple[str, ...] = FLAGS) -> RunSummary:
    """The summary of a run. verdicts: None for `four_verdicts`. flags: of the check of attributions."""
    verdicts = four_verdicts() if verdicts is None else verdicts
    scores: dict[str, list[Score]] = {}
    for one in verdicts:
        scores.setdefault(one.evidence.score.finding, []).append(one.evidence.score)
    results = [Result(finding, rows[0].name, f"{finding} says.", rows, {}) for finding, rows in scores.items()]
    level = Score("faithfulness", "base_correlation", 0.1, 0.0, 0.2, None, 60)
    results.append(Result("faithfulness", level.name, "The check says.", [level], {}, flags=list(flags)))
    pair = {
        "name": "demo", "base": "models/base", "tuned": "models/tuned", "family": "demo", "size": "3M",
        "suite": "smoke", "prompts_explained": 60, "prompt_set": "1" * 64, "settings": "2" * 64,
        "control": "permuted", "vocabulary": "packaged", "vectors": "GloVe", "dataset": "self_instruct",
    }  # fmt: skip
    return RunSummary(
        pair=pair, versions={"shiftbench": "0.2.0"}, results=results, notes=[], config="seed: 0\n", verdicts=verdicts,
        given=GIVEN, finished=datetime(2026, 11, 28, 10, 0, tzinfo=timezone.utc),
    )  # fmt: skip
