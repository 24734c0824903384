"""The options of findings that results depend on; `settings` in scores.json is a digest of them."""

from __future__ import annotations

import copy
import hashlib
from typing import Any

from omegaconf import DictConfig, OmegaConf

from shiftbench.config.targets import with_recorded_targets
from shiftbench.errors import InputError
from shiftbench.readers import file_bytes, path_of

# Options of where and how a job runs: no result depends on them. `annotate` is here because each finding that uses the
# annotator holds its options too.
EXECUTION_OPTIONS = ("out", "tracking", "store", "device", "gpus", "dry_run", "verbose", "json", "annotate")
# Options of how requests to a chat model are sent: no answer depends on them.
CHAT_OPTIONS = ("concurrency", "retries", "timeout", "budget", "store")


def decisive(findings: DictConfig | dict[str, Any]) -> dict[str, Any]:
    """The options of each finding, by its name in the configuration, without those that no result depends on.

    The path of ratings is replaced by a digest of the file, a class that has moved is named by its path before the
    move, and explain.method is left out where it is grad_x_input, the default, so that equal options have equal
    digests. `findings` itself is not changed.
    """
    plain: Any = OmegaConf.to_container(findings, resolve=True) if OmegaConf.is_config(findings) else findings
    plain = with_recorded_targets(copy.deepcopy(plain))
    for finding in plain.values():
        explain = finding.get("explain", {})
        explain.pop("memory", None)
        if explain.get("method", "integrated_gradients") != "integrated_gradients":
            explain.pop("steps", None)  # only integrated gradients uses it
        if explain.get("method") == "grad_x_input":
            explain.pop("method")  # the default; runs recorded before this option existed must have the same digest
        ratings = finding.get("ratings", {})
        if "path" in ratings:
            ratings["path"] = _file_digest(str(ratings["path"]))
        for option in CHAT_OPTIONS:
            for options in (explain.get("annotator", {}), ratings):
                options.pop(option, None)
    return dict(plain)


def _file_digest(path: str) -> str:
    """sha256 (hex) of a file's content, because results depend on the content and not on the path.

    Where the file cannot be read, the path itself is returned: the code that needs the content refuses it with the
    reason.
    """
    try:
        return hashlib.sha256(file_bytes(path_of(path, "path"), path)).hexdigest()
    except (OSError, InputError):
        return path
