"""Reads a folder of published explanations: the maps of two models, the prompts, and ratings of the responses.

    attribution_NAME.npz   one file for each of the two models (format: published/maps.py)
    prompts.jsonl          each line {"id", "dataset", "prompt", "instruction": [[start, stop], ...]}
    ratings.jsonl          each line {"id", "model", "rating"}: -1 excluded, 1 unfollowed, 2..4 followed

The model whose responses ratings.jsonl rates is the tuned one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shiftbench.errors import InputError
from shiftbench.prompts import Prompt
from shiftbench.prompts.datasets.jsonl import parse, text_field
from shiftbench.published.maps import Map, read_maps
from shiftbench.ratings.scale import rating
from shiftbench.readers import json_value, reading
from shiftbench.readers.text_files import json_rows

PREFIX, SUFFIX = "attribution_", ".npz"
PICKLES = (".pkl", ".pickle", ".pt", ".pth", ".joblib")


@dataclass(frozen=True)
class Published:
    """The content of a folder of published explanations.

    base, tuned: the models' names, as in the names of their files. dataset, prompts, rating: by prompt id. dataset
    holds the names of prompt sets. rating holds the ratings of the tuned model's responses, -1 or 1 to 4; a prompt
    whose response is not rated is absent. maps: by model name, then by prompt id; a model need not have a map of every
    prompt.
    """

    base: str
    tuned: str
    dataset: Mapping[str, str]
    prompts: Mapping[str, Prompt]
    maps: Mapping[str, Mapping[str, Map]]
    rating: Mapping[str, int]


def read(folder: Path) -> Published:
    """The content of a folder of published explanations.

    Raises InputError where a file is missing or wrong, where a map or a rating is of an id that prompts.jsonl does not
    have, and where ratings.jsonl rates responses of more than one model, or of a model without a file of maps.
    """
    paths = _map_files(folder)
    dataset: dict[str, str] = {}
    prompts: dict[str, Prompt] = {}
    for row, prompt in json_rows(str(folder / "prompts.jsonl"), "path", _prompt):
        dataset[prompt.id], prompts[prompt.id] = row["dataset"], prompt
    rows = [
        row for row, _ in json_rows(str(folder / "ratings.jsonl"), "path", lambda line: (_rating(line, prompts), None))
    ]
    tuned = _tuned(folder, {row["model"] for row in rows}, paths)
    (base,) = (name for name in paths if name != tuned)
    maps = {name: read_maps(path) for name, path in paths.items()}
    for name, found in maps.items():
        if unknown := next((each for each in found if each not in prompts), None):
            raise InputError(f"{paths[name]}: map {unknown!r} has no prompt in {folder / 'prompts.jsonl'}")
    return Published(base, tuned, dataset, prompts, maps, {row["id"]: row["rating"] for row in rows})


def map_file(folder: Path, model: str) -> Path:
    """The path of the file with a model's maps, folder/attribution_MODEL.npz. The file need not exist."""
    return folder / f"{PREFIX}{model}{SUFFIX}"


def short_name(model: str) -> str:
    """A model's name without a size at its end, such as '_7b' or '-350M'; 'vicuna_7b' becomes 'vicuna'."""
    return re.sub(r"[_-]\d+(\.\d+)?[bm]$", "", model, flags=re.IGNORECASE)


def _map_files(folder: Path) -> dict[str, Path]:
    """The paths of the two files of maps, by model name.

    Raises InputError where the folder is missing or cannot be read, where it does not hold exactly two such files, and
    where the name of one is not UTF-8.
    """
    if not folder.is_dir():
        raise InputError(f"path={folder}: there is no such folder")
    with reading(f"path={folder}: cannot read the folder"):
        names = sorted(item.name for item in folder.iterdir())
    found = [name for name in names if name.startswith(PREFIX) and name.endswith(SUFFIX)]
    if len(found) != 2:
        pickled = [name for name in names if name.endswith(PICKLES)]
        held = f"{len(found)} of them" if names else "nothing at all"
        more = f"; {pickled[0]} is a pickle, which is never loaded: publish its numbers as .npz" if pickled else ""
        raise InputError(
            f"path={folder}: wanted two files {PREFIX}NAME{SUFFIX}, one for each model, but it holds {held}{more}"
        )
    for name in found:
        if any(
            "\ud800" <= character <= "\udfff" for character in name
        ):  # Python decodes bytes of a file name that are not UTF-8 to these characters
            raise InputError(f"path={folder}: the file name {name!r} is not UTF-8; rename the file")
    return {name[len(PREFIX) : -len(SUFFIX)]: folder / name for name in found}


def _prompt(line: str) -> tuple[dict[str, Any], Prompt]:
    prompt = parse(line)
    row = json_value(line)
    if not isinstance(row.get("dataset"), str) or not row["dataset"]:
        raise InputError("field 'dataset' must name the prompt set")
    return {**row, "dataset": text_field(row, "dataset")}, prompt


def _rating(line: str, prompts: Mapping[str, Prompt]) -> dict[str, Any]:
    row = rating(line)
    if row["id"] not in prompts:
        raise InputError(f"no prompt has the id {row['id']!r}")
    return row


def _tuned(folder: Path, rated: set[str], paths: Mapping[str, Path]) -> str:
    """The name of the tuned model: the one whose responses are rated.

    rated: the names of all models in ratings.jsonl. paths: as `_map_files` gives them. Raises InputError where `rated`
    is not exactly one of the two models.
    """
    if len(rated) != 1 or not rated <= set(paths):
        raise InputError(
            f"{folder / 'ratings.jsonl'}: must rate the responses of one model, the tuned one, of {', '.join(paths)}; "
            f"got {', '.join(sorted(rated))}"
        )
    (name,) = rated
    return name
