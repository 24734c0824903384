"""The folders that results are written to, and their names."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

from shiftbench.errors import InputError
from shiftbench.readers import path_of, sampled_digest

RUNS = "shiftbench-runs"
NAME_PART = 80  # most characters of the last part of a model's path in the name of a folder


def out_folder(config: Any) -> Path:
    """The absolute path of `out`, or of ./shiftbench-runs where `out` is null.

    A sweep writes the results of each of its jobs to a folder below it.
    """
    return path_of(str(config.out or RUNS), "out").absolute()


def pair_folder(config: Any) -> Path:
    """The absolute path of the folder for a single job's results: `out`, or where it is null ./shiftbench-runs/PAIR.

    PAIR is pair_name.
    """
    root = out_folder(config)
    return root if config.out else root / pair_name(config.pair)


def pair_name(pair: Any) -> str:
    """The name of a pair's folder of results, as `file_name` gives it.

    It is the last part of the pair's name, or BASE-TUNED-DIGITS where the user gave no name. Without pair.name,
    pair=local is named by the tuned model's path. That path's last folder does not tell pairs apart: many paths end in
    `checkpoint-500`, for example. So BASE and TUNED are the last part of each model's path (or of its adapter's), cut
    to NAME_PART characters, and DIGITS are the first eight hexadecimal digits of a sha256. The sha256 covers for each
    model samples of the weights (readers.weights.sampled_digest) where they are in a folder or a file on this machine,
    else its path or hub id and its revision. The commit behind a revision is not used: it is known only after a request
    to the hub, and a sweep names all its jobs before any request.
    """
    if pair.name != pair.tuned:
        return file_name(Path(str(pair.name)).name)
    sides = [(str(pair[side]), pair.get(f"{side}_model") or {}) for side in ("base", "tuned")]
    names = [Path(str(options.get("adapter") or path).rstrip("/")).name[:NAME_PART] for path, options in sides]
    digits = hashlib.sha256(repr([weights_fingerprint(path, options) for path, options in sides]).encode()).hexdigest()
    return file_name("-".join([*names, digits[:8]]))


def weights_fingerprint(path: str, options: Any) -> list[str]:
    """Texts by which models with different weights can be told apart, found without loading the weights.

    path: the model's folder, hub id or folder of a GGUF file. options: those of the model (conf/model). The first text
    is for the model, the second, where there is an adapter, for the adapter. Each is a digest of samples of the
    weights, or the path and the model's revision where there are no weights at the path.
    """
    gguf, adapter = options.get("gguf_file"), options.get("adapter")
    files = [path if gguf is None else str(Path(path, str(gguf))), *([str(adapter)] if adapter else [])]
    found = []
    for file in files:
        try:
            found.append(sampled_digest(path_of(file, "pair")))
        except (OSError, InputError):  # a hub id, or a path without weights: `pipeline.checks` refuses the latter
            found.append(f"{file} {options.get('revision')}")
    return found


def file_name(text: str) -> str:
    """The text as a valid file name; 'pair' where nothing is left of it.

    Each run of characters other than letters, digits and _.,=+- becomes one underscore. Dots at both ends are removed.
    """
    return re.sub(r"[^\w.,=+-]+", "_", text).strip(".") or "pair"
