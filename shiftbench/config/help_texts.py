"""The texts that `--help` prints: a command's usage, and its options with their defaults and comments from conf/."""

from __future__ import annotations

from importlib import resources

from shiftbench.config.composition import CONFIG_MODULE, groups


def help_text() -> str:
    """The help of `shiftbench score`: the main config groups with their members, and most options of conf/config.yaml.

    The options are shown as they stand in the file, with defaults and comments. Those of findings are left out.
    """
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
            "Choices (pair=local needs pair.base=PATH and pair.tuned=PATH too, dataset=jsonl needs dataset.path=FILE):",
            *lines,
            "",
            "Options, with their defaults (write a nested option with dots: response.max_new_tokens=64):",
            *("  " + line for line in options.splitlines()),
            "",
            "Every option of a finding can be set too, for example findings.instruction_recognition.cutoff=5",
        ]
    )


def options_help(usage: str, name: str) -> str:
    """The help of another command: its usage line, and the options in its own configuration, conf/NAME.yaml."""
    text = (resources.files(CONFIG_MODULE) / f"{name}.yaml").read_text(encoding="utf-8")
    return f"{usage}\n\nOptions, with their defaults:\n{text}".rstrip()
