"""Explanation: what one method found in one model, and how it was made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Unit:
    """The smallest part of an explanation that is stored: one prompt, or one layer.

    arrays: named tensors, CPU, named with their shape suffix. words: named lists of strings.
    """

    arrays: Mapping[str, Tensor]
    words: Mapping[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Explanation:
    """Units of one method on one model (or one pair), in order, and the record of how they were made.

    record: JSON-able; method, version, options, weight and tokenizer digests, dtype.
    keys: the store key of each unit.
    """

    units: Mapping[str, Unit]
    record: Mapping[str, Any]
    keys: Mapping[str, str]


def content_key(content: Mapping[str, Any]) -> str:
    """sha256 (hex) of canonical JSON: the name under which a unit is stored (shiftbench/store/store.py).

    content holds what the unit is computed from and nothing else: never a path, a time or a device.
    """
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode("utf-8", errors="surrogatepass")).hexdigest()
