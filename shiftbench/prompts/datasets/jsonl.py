"""Prompts of a user's file, one JSON object on each line (docs/own_prompts.md)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from shiftbench.errors import InputError
from shiftbench.prompts import Prompt, Span
from shiftbench.prompts.datasets import evenly
from shiftbench.readers import json_value
from shiftbench.readers.text_files import user_lines

FORMAT = (
    '{"id": "a", "prompt": "...", "instruction": [[start, end]], "context": [[start, end]], "key": [[start, end]], '
    '"response": "...", "skill": "..."}'
)
SHOWN = 5  # the most bad lines that one message names


@dataclass(frozen=True)
class Jsonl:
    """The prompts of a file whose lines have the form FORMAT; context, key, response and skill may be null or left out.

    Blank lines are skipped. Spans are [start, end), in characters of the prompt. A response follows the prompt exactly
    as it is written, its leading space included. limit: how many prompts to take, spread evenly over the file; None for
    all. name: the data set's name in results.
    """

    path: str
    limit: int | None
    name: str = "jsonl"

    def __call__(self) -> list[Prompt]:
        """The prompts, in the file's order; `limit` of them as `evenly` chooses.

        Raises InputError where the file cannot be read, where a line is malformed or repeats an id, where the file
        holds no prompt, and as `evenly` does. A message on bad lines gives the numbers of the first SHOWN of them.
        """
        prompts: list[Prompt] = []
        first_line: dict[str, int] = {}
        bad: list[str] = []
        for number, line in enumerate(user_lines(self.path, "dataset.path"), start=1):
            if not line.strip():
                continue
            try:
                prompt = parse(line)
                if prompt.id in first_line:
                    raise InputError(f"id {prompt.id!r} is already that of line {first_line[prompt.id]}")
                first_line[prompt.id] = number
                prompts.append(prompt)
            except InputError as error:
                bad.append(f"line {number}: {error}")
        if bad:
            raise InputError(_message(self.path, bad))
        if not prompts:
            raise InputError(f"dataset.path={self.path}: the file holds no prompt; write one on each line as {FORMAT}")
        return evenly(prompts, self.limit)


def parse(line: str) -> Prompt:
    """The prompt of one line. Raises InputError that says what is wrong with the line."""
    row = json_value(line)
    if not isinstance(row, dict):
        raise InputError(f"not a JSON object but {type(row).__name__}")
    return Prompt(
        id=text_field(row, "id"),
        text=text_field(row, "prompt"),
        instruction_spans=_spans(row, "instruction"),
        context_spans=_spans(row, "context") if row.get("context") is not None else (),
        reference=text_field(row, "response") if row.get("response") is not None else None,
        key_spans=_spans(row, "key") if row.get("key") is not None else (),
        skill=text_field(row, "skill") if row.get("skill") is not None else None,
    )


def text_field(row: dict[str, Any], field: str) -> str:
    """The text of a row's field. Raises InputError where it is missing, no string, blank, or not encodable as UTF-8."""
    if field not in row:
        raise InputError(f"field {field!r} is missing")
    value = row[field]
    if not isinstance(value, str):
        raise InputError(f"field {field!r} must be a string, got {_shown(value)}")
    if not value.strip():
        raise InputError(f"field {field!r} is empty")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise InputError(f"field {field!r} holds half of a surrogate pair, which no tokenizer can encode")
    return value


def _spans(row: dict[str, Any], field: str) -> tuple[Span, ...]:
    if field not in row:
        raise InputError(f"field {field!r} is missing")
    value = row[field]
    if not isinstance(value, list) or not all(_is_span(item) for item in value):
        raise InputError(f"field {field!r} must be a list of [start, end) pairs, got {_shown(value)}")
    return tuple((start, stop) for start, stop in value)


def _shown(value: Any) -> str:
    """The first 40 characters of a value as JSON, for messages; of a value that nests too deeply, only its type."""
    try:
        return json.dumps(value)[:40]
    except RecursionError:  # the module json can read deeper nesting than it can write
        return f"a deeply nested {type(value).__name__}"


def _is_span(item: Any) -> bool:
    return isinstance(item, list) and len(item) == 2 and all(type(number) is int for number in item)


def _message(path: str, bad: list[str]) -> str:
    more = f"\n  and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
    lines = "".join(f"\n  {entry}" for entry in bad[:SHOWN])
    return f"dataset.path={path}: {len(bad)} bad line{'s' * (len(bad) > 1)}; wanted {FORMAT}{lines}{more}"
