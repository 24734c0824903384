"""What `--help` prints of a command: its options, their defaults and their comments in conf/."""

from __future__ import annotations

from importlib import resources

from shiftbench.config.composition import CONFIG_MODULE, groups


def help_text() -> str:
    """What `shiftbench score` can be told: the groups, and the options with their defaults and reasons."""
    text = (resources.files(CONFIG_MODULE) / "config.yaml").read_text(encoding="utf-8")
    options = text[text.index("out: null") : text.index("bootstrap:")].rstrip()
    choices = groups()
    lines = [
        f"  {name}={'|'.join(choices[name])}"
        for name in ("pair", "dataset", "vocabulary", "vectors", "annotate", "control", "tracking", "suite")
    ]
    return "\n".join(
        [
            "shiftbench score pair=NAME [option=value ...]",
            "",
            "Choose (pair=local takes pair.base=PATH pair.tuned=PATH, dataset=jsonl takes dataset.path=FILE):",
            *lines,
            "",
            "Options, with their defaults (nested ones as response.max_new_tokens=64):",
            *("  " + line for line in options.splitlines()),
            "",
            "Any value of a finding can be set too: findings.instruction_recognition.cutoff=5",
        ]
    )


def options_help(usage: str, name: str) -> str:
    """What a command can be told: its usage line and the options in its own configuration, conf/NAME.yaml."""
    text = (resources.files(CONFIG_MODULE) / f"{name}.yaml").read_text(encoding="utf-8")
    return f"{usage}\n\nOptions, with their defaults:\n{text}".rstrip()
