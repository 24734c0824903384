"""Counts the verdicts of finished trials: shares of false verdicts and of found shifts, for each claim.

`tally` gives the document that certification.json holds, `markdown` its tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from shiftbench.contracts.finding import Finding
from shiftbench.stats import lower_bound, upper_bound
from shiftbench.verdicts import Word

SCHEMA = "shiftbench/certification/1"
DECIDED = (Word.SUPPORTED.value, Word.OPPOSITE.value)
JUDGED = (*DECIDED, Word.NOT_CLEAR.value)


def tally(
    findings: Mapping[str, Finding], trials: Sequence[Mapping[str, Any]], conditions: Mapping[str, Any]
) -> dict[str, Any]:
    """The outcome of a certification as a document.

    findings: of the job. trials: the finished ones, as `scoring.score_trial` returns them. conditions: how they were
    scored. The document has these conditions, the number of trials with the refused ones (`pairs`), the name and the
    reason of each refused trial, and for each claim the object of `_claim`.
    """
    refused = [
        {"trial": trial["trial"], "reason": trial["refused"]} for trial in trials if trial.get("refused") is not None
    ]
    claims = [
        _claim(finding, index, [trial for trial in trials if "verdicts" in trial])
        for finding in findings.values()
        for index in range(len(finding.claims))
    ]
    return {
        "schema": SCHEMA,
        "conditions": dict(conditions),
        "pairs": len(trials),
        "refused": refused,
        "claims": claims,
    }


def _claim(finding: Finding, index: int, trials: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The counts of one claim of the finding, `finding.claims[index]`.

    trials: those that were not refused. pairs: the number of pairs of the kinds `Claim.null_pairs`. Where the finding
    needs no responses, pairs with equal weights count once. judged: the number of those with the word supported,
    opposite or not clear. supported, opposite: the number of false verdicts of each word. false, false_at_most: the
    share of both among the judged pairs, and the upper end of its one-sided 95% interval; None without a judged pair.
    decided: the names of the trials with a false verdict. kinds: the same counts for each kind and size of null pair.
    planted: for each size of the shift that is planted for the claim's score, the number of pairs, the number of each
    word, the mean value of the headline, and the share of `supported` among these pairs with the lower end of its
    one-sided 95% interval.
    """
    claim = finding.claims[index]
    key = f"{finding.name}.{claim.score}"
    known = [{**trial, "verdict": trial["verdicts"][key]} for trial in trials if key in trial["verdicts"]]
    null = [
        trial
        for trial in known
        if trial["kind"] is not None and any(kind.name.lower() == trial["kind"] for kind in claim.null_pairs)
    ]
    if not finding.needs_responses:  # then equal weights give equal scores, whatever the prompts are
        null = list({(trial["base_weights"], trial["tuned_weights"]): trial for trial in reversed(null)}.values())[::-1]
    by_kind: dict[tuple[str, float | None], list[Mapping[str, Any]]] = {}
    for trial in null:
        by_kind.setdefault((trial["kind"], trial["size"]), []).append(trial)
    by_size: dict[float, list[Mapping[str, Any]]] = {}
    for trial in known:
        if trial["planted"] == claim.score:
            by_size.setdefault(trial["size"], []).append(trial)
    return {
        "finding": finding.name,
        "score": claim.score,
        "claim": claim.short,
        **_false(null),
        "kinds": [{"kind": kind, "size": size, **_false(of_kind)} for (kind, size), of_kind in by_kind.items()],
        "planted": [{"size": size, **_found(of_size)} for size, of_size in sorted(by_size.items())],
    }


def _false(trials: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    words = [trial["verdict"]["word"] for trial in trials]
    judged = sum(word in JUDGED for word in words)
    decided = sum(word in DECIDED for word in words)
    return {
        "pairs": len(words),
        "judged": judged,
        "supported": words.count(Word.SUPPORTED.value),
        "opposite": words.count(Word.OPPOSITE.value),
        "false": decided / judged if judged else None,
        "false_at_most": upper_bound(decided, judged) if judged else None,
        "decided": [trial["trial"] for trial in trials if trial["verdict"]["word"] in DECIDED],
    }


def _found(trials: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    words = [trial["verdict"]["word"] for trial in trials]
    supported = words.count(Word.SUPPORTED.value)
    return {
        "pairs": len(words),
        "words": {word.value: words.count(word.value) for word in Word if word.value in words},
        "headline": sum(trial["verdict"]["value"] for trial in trials) / len(trials),
        "power": supported / len(words),
        "power_at_least": lower_bound(supported, len(words)),
    }


def markdown(document: Mapping[str, Any]) -> str:
    """A certification in Markdown: a line on its conditions, three tables, and the refused pairs.

    The tables have the false verdicts, the false verdicts by kind of pair, and the found shifts.
    document: as `tally` gives it.
    """
    claims = document["claims"]
    kinds = list(dict.fromkeys((row["kind"], row["size"]) for claim in claims for row in claim["kinds"]))
    lines = [
        _conditions(document),
        "",
        *_table(
            ["claim", "null pairs", "judged", "supported", "opposite", "false", "at most (95%)"],
            [
                [claim["claim"], *(str(claim[name]) for name in ("pairs", "judged", "supported", "opposite")),
                 _percent(claim["false"]), _percent(claim["false_at_most"])]
                for claim in claims
            ],
        ),
        "",
        "False verdicts of the judged pairs, by kind of pair:",
        "",
        *_table(
            ["claim", *(_kind(kind, size) for kind, size in kinds)],
            [[claim["claim"], *(_of_kind(claim, kind, size) for kind, size in kinds)] for claim in claims],
        ),
        "",
        "Planted shifts:",
        "",
        *_table(
            ["claim", "planted", "mean headline", "pairs", "verdicts", "power", "at least (95%)"],
            [
                [claim["claim"], f"{row['size']:g}", f"{row['headline']:+.3f}", str(row["pairs"]),
                 ", ".join(f"{count} {word}" for word, count in row["words"].items()),
                 _percent(row["power"]), _percent(row["power_at_least"])]
                for claim in claims
                for row in claim["planted"]
            ],
        ),
    ]  # fmt: skip
    refused = document["refused"]
    if refused:
        lines += ["", f"{len(refused)} pairs were refused:", ""]
        lines += [f"- {row['trial']}: {row['reason']}" for row in refused]
    return "\n".join(lines) + "\n"


def _conditions(document: Mapping[str, Any]) -> str:
    found = document["conditions"]
    return (
        f"{document['pairs']} pairs made from `{found['pair']}`, each with {found['prompts']} prompts of "
        f"`{found['dataset']}`, responses of at most {found['tokens']} tokens and {found['draws']} null models "
        f"({found['control']}); seed {found['seed']}; shiftbench {found['shiftbench']}."
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    if not rows:
        return ["None."]
    return [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows)]


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}" if 0 < share < 0.1 else f"{share:.0%}"


def _kind(kind: str, size: float | None) -> str:
    return kind if size is None else f"{kind} {size:g}"


def _of_kind(claim: Mapping[str, Any], kind: str, size: float | None) -> str:
    row = next((row for row in claim["kinds"] if (row["kind"], row["size"]) == (kind, size)), None)
    return "" if row is None else f"{row['supported'] + row['opposite']} of {row['judged']}"
