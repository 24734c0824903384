"""Ratings of a file are read as they stand, and what is no rating is named with its line."""

import pytest

from shiftbench.config import composition
from shiftbench.errors import InputError
from shiftbench.pipeline.recording import settings
from shiftbench.prompts import Prompt
from shiftbench.ratings.file import FileRatings

LINE = '{{"id": "{}", "model": "m", "rating": {}}}\n'
PROMPTS = [Prompt(name, "text", ((0, 4),)) for name in "abc"]


def ratings(tmp_path, *lines):
    path = tmp_path / "ratings.jsonl"
    path.write_text("".join(lines))
    return FileRatings(str(path))


def test_each_line_is_a_prompts_rating(tmp_path):
    found = ratings(tmp_path, LINE.format("a", 4), "\n", LINE.format("b", 1), LINE.format("z", -1))
    assert found.by_id == {"a": 4, "b": 1, "z": -1}
    found.check(PROMPTS)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "line 2: not JSON"),
        ("[]", 'line 2: wanted {"id"'),
        ('{"id": "b", "model": "m"}', "line 2: rating must be one of -1, 1, 2, 3, 4, got None"),
        (LINE.format("b", 0), "line 2: rating must be one of"),
        (LINE.format("b", "true"), "line 2: rating must be one of"),
        (LINE.format("b", "9" * 4301), "line 2: not JSON"),
        (LINE.format("b", "[" * 900 + "]" * 900), "got a list"),
        ('{"id": "b", "id": "c", "model": "m", "rating": 1}', "line 2: gives the key 'id' twice"),
        (LINE.format("a", 1), "line 2: id 'a' is already that of line 1"),
    ],
)
def test_what_is_no_rating_is_named_with_its_line(tmp_path, line, told):
    with pytest.raises(InputError) as error:
        ratings(tmp_path, LINE.format("a", 2), line)
    assert told in str(error.value) and "ratings.jsonl" in str(error.value)


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ([("y", 1), ("z", 3)], "no id there is that of a prompt (there: 'y', prompts: 'a')"),
        ([("a", 1), ("b", 1)], "none of 2 rated prompts is followed (2 or more)"),
        ([("a", 2), ("b", 4), ("c", -1)], "none of 3 rated prompts is unfollowed (1)"),
    ],
)
def test_ratings_that_leave_nothing_to_compare_are_refused(tmp_path, lines, told):
    with pytest.raises(InputError) as error:
        ratings(tmp_path, *(LINE.format(*line) for line in lines)).check(PROMPTS)
    assert told in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"ratings\.path=.*nowhere"):
        FileRatings(str(tmp_path / "nowhere.jsonl"))


def test_what_a_file_says_decides_and_not_where_it_lies(tmp_path):
    def digest(folder, rating):
        path = tmp_path / folder / "ratings.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.write_text(LINE.format("a", rating))
        finding = ["+finding@findings.followed_instructions=followed_instructions"]
        finding.append(f"findings.followed_instructions.ratings.path={path}")
        return settings(composition.compose("config", ["pair=demo", *finding]))

    assert digest("one", 1) == digest("two", 1) != digest("one", 2)
