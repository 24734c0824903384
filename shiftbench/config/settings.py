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

# Options of explain/attribution on which results depend with some values of `method` only, and these values. `draws`
# and `seed` also count where mask=resample is used. Options that no value uses are left out of the settings.
USED_BY = {
    "steps": ("integrated_gradients",),
    "tolerance": ("integrated_gradients",),
    "mask": ("integrated_gradients", "occlusion"),
    "noise": ("smooth_gradients",),
    "draws": ("smooth_gradients",),
    "seed": ("smooth_gradients",),
}


def decisive(findings: DictConfig | dict[str, Any]) -> dict[str, Any]:
    """The options of each finding, by its name in the configuration, without those that no result depends on.

    The path of ratings is replaced by a digest of the file, and a class that has moved is named by its path before the
    move. Options of attribution that its method does not use are left out, and so are those with the value that they
    had before they existed: grad_x_input, zero, no tolerance. So equal options have equal digests. `findings` itself is
    not changed.
    """
    plain: Any = OmegaConf.to_container(findings, resolve=True) if OmegaConf.is_config(findings) else findings
    plain = with_recorded_targets(copy.deepcopy(plain))
    for finding in plain.values():
        explain = finding.get("explain", {})
        explain.pop("memory", None)
        if "method" in explain:
            _drop_unused(explain)
        ratings = finding.get("ratings", {})
        if "path" in ratings:
            ratings["path"] = _file_digest(str(ratings["path"]))
        for option in CHAT_OPTIONS:
            for options in (explain.get("annotator", {}), ratings):
                options.pop(option, None)
    return dict(plain)


def _drop_unused(explain: dict[str, Any]) -> None:
    """Take out of the options of an attribution those that its method does not use, or that say what was always so."""
    method, _, own_mask = str(explain["method"]).partition(":")
    if own_mask:  # it takes the place of the option `mask`
        explain.pop("mask", None)
    drawn = (own_mask or explain.get("mask")) == "resample" and method in USED_BY["mask"]
    for option, methods in USED_BY.items():
        if method not in methods and not (drawn and option in ("draws", "seed")):
            explain.pop(option, None)
    for option, always in (("method", "grad_x_input"), ("mask", "zero"), ("tolerance", None)):
        if option in explain and explain[option] == always:
            del explain[option]


def _file_digest(path: str) -> str:
    """sha256 (hex) of a file's content, because results depend on the content and not on the path.

    Where the file cannot be read, the path itself is returned: the code that needs the content refuses it with the
    reason.
    """
    try:
        return hashlib.sha256(file_bytes(path_of(path, "path"), path)).hexdigest()
    except (OSError, InputError):
        return path
