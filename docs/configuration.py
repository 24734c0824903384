"""Writes the page that lists every option: the files of conf/ as they are, whose comments explain the options."""

from __future__ import annotations

import re
from pathlib import Path

# What each group of conf/ decides. A group that is missing here is an error, so that none is forgotten.
GROUPS = {
    "pair": "Which two models. `pair=NAME`, or `pair=local pair.base=PATH pair.tuned=PATH`.",
    "model": "How a model is loaded. `pair.base_model.KEY=...`, `pair.tuned_model.KEY=...`.",
    "dataset": "Which prompts. `dataset=NAME`.",
    "suite": "Which findings are scored, at which size, and in a sweep on which pairs. `suite=NAME`.",
    "finding": "The findings and their options. `findings.NAME.KEY=...`.",
    "explain": "How models are explained. `findings.NAME.explain.KEY=...`.",
    "annotate": "What labels concepts. `annotate=NAME`.",
    "ratings": "Where ratings of responses come from. `ratings@findings.followed_instructions.ratings=NAME`.",
    "control": "Which null models are scored beside the tuned one. `control=NAME`.",
    "vocabulary": "Which words are used. `vocabulary=NAME`.",
    "vectors": "Which static word vectors are used. `vectors=NAME`.",
    "tracking": "Where runs are recorded. `tracking=NAME`.",
    "gate": "Which rules a pair must satisfy. `shiftbench gate gate=NAME`.",
    "hydra": "How the jobs of a sweep are started.",
}
NOT_A_COMMAND = ("config", "demo_train", "demo_tune")


def page(conf: Path) -> str:
    """Markdown of all files in conf: the options of `score`, then those of the other commands, then the groups."""
    commands = sorted(path.stem for path in conf.glob("*.yaml") if path.stem not in NOT_A_COMMAND)
    groups = [path.name for path in conf.iterdir() if path.is_dir() and any(path.rglob("*.yaml"))]
    order = list(GROUPS)
    parts = [
        "# Configuration",
        "Every option is given after the command as `key=value`. This page is generated from the files in `conf/`. "
        "`shiftbench COMMAND --help` shows the options of one command.",
        "## shiftbench score",
        _file(conf / "config.yaml"),
    ]
    for command in commands:
        parts += [f"## shiftbench {command.replace('_', ' ')}", _file(conf / f"{command}.yaml")]
    for group in sorted(groups, key=order.index):
        files = sorted((conf / group).rglob("*.yaml"))
        parts += [f"## {group}", GROUPS[group], *_members(conf / group, files)]
    return "\n\n".join(parts) + "\n"


def _members(folder: Path, files: list[Path]) -> list[str]:
    """Markdown of a group's files. Pairs are one table, because their files differ only in names."""
    if folder.name != "pair":
        return [f"### {file.relative_to(folder).with_suffix('')}\n\n{_file(file)}" for file in files]
    keys = ("name", "base", "tuned")
    rows = []
    for file in files:
        text = file.read_text(encoding="utf-8")
        cells = [re.findall(rf"^{key}: (.*)$", text, re.MULTILINE)[0] for key in keys]
        remark = " ".join(line.lstrip("# ") for line in text.splitlines() if line.startswith("#"))
        rows.append(f"| `{file.stem}` | `{cells[1]}` | `{cells[2]}` | {remark} |")
    return ["| pair | base | tuned | |\n|---|---|---|---|\n" + "\n".join(rows)]


def _file(path: Path) -> str:
    """Markdown of one file, as a block of YAML."""
    return f"```yaml\n{path.read_text(encoding='utf-8').strip()}\n```"
