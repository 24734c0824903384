"""Explanation: what one method found in one model or one pair, and the record of how it was computed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Unit:
    """The smallest part of an explanation that is stored: what was found for one prompt, or in one layer.

    arrays: name with shape suffix -> CPU tensor. words: name -> list of strings.
    """

    arrays: Mapping[str, Tensor]
    words: Mapping[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Explanation:
    """The units of one method on one model or one pair, and the record of how they were computed.

    units: name -> unit, in the order of the work. record: what the first unit was computed from (`Work.content`),
    JSON-able: method, version, options, digests of weights and tokenizer, dtype; empty without units. keys: name -> the
    key that a unit has in the store, whether or not it is stored.
    """

    units: Mapping[str, Unit]
    record: Mapping[str, Any]
    keys: Mapping[str, str]


def content_key(content: Mapping[str, Any]) -> str:
    """sha256 (hex) of `content` as canonical JSON: sorted keys, no spaces. The key of a unit is such a digest.

    content: for a unit, everything that its numbers depend on, and nothing else: no path, no time, no device. Raises
    ValueError where it holds a NaN or an infinity.
    """
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode("utf-8", errors="surrogatepass")).hexdigest()
