"""Computes the paper's tables from a folder of published explanations; writes tables.json, CSV tables and a report."""

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
from shiftbench.published import figures
from shiftbench.published.comparable_prompts import MODELS, ComparablePrompt, comparable_prompts
from shiftbench.published.comparison import ALPHA, CLAIMS, Comparison, compare
from shiftbench.published.folder import Published, map_file, read, short_name
from shiftbench.published.results import result, saliency
from shiftbench.published.scores import FEWEST_PIECES, Metric, prompt_scores
from shiftbench.published.tables import Names, document
from shiftbench.readers import file_bytes
from shiftbench.report import RunSummary, write_report, write_tables
from shiftbench.results import results_folder
from shiftbench.results.writing import check_folder, full_disk

WRITTEN = ("tables.json", "report.html", "tables", "figures")  # everything that `reproduce` writes to its folder
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reproduction:
    """What `reproduce` computed and wrote.

    summary: what the report shows. tables, report: the paths of tables.json and of report.html.
    """

    summary: RunSummary
    tables: Path
    report: Path


def reproduce(folder: Path, out: Path) -> Reproduction:
    """Compute the paper's two tables from the folder; write tables.json, tables/, figures/ and report.html into out.

    folder: published explanations, as published/folder.py describes them. The cutoff, the norm and the intervals are
    those of conf/finding/instruction_recognition.yaml. Where out holds earlier results, and not a tables.json of
    exactly the new content, they are first moved to a folder under out/earlier, and a warning is logged; where its
    tables.json has that content, they are replaced.
    Raises InputError before anything is computed where the folder cannot be used, no prompt can be compared, or out
    cannot be written. Raises Unwritable where out cannot be written later, as on a full disk.
    """
    published = read(folder)
    finding: InstructionRecognition = instantiate(
        composition.packaged("finding/instruction_recognition"), _convert_="all"
    )
    prompts, unaligned = comparable_prompts(published)
    if not prompts:
        raise InputError(f"path={folder}: no prompt can be compared: {unaligned['reason'].value_counts().to_dict()}")
    check_folder(out)
    metric = Metric(finding.cutoff, finding.p)
    rows = prompt_scores(prompts, metric)
    comparisons = [comparison for claim in CLAIMS for comparison in compare(rows, claim)]
    results = _results(published, prompts, rows, comparisons, unaligned, finding)
    summary = _summary(folder, published, results, _notes(published, prompts, rows, unaligned, metric))
    tables = document(rows, comparisons, _names(published))
    tables["unaligned"] = json.loads(unaligned.to_json(orient="records"))
    text = json.dumps(tables, indent=1, sort_keys=True, allow_nan=False) + "\n"
    with full_disk(out), results_folder.writing(out) as part:
        (part / "tables.json").write_text(text, encoding="utf-8")
        write_tables(results, part)
        write_report(summary, part)
        moved = results_folder.put(part, out, WRITTEN, same=_has_content(out / "tables.json", text))
    if moved is not None:
        log.warning("%s held other results; they were moved to %s", out, moved)
    return Reproduction(summary, out / "tables.json", out / "report.html")


def _has_content(path: Path, text: str) -> bool:
    """Whether the file holds exactly this text as UTF-8; false where it is missing or cannot be read."""
    try:
        return file_bytes(path, str(path)) == text.encode()
    except (OSError, InputError):
        return False


def _results(
    published: Published,
    prompts: list[ComparablePrompt],
    rows: pd.DataFrame,
    comparisons: list[Comparison],
    unaligned: pd.DataFrame,
    finding: InstructionRecognition,
) -> list[Result]:
    """One result for each claim, that is, for Table 1 and for Table 2.

    The result for Table 2 also has what is not about one of the claims: the figures `by_length` and `by_cut`, the table
    of all prompts, the table of what does not align, and the tokens of some prompts.
    """
    bootstrap, names = finding.bootstrap, _names(published)
    first, second = ([comparison for comparison in comparisons if comparison.claim == claim] for claim in CLAIMS)
    by_length = figures.by_length(rows, bootstrap)
    by_cut = figures.by_cut(prompts, Metric(finding.cutoff, finding.p), bootstrap)
    tables = {"prompts": rows, "unaligned": unaligned}
    return [
        result(first, names, bootstrap, {}),
        result(second, names, bootstrap, tables, [by_length, by_cut], saliency(prompts, finding)),
    ]


def _names(published: Published) -> Names:
    """The models' names in tables.json: without their sizes, unless the two names would be equal."""
    short = {"base": short_name(published.base), "tuned": short_name(published.tuned)}
    return short if short["base"] != short["tuned"] else {"base": published.base, "tuned": published.tuned}


def _summary(folder: Path, published: Published, results: list[Result], notes: list[str]) -> RunSummary:
    """What the report shows.

    Its "pair" has the models' names, the number of published prompts in each set, those that are left out included, and
    the SHA-256 of the two files of maps.
    """
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
    published: Published, prompts: list[ComparablePrompt], rows: pd.DataFrame, unaligned: pd.DataFrame, metric: Metric
) -> list[str]:
    """The report's notes: how p is meant, how many prompts are left out, how scores are rounded, and `span_notes`."""
    spans = sum(len(prompt.instruction_spans) for prompt in published.prompts.values())
    left_out = unaligned.loc[unaligned["prompt left out"].astype(bool), "prompt"].nunique()
    difference = max(
        abs(metric.score_in_double(prompt.maps[model].level_PR, prompt.instruction[model]) - float(score))
        for model in MODELS
        for prompt, score in zip(prompts, rows[f"{model}_whole"], strict=True)
    )
    unrated, excluded = int(rows["rating"].isna().sum()), int((rows["rating"] == -1).sum())
    return [
        "The paper's printed numbers are not among the published files. Therefore the report checks only the "
        "direction of each claim.",
        f"p is that of the paper's one-sided Welch test. A claim holds where p is below {ALPHA}, and it is reversed "
        f"where p is above {1 - ALPHA}.",
        f"The {spans} instruction spans are aligned with the pieces of each of the two models. "
        f"{unaligned['start'].notna().sum()} of these alignments have no piece; {left_out} of {len(published.prompts)} "
        "prompts are left out. The table 'Unaligned' below Table 2 has the reasons.",
        f"Table 1 and the versions with length control use responses of at least {FEWEST_PIECES} pieces. Table 1 "
        f"leaves out {unrated} prompts without a rating and {excluded} prompts that are rated as excluded.",
        "Scores are rounded to float32 at every step, as in the published code. Scores computed in float64 differ by "
        f"at most {difference:.1e}.",
        *span_notes(list(published.prompts.values())),
    ]
