"""A user's prompts in JSONL: what is read, and what each bad line is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shiftbench.errors import InputError
from shiftbench.prompts import Prompt
from shiftbench.prompts.datasets.jsonl import Jsonl

GOOD = {"id": "a", "prompt": "Say hi to: Bob", "instruction": [[0, 6]], "context": [[11, 14]], "response": " hi"}


def written(folder: Path, *rows: object) -> Jsonl:
    path = folder / "prompts.jsonl"
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Jsonl(str(path), limit=None)


def test_every_field_is_read(tmp_path: Path) -> None:
    assert written(tmp_path, GOOD)() == [Prompt("a", "Say hi to: Bob", ((0, 6),), ((11, 14),), " hi")]


def test_context_and_response_may_be_missing_and_instruction_may_be_empty_or_everything(tmp_path: Path) -> None:
    rows = [
        {"id": "none", "prompt": "Once upon a time", "instruction": []},
        {"id": "all", "prompt": "Sing", "instruction": [[0, 4]], "context": None, "response": None},
        {"id": "two", "prompt": "Sing. Now. Loud", "instruction": [[0, 5], [11, 15]], "context": []},
    ]
    prompts = written(tmp_path, *rows)()
    assert [prompt.instruction_spans for prompt in prompts] == [(), ((0, 4),), ((0, 5), (11, 15))]
    assert all(prompt.context_spans == () and prompt.reference is None for prompt in prompts)


def test_only_line_feeds_end_a_line(tmp_path: Path) -> None:
    rows = [{**GOOD, "id": str(i), "prompt": f"one{mark}two three four"} for i, mark in enumerate("\u2028\u2029\x85")]
    assert [prompt.text[3] for prompt in written(tmp_path, *rows)()] == ["\u2028", "\u2029", "\x85"]


def test_carriage_returns_blank_lines_and_a_byte_order_mark_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "windows.jsonl"
    path.write_bytes(
        b"\xef\xbb\xbf" + json.dumps(GOOD).encode() + b"\r\n\r\n" + json.dumps({**GOOD, "id": "b"}).encode()
    )
    assert [prompt.id for prompt in Jsonl(str(path), limit=None)()] == ["a", "b"]


def test_a_limit_spreads_over_the_file(tmp_path: Path) -> None:
    dataset = written(tmp_path, *({**GOOD, "id": str(i)} for i in range(10)))
    assert [prompt.id for prompt in Jsonl(dataset.path, limit=5)()] == ["0", "2", "4", "6", "8"]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("{'id': 1}", "not JSON"),
        ('{"id": "b", ', "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[1, 2]", "not a JSON object but list"),
        ({"prompt": "x", "instruction": []}, "field 'id' is missing"),
        ({"id": "b", "instruction": []}, "field 'prompt' is missing"),
        ({"id": "b", "prompt": "x"}, "field 'instruction' is missing"),
        ({**GOOD, "id": 7}, "field 'id' must be a string, got 7"),
        ({**GOOD, "id": "b", "prompt": " "}, "field 'prompt' is empty"),
        ('{"id": "b", "prompt": "\\ud800", "instruction": []}', "half of a surrogate pair"),
        ({**GOOD, "id": "b", "response": ["x"]}, "field 'response' must be a string"),
        ({**GOOD, "id": "b", "instruction": [0, 6]}, r"field 'instruction' must be a list of \[start, end\) pairs"),
        ({**GOOD, "id": "b", "instruction": [[0, 6, 7]]}, "field 'instruction' must be a list"),
        ({**GOOD, "id": "b", "instruction": [[0, 6.5]]}, "field 'instruction' must be a list"),
        ({**GOOD, "id": "b", "instruction": [[False, True]]}, "field 'instruction' must be a list"),
        ({**GOOD, "id": "b", "instruction": None}, "field 'instruction' must be a list"),
        ({**GOOD, "id": "b", "context": "x"}, "field 'context' must be a list"),
        ({**GOOD, "id": "b", "instruction": [[0, 15]]}, "beyond prompt 'b'"),
        ({**GOOD, "id": "b", "context": [[3, 3]]}, "empty or negative"),
        ({**GOOD, "id": "b", "instruction": [[-1, 3]]}, "empty or negative"),
        (GOOD, "id 'a' is already that of line 1"),
    ],
)
def test_a_bad_line_is_named_with_its_file_and_number(tmp_path: Path, bad: object, message: str) -> None:
    dataset = written(tmp_path, GOOD, "", bad)
    with pytest.raises(InputError, match=f"line 3: .*{message}") as error:
        dataset()
    assert dataset.path in str(error.value) and "1 bad line;" in str(error.value)


def test_many_bad_lines_make_one_message(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        written(tmp_path, *["nonsense"] * 100)()
    message = str(error.value)
    assert "100 bad lines" in message and "line 5:" in message and "line 6:" not in message and "95 more" in message


def test_a_file_without_prompts_or_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no prompt"):
        written(tmp_path, "", " ")()
    with pytest.raises(InputError, match=r"dataset\.path=.*No such file"):
        Jsonl(str(tmp_path / "absent.jsonl"), limit=None)()
    (tmp_path / "latin.jsonl").write_bytes(json.dumps(GOOD).encode() + b"\n\xe9\n")
    with pytest.raises(InputError, match="line 2: not UTF-8"):
        Jsonl(str(tmp_path / "latin.jsonl"), limit=None)()
