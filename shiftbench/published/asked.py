"""The prompts that can be compared: both models have a map of them, and their instruction is found among its pieces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd
from torch import Tensor

from shiftbench.prompts import Prompt
from shiftbench.published.alignment import UNSPELLED, align
from shiftbench.published.folder import Published
from shiftbench.published.maps import Map

MODELS = ("base", "tuned")
COLUMNS = ("dataset", "prompt", "model", "start", "stop", "text", "reason", "prompt left out")


@dataclass(frozen=True)
class Asked:
    """One prompt with each model's map and instruction_P, by 'base' and 'tuned'. rating: None where there is none."""

    dataset: str
    prompt: Prompt
    maps: Mapping[str, Map]
    instruction: Mapping[str, Tensor]
    rating: int | None


def asked(published: Published) -> tuple[list[Asked], pd.DataFrame]:
    """(prompts that can be compared, in their file's order; what does not align, a row a span or a missing map).

    A prompt is left out for both models where one lacks its map, a span of its instruction is not spelled by the
    pieces, or no piece of it is left.
    """
    usable, problems = [], []
    for name, prompt in published.prompts.items():
        maps, masks = dict[str, Map](), dict[str, Tensor]()
        found: list[tuple[str, int | None, int | None, str | None, str]] = []
        for model, source in zip(MODELS, (published.base, published.tuned), strict=True):
            mine = published.maps[source].get(name)
            if mine is None:
                found.append((model, None, None, None, "the model has no map of it"))
                continue
            maps[model] = mine
            masks[model], unaligned = align(mine.prompt_pieces, prompt.text, prompt.instruction_spans)
            found += [(model, *each.span, each.text, each.reason) for each in unaligned]
            if not prompt.instruction_spans:
                found.append((model, None, None, None, "it has no instruction span"))
        left_out = len(maps) < len(MODELS) or not all(bool(mask_P.any()) for mask_P in masks.values())
        left_out |= any(reason == UNSPELLED for *_, reason in found)
        problems += [(published.dataset[name], name, *each, left_out) for each in found]
        if not left_out:
            usable.append(Asked(published.dataset[name], prompt, maps, masks, published.rating.get(name)))
    table = pd.DataFrame(problems, columns=list(COLUMNS))
    return usable, table.astype({"start": "Int64", "stop": "Int64"})
