"""From a folder of published explanations to tables.json, CSV tables and a report."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pandas as pd
from hydra.utils import instantiate

import shiftbench
from shiftbench.config import composition
from shiftbench.contracts.result import Result
from shiftbench.errors import InputError
from shiftbench.findings.instruction_recognition import InstructionRecognition
from shiftbench.prompts.spans import span_notes
from shiftbench.published import pictures
from shiftbench.published.asked import MODELS, Asked, asked
from shiftbench.published.comparison import ALPHA, CLAIMS, Comparison, compare
from shiftbench.published.folder import Published, map_file, read, short_name
from shiftbench.published.results import result, saliency
from shiftbench.published.scores import SHORTEST, Metric, prompt_scores
from shiftbench.published.tables import Names, document
from shiftbench.readers import file_bytes
from shiftbench.report import RunSummary, write_report, write_tables
from shiftbench.results import results_folder
from shiftbench.results.writing import check_folder, full_disk

WRITTEN = ("tables.json", "report.html", "tables", "figures")  # all that a reproduction leaves in its folder
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reproduction:
    """What a folder gave, and where it was written."""

    summary: RunSummary
    tables: Path
    report: Path


def reproduce(folder: Path, out: Path) -> Reproduction:
    """Read a folder, recompute both tables, write tables.json, tables/*.csv, figures/ and report.html into out.

    The cutoff, the norm and the intervals are those of conf/finding/instruction_recognition.yaml. Raises InputError
    where the folder cannot be used or out cannot be written, before anything is computed.
    """
    published = read(folder)
    finding: InstructionRecognition = instantiate(
        composition.packaged("finding/instruction_recognition"), _convert_="all"
    )
    prompts, unaligned = asked(published)
    if not prompts:
        raise InputError(f"path={folder}: no prompt can be compared: {unaligned['reason'].value_counts().to_dict()}")
    check_folder(out)
    metric = Metric(finding.cutoff, finding.p)
    rows = prompt_scores(prompts, metric)
    comparisons = [one for claim in CLAIMS for one in compare(rows, claim)]
    results = _results(published, prompts, rows, comparisons, unaligned, finding)
    summary = _summary(folder, published, results, _notes(published, prompts, rows, unaligned, metric))
    tables = document(rows, comparisons, _names(published))
    tables["unaligned"] = json.loads(unaligned.to_json(orient="records"))
    text = json.dumps(tables, indent=1, sort_keys=True, allow_nan=False) + "\n"
    with full_disk(out), results_folder.writing(out) as part:
        (part / "tables.json").write_text(text, encoding="utf-8")
        write_tables(results, part)
        write_report(summary, part)
        moved = results_folder.put(part, out, WRITTEN, same=_is(out / "tables.json", text))
    if moved is not None:
        log.warning("%s held other results; they were moved to %s", out, moved)
    return Reproduction(summary, out / "tables.json", out / "report.html")


def _is(path: Path, text: str) -> bool:
    try:
        return file_bytes(path, str(path)) == text.encode()
    except (OSError, InputError):
        return False


def _results(
    published: Published,
    prompts: list[Asked],
    rows: pd.DataFrame,
    comparisons: list[Comparison],
    unaligned: pd.DataFrame,
    finding: InstructionRecognition,
) -> list[Result]:
    """A result a claim; the pictures by length, the prompts and what does not align stand under the last."""
    bootstrap, names = finding.bootstrap, _names(published)
    first, second = ([one for one in comparisons if one.claim == claim] for claim in CLAIMS)
    by_length = pictures.by_length(rows, bootstrap)
    by_cut = pictures.by_cut(prompts, Metric(finding.cutoff, finding.p), bootstrap)
    tables = {"prompts": rows, "unaligned": unaligned}
    return [
        result(first, names, bootstrap, {}),
        result(second, names, bootstrap, tables, [by_length, by_cut], saliency(prompts, finding)),
    ]


def _names(published: Published) -> Names:
    """What tables.json calls the models: without their sizes, where that tells them apart."""
    short = {"base": short_name(published.base), "tuned": short_name(published.tuned)}
    apart = short["base"] != short["tuned"]
    return short if apart else {"base": published.base, "tuned": published.tuned}


def _summary(folder: Path, published: Published, results: list[Result], notes: list[str]) -> RunSummary:
    sets = pd.Series(list(published.dataset.values())).value_counts().sort_index().to_dict()
    pair = {
        "name": folder.resolve().name,
        "base": published.base,
        "tuned": published.tuned,
        "prompts": {str(name): int(count) for name, count in sets.items()},
        "maps": {
            model: hashlib.sha256(map_file(folder, name).read_bytes()).hexdigest()
            for model, name in zip(MODELS, (published.base, published.tuned), strict=True)
        },
    }
    versions = {
        "shiftbench": shiftbench.__version__,
        f"finding.{InstructionRecognition.name}": str(InstructionRecognition.version),
        **{name: version(name) for name in ("numpy", "scipy")},
    }
    return RunSummary(pair, versions, results, notes, f"path: {folder}\n")


def _notes(
    published: Published, prompts: list[Asked], rows: pd.DataFrame, unaligned: pd.DataFrame, metric: Metric
) -> list[str]:
    spans = sum(len(prompt.instruction_spans) for prompt in published.prompts.values())
    left_out = unaligned.loc[unaligned["prompt left out"].astype(bool), "prompt"].nunique()
    difference = max(
        abs(metric.score_in_double(one.maps[model].level_PR, one.instruction[model]) - float(score))
        for model in MODELS
        for one, score in zip(prompts, rows[f"{model}_whole"], strict=True)
    )
    unrated, excluded = int(rows["rating"].isna().sum()), int((rows["rating"] == -1).sum())
    return [
        "The paper's printed figures are not among the published files, so its claims stand here by their direction.",
        f"p is the paper's one-sided Welch test; a claim holds where it is below {ALPHA}, and is reversed where it is "
        f"above {1 - ALPHA}.",
        f"Of {spans} instruction spans, read by each of two models, {unaligned['start'].notna().sum()} reach no piece; "
        f"{left_out} of {len(published.prompts)} prompts are left out. Table 2's 'unaligned' lists why.",
        f"Table 1 and the versions with length control count responses of at least {SHORTEST} pieces. Table 1 lacks "
        f"{unrated} prompts without a rating and {excluded} rated as excluded.",
        f"Scores are rounded to float32 at every step, as the published code does; in float64 they differ by at most "
        f"{difference:.1e}.",
        *span_notes(list(published.prompts.values())),
    ]
