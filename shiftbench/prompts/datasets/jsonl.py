"""A user's prompts, one JSON object a line."""

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
SHOWN = 5  # bad lines named in one message


@dataclass(frozen=True)
class Jsonl:
    """Prompts of a file in FORMAT; context, key, response and skill may be absent. limit: how many, None for all.

    Spans are [start, end) in characters of the prompt. A response is explained as it stands, right after the prompt.
    """

    path: str
    limit: int | None
    name: str = "jsonl"

    def __call__(self) -> list[Prompt]:
        """Prompts in the file's order. Raises InputError naming the file and the number of each bad line."""
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
            raise InputError(f"dataset.path={self.path}: the file holds no prompt; write one a line as {FORMAT}")
        return evenly(prompts, self.limit)


def parse(line: str) -> Prompt:
    """The prompt of one line. Raises InputError that says what is wrong with it."""
    row = json_value(line)
    if not isinstance(row, dict):
        raise InputError(f"not a JSON object but {type(row).__name__}")
    prompt = Prompt(
        id=text_field(row, "id"),
        text=text_field(row, "prompt"),
        instruction_spans=_spans(row, "instruction"),
        context_spans=_spans(row, "context") if row.get("context") is not None else (),
        reference=text_field(row, "response") if row.get("response") is not None else None,
        key_spans=_spans(row, "key") if row.get("key") is not None else (),
        skill=text_field(row, "skill") if row.get("skill") is not None else None,
    )
    return prompt


def text_field(row: dict[str, Any], field: str) -> str:
    """The text of a field. Raises InputError where it is missing, no text, empty or half of a surrogate pair."""
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
    """The beginning of a value as JSON."""
    try:
        return json.dumps(value)[:40]
    except RecursionError:  # lists may be read deeper than they are written
        return f"a {type(value).__name__} of many levels"


def _is_span(item: Any) -> bool:
    return isinstance(item, list) and len(item) == 2 and all(type(number) is int for number in item)


def _message(path: str, bad: list[str]) -> str:
    more = f"\n  and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
    lines = "".join(f"\n  {entry}" for entry in bad[:SHOWN])
    return f"dataset.path={path}: {len(bad)} bad line{'s' * (len(bad) > 1)}; wanted {FORMAT}{lines}{more}"
