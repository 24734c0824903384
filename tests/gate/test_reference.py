"""A reference that is not a scores.json is refused with one line that names it, and reading never blocks."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from shiftbench.errors import InputError
from shiftbench.gate.reference import read
from tests.leaderboard.runs import Planted

DOCUMENT = Planted("a").document()


@pytest.mark.parametrize(
    "content",
    [
        b"", b"null", b"5", b"[]", b"[" * 3000, b"[" * 1_000_000, b"\xff", b"9" * 5000, {**DOCUMENT, "levels": None},
        {**DOCUMENT, "pair": 5}, {**DOCUMENT, "scores": [[]]}, b'{"x": "' + b"x" * 5 * 2**20 + b'"}',
    ],
    ids=lambda content: repr(content)[:30],
)  # fmt: skip
@pytest.mark.parametrize("folder", [True, False])
def test_content_that_is_not_a_scores_json_is_refused(content: object, folder: bool, tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    named = str(tmp_path if folder else path)
    with pytest.raises(InputError) as raised:
        read(named, "against", None)
    assert f"against={named}" in str(raised.value) and len(str(raised.value).splitlines()) == 1


def test_pipes_link_loops_and_invalid_paths_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "scores.json")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for named, text in (
        (str(tmp_path), "it is a pipe"), (str(tmp_path / "scores.json"), "it is a pipe"), ("~nosuch/x", "no user"),
        ("a\0b", "NUL"), (str(tmp_path / "loop"), "no folder and no file|symbolic links"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=text):
            read(named, "against", None)
