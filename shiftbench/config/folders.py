"""The folders and file names under which results are kept."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

from shiftbench.errors import InputError
from shiftbench.readers import path_of, sampled_digest

RUNS = "shiftbench-runs"
NAME_PART = 80  # characters of a model's name in the name of a folder


def out_folder(config: Any) -> Path:
    """The folder that the results of a sweep are under."""
    return path_of(str(config.out or RUNS), "out").absolute()


def pair_folder(config: Any) -> Path:
    """Where the results of one pair go that is no job of a sweep: `out`, or a folder of the pair's name."""
    root = out_folder(config)
    return root if config.out else root / pair_name(config.pair)


def pair_name(pair: Any) -> str:
    """What a folder of results is called after: the pair's name, or BASE-TUNED-DIGITS where nobody named it.

    pair=local takes the tuned model's path as its name, and `checkpoint-500` is the last folder of many paths. DIGITS
    are eight hexadecimal digits. Where both models' weights lie in folders on this machine, they are of samples of the
    weights (readers.weights.sampled_digest). Otherwise they are of the hub id and its revision: the commit behind a
    revision is not known before the hub answers, and a sweep composes all its jobs first.
    """
    if pair.name != pair.tuned:
        return file_name(Path(str(pair.name)).name)
    sides = [(str(pair[side]), pair.get(f"{side}_model") or {}) for side in ("base", "tuned")]
    called = [Path(str(options.get("adapter") or path).rstrip("/")).name[:NAME_PART] for path, options in sides]
    digits = hashlib.sha256(repr([_weights_of(path, options) for path, options in sides]).encode()).hexdigest()
    return file_name("-".join([*called, digits[:8]]))


def _weights_of(path: str, options: Any) -> list[str]:
    """What tells one model's weights from another's before they are loaded."""
    gguf, adapter = options.get("gguf_file"), options.get("adapter")
    files = [path if gguf is None else str(Path(path, str(gguf))), *([str(adapter)] if adapter else [])]
    found = []
    for file in files:
        try:
            found.append(sampled_digest(path_of(file, "pair")))
        except (OSError, InputError):  # a hub id; or nothing at all, and then `check` says so
            found.append(f"{file} {options.get('revision')}")
    return found


def file_name(text: str) -> str:
    """The text as the name of a file that is inside its folder on any system."""
    return re.sub(r"[^\w.,=+-]+", "_", text).strip(".") or "pair"
