"""The published prompts on which the two models can be compared.

Both models must have a map of the prompt, and the instruction must be found among the prompt's pieces.
"""

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
class ComparablePrompt:
    """A prompt with the map of each model.

    dataset: the name of its prompt set. maps, instruction: by 'base' and 'tuned'. instruction holds instruction_P:
    whether each prompt piece is part of the instruction (bool). rating: of the tuned model's response, -1 or 1 to 4
    (ratings/scale.py); None where it is not rated.
    """

    dataset: str
    prompt: Prompt
    maps: Mapping[str, Map]
    instruction: Mapping[str, Tensor]
    rating: int | None


def comparable_prompts(published: Published) -> tuple[list[ComparablePrompt], pd.DataFrame]:
    """(prompts that can be compared, in the order of prompts.jsonl; a table of what does not align).

    A prompt is left out for both models where a model has no map of it, where a model's pieces do not spell a span of
    its instruction (UNSPELLED), or where a model has no piece of the instruction.
    The table has the columns COLUMNS and for each model a row for each span without a piece, for a missing map and for
    a prompt without an instruction span. start, stop and text are empty where the row is not about a span. A prompt
    in the table is not always left out; its column 'prompt left out' says whether it is.
    """
    usable, problems = [], []
    for name, prompt in published.prompts.items():
        maps, masks = dict[str, Map](), dict[str, Tensor]()
        found: list[tuple[str, int | None, int | None, str | None, str]] = []
        for model, source in zip(MODELS, (published.base, published.tuned), strict=True):
            map_of_prompt = published.maps[source].get(name)
            if map_of_prompt is None:
                found.append((model, None, None, None, "the model has no map of it"))
                continue
            maps[model] = map_of_prompt
            masks[model], unaligned = align(map_of_prompt.prompt_pieces, prompt.text, prompt.instruction_spans)
            found += [(model, *each.span, each.text, each.reason) for each in unaligned]
            if not prompt.instruction_spans:
                found.append((model, None, None, None, "it has no instruction span"))
        left_out = len(maps) < len(MODELS) or not all(bool(mask_P.any()) for mask_P in masks.values())
        left_out |= any(reason == UNSPELLED for *_, reason in found)
        problems += [(published.dataset[name], name, *each, left_out) for each in found]
        if not left_out:
            rating = published.rating.get(name)
            usable.append(ComparablePrompt(published.dataset[name], prompt, maps, masks, rating))
    table = pd.DataFrame(problems, columns=list(COLUMNS))
    return usable, table.astype({"start": "Int64", "stop": "Int64"})
