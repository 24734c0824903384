"""The reference of every option, from conf/ itself: its comments are the explanations."""

from __future__ import annotations

import re
from pathlib import Path

# What each group decides; a group without a line here is an error, so that none is forgotten.
GROUPS = {
    "pair": "Which two models. `pair=NAME`, or `pair=local pair.base=PATH pair.tuned=PATH`.",
    "model": "How a model is loaded: `pair.base_model.KEY=...`, `pair.tuned_model.KEY=...`.",
    "dataset": "Which prompts. `dataset=NAME`.",
    "suite": "Which findings, at which size, and in a sweep over which pairs. `suite=NAME`.",
    "finding": "The findings and their options: `findings.NAME.KEY=...`.",
    "explain": "How models are explained: `findings.NAME.explain.KEY=...`.",
    "annotate": "Who names concepts. `annotate=NAME`.",
    "ratings": "Who says whether responses follow. `ratings@findings.followed_instructions.ratings=NAME`.",
    "control": "Null models beside the tuned one. `control=NAME`.",
    "vocabulary": "Which words are looked at. `vocabulary=NAME`.",
    "vectors": "Static word vectors. `vectors=NAME`.",
    "tracking": "Where runs are recorded. `tracking=NAME`.",
    "gate": "What a pair must keep. `shiftbench gate gate=NAME`.",
    "hydra": "How the jobs of a sweep are started.",
}
NO_COMMAND = ("config", "demo_train")


def page(conf: Path) -> str:
    """Markdown of all files in conf, the options of `score` first, then the other commands', then the groups."""
    commands = sorted(path.stem for path in conf.glob("*.yaml") if path.stem not in NO_COMMAND)
    groups = [path.name for path in conf.iterdir() if path.is_dir() and any(path.rglob("*.yaml"))]
    order = list(GROUPS)
    parts = [
        "# Configuration",
        "Every option is written `key=value` behind a command. This page is made from the files in `conf/`; "
        "`shiftbench COMMAND --help` shows a command's part of them.",
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
    """Pairs as one table, since their files differ in names alone; other files whole."""
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
    return f"```yaml\n{path.read_text(encoding='utf-8').strip()}\n```"
