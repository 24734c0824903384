"""The part of a configuration that decides results: what `settings` in scores.json is a digest of."""

from __future__ import annotations

import copy
import hashlib
from typing import Any

from omegaconf import DictConfig, OmegaConf

from shiftbench.config.targets import with_recorded_targets
from shiftbench.errors import InputError
from shiftbench.readers import file_bytes, path_of

# Where and how a job runs changes no result; the annotator stands with its finding.
ELSEWHERE = ("out", "tracking", "store", "device", "gpus", "dry_run", "annotate")
ASKING = ("concurrency", "retries", "timeout", "budget", "store")  # how an annotator asks changes no answer


def decisive(findings: DictConfig | dict[str, Any]) -> dict[str, Any]:
    """The findings' options, less those that change no result but only how it is come by."""
    plain: Any = OmegaConf.to_container(findings, resolve=True) if OmegaConf.is_config(findings) else findings
    plain = with_recorded_targets(copy.deepcopy(plain))
    for finding in plain.values():
        explain = finding.get("explain", {})
        explain.pop("memory", None)
        if explain.get("method", "integrated_gradients") != "integrated_gradients":
            explain.pop("steps", None)  # of no other attribution
        if explain.get("method") == "grad_x_input":
            explain.pop("method")  # runs from before there was a choice have the same settings
        ratings = finding.get("ratings", {})
        if "path" in ratings:
            ratings["path"] = _content(str(ratings["path"]))
        for option in ASKING:
            for asks in (explain.get("annotator", {}), ratings):
                asks.pop(option, None)
    return dict(plain)


def _content(path: str) -> str:
    """sha256 (hex) of a file: what it says decides, and not where it lies."""
    try:
        return hashlib.sha256(file_bytes(path_of(path, "path"), path)).hexdigest()
    except (OSError, InputError):  # whoever reads the file for its content says what is wrong with it
        return path
