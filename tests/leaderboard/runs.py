"""Made-up runs, tracked as `shiftbench score` tracks them. Scores are drawn from a seed; no model is loaded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from shiftbench.leaderboard import Entry
from shiftbench.leaderboard.tracked_runs import entry
from shiftbench.tracking import FoundRun, TrackedRun, Tracking

FINDINGS = {
    "instruction_recognition": ("recognition", "context_density_fall", "recognition_own_response"),
    "instruction_verbs": ("verbs", "verbs_quarter_1", "verbs_quarter_4"),
    "concept_rotation": ("none_share_fall", "mean_angle_10_rad"),
}
# By the key of a claim's verdict: its headline, and what it says in few words.
CLAIMS = {
    "instruction_recognition": ("recognition", "recognises the instruction"),
    "instruction_verbs": ("verbs_over_null", "heads encode instruction verbs"),
    "concept_rotation": ("none_share_fall_over_null", "concepts moved toward user tasks"),
}
VERSIONS = {
    "shiftbench": "0.3.0", "torch": "2.13.0", "transformers": "5.23.0", "finding.instruction_recognition": "1",
    "finding.instruction_verbs": "1", "finding.concept_rotation": "1", "explain.attribution": "1",
}  # fmt: skip


def digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True)
class Planted:
    """A run to record.

    scores: (value, low, high) of a score by its name; the other scores are drawn. verdicts: fields that differ from
    those of `verdict`, by the verdict's key; by None, those of all verdicts. old: whether scores.json is of version 1,
    which has no verdicts.
    """

    name: str
    base: str = "org/base-1b"
    tuned: str = ""
    family: str = "llama"
    size: str = "1.2B"
    seed: int = 0
    scores: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)
    extra: Sequence[Mapping[str, Any]] = ()  # rows of scores.json after the drawn ones
    pair: Mapping[str, Any] = field(default_factory=dict)  # values that differ from those of other runs
    versions: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    verdicts: Mapping[str | None, Mapping[str, Any]] = field(default_factory=dict)
    old: bool = False
    report: str | None = "<!doctype html><title>report</title><p>The report."

    def document(self) -> dict[str, Any]:
        """The content of scores.json."""
        tuned = self.tuned or f"{self.base}-{self.name}"
        pair = {
            "name": self.name, "base": self.base, "tuned": tuned, "family": self.family, "size": self.size,
            "base_weights": digest(self.base), "tuned_weights": digest(tuned), "tokenizer": digest("tokenizer"),
            "dtype": "float32", "dataset": "self_instruct", "prompts": 252, "prompts_explained": 250,
            "prompt_set": digest("self_instruct"), "settings": digest("settings"), "response": "shared",
            "max_new_tokens": 200, "template": "none", "vocabulary": "english", "suite": "all",
            "vocabulary_digest": digest("english"), "vectors": "glove", "control": "permuted", **self.pair,
        }  # fmt: skip
        rows = [*self._rows(), *self.extra]
        versions = {**VERSIONS, **self.versions}
        content = {"versions": versions, "pair": pair, "scores": rows, "notes": []}
        if self.old:
            return {"schema": "shiftbench/scores/1", **content}
        return {
            "schema": "shiftbench/scores/2",
            "verdicts": self._verdicts(rows),
            "date": None,
            "command": None,
            **content,
        }

    def _verdicts(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        numbers = {(row["finding"], row["name"]): [row[name] for name in ("value", "low", "high")] for row in rows}
        found = {}
        for key in dict.fromkeys([*CLAIMS, *(key for key in self.verdicts if key is not None)]):
            headline, short = CLAIMS.get(key, (key.partition(".")[2] or key, key.replace("_", " ")))
            value = numbers.get((key.partition(".")[0], headline.removesuffix("_over_null")), [0.1, 0.05, 0.15])
            given = {**self.verdicts.get(None, {}), **self.verdicts.get(key, {})}
            bounds = dict(zip(("value", "low", "high"), value, strict=True))
            found[key] = verdict(**{"headline": headline, "short": short, **bounds, **given})
        return found

    def _rows(self) -> list[dict[str, Any]]:
        draw = np.random.default_rng([self.seed, *self.name.encode("utf-8", "surrogatepass")])
        rows = []
        for finding, names in FINDINGS.items():
            for name in names:
                value, half = draw.normal(0.12, 0.09), draw.uniform(0.01, 0.06)
                value, low, high = self.scores.get(name, (value, value - half, value + half))
                numbers = {"value": float(value), "low": float(low), "high": float(high)}
                rows.append({"finding": finding, "name": name, **numbers, "p": 0.01, "n": 250})
        return rows


def row(finding: str, name: str, value: float, low: float, high: float, n: int = 250) -> dict[str, Any]:
    return {"finding": finding, "name": name, "value": value, "low": low, "high": high, "p": None, "n": n}


def verdict(headline: str, short: str, value: float, low: float, high: float, **fields: Any) -> dict[str, Any]:
    """A verdict of scores.json: by its interval supported, opposite or not clear, with a small p and many null models.

    draws: the number of null models, 1,999 unless it is given. The score lies beyond all of them if it is decided.
    """
    word = "supported" if low > 0 else "opposite" if high < 0 else "not clear"
    draws = fields.pop("draws", 1999)
    place = {"supported": draws, "opposite": 0}.get(word, draws // 2)
    null = {"kind": "permuted", "draws": draws, "mean": 0.0, "low": -0.03, "high": 0.03, "place": place}
    p = 0.3 if word == "not clear" else 1e-6
    return {
        "verdict": word, "claim": f"the tuned model {short}", "short": short, "headline": headline, "value": value,
        "low": low, "high": high, "p": p, "p_uncorrected": p, "n": 250, "null": null if draws else None,
        "reasons": [f"the interval [{low:+.3f}, {high:+.3f}] contains 0"] if word == "not clear" else [],
        "sentence": "A sentence.", "detectable": 0.05, "next": None, **fields,
    }  # fmt: skip


def record(tracking: Tracking, planted: Planted, folder: Path) -> str:
    """Record the run as a job does it, and return its id. folder: created for the run's files."""
    folder.mkdir(parents=True)
    document = planted.document()
    (folder / "scores.json").write_text(json.dumps(document), encoding="utf-8")
    if planted.report is not None:
        (folder / "report.html").write_text(planted.report, encoding="utf-8")
    pair = document["pair"]
    tags = {"pair": planted.name, "base": pair["base"], "tuned": pair["tuned"], "shiftbench.kind": "pair"}
    run = TrackedRun(planted.name, {"name": planted.name}, {**tags, **planted.tags}, {}, folder, None)
    run_id = tracking.record(run)
    assert run_id is not None
    return run_id


def entries(*planted: Planted) -> list[Entry]:
    """The entries of runs that were recorded one after another, the first run first. MLflow is not used."""
    return [
        entry(FoundRun(f"run{i}", each.name, 1000 * i, "FINISHED", each.tags), json.dumps(each.document()).encode())
        for i, each in enumerate(planted)
    ]
