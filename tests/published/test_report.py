"""The report of published explanations: claims and our numbers side by side, and hostile text does nothing in it."""

import re

import pytest

from shiftbench.published.reproduction import reproduce
from shiftbench.report.text import visible
from tests.published.synthetic import TUNED, model_rows, pieces_of, prompt_rows, write_folder
from tests.report.test_report import HOSTILE, Page, shape


def page(folder, out):
    return Page(reproduce(folder, out).report.read_text(encoding="utf-8"))


@pytest.mark.long
def test_claim_and_versions_stand_side_by_side_with_pictures(tmp_path):
    reproduction = reproduce(write_folder(tmp_path / "in"), tmp_path / "out")
    found = Page(reproduction.report.read_text(encoding="utf-8"))
    text = " ".join(found.texts)
    for part in ("the paper's claim", "unfollowed < followed", "base < tuned", "the first 50 pieces", "both cut to"):
        assert part in text
    assert "The paper's printed numbers are not among the published files" in text
    for result in reproduction.summary.results:
        assert result.sentence in text
    assert len(list((tmp_path / "out" / "figures").glob("*.svg"))) == 6
    assert sum(attrs.get("class") == "picture" for _, attrs in found.elements) == 6
    side = reproduction.summary.results[1].tables["side_by_side"]
    assert side["whole responses"].tolist()[0].endswith(": holds")


@pytest.mark.long
def test_a_reversed_claim_is_called_reversed(tmp_path):
    prompts = prompt_rows()
    base, tuned = model_rows(prompts, 0.9, 30, 1), model_rows(prompts, 0.2, 30, 2)
    result = reproduce(write_folder(tmp_path / "in", prompts, base=base, tuned=tuned), tmp_path / "out").summary.results
    assert result[1].tables["side_by_side"]["whole responses"].tolist()[0].endswith(": reversed")
    assert result[1].scores[0].high < 0 and "0 with whole responses" in result[1].sentence


def hostile_folder(folder, text):
    """A folder in which ids, prompt sets, prompts, pieces and responses contain this text."""
    text = re.sub("[\ud800-\udfff]", "?", text) or "empty"
    line = text.replace("\n", " ")  # ids and pieces are joined by line breaks
    prompts = prompt_rows(6, dataset=line)
    for i, row in enumerate(prompts):
        row["prompt"] = f"{text} number {i}."
        row["instruction"] = [[0, len(row["prompt"])], [0, 1]]
    tuned = [(name, pieces, [line] * 9, level_PR) for name, pieces, _, level_PR in model_rows(prompts, 0.6, 9, 1)]
    tuned[0] = (tuned[0][0], [line, *pieces_of(prompts[0]["prompt"])[1:]], *tuned[0][2:])  # does not align
    base = model_rows(prompts, 0.4, 9, 2)
    ratings = [{"id": row["id"], "model": TUNED, "rating": 1 + i % 2} for i, row in enumerate(prompts)]
    return write_folder(folder, prompts, base=base, tuned=tuned, ratings=ratings)


@pytest.fixture(scope="module")
def plain_shape(tmp_path_factory):
    root = tmp_path_factory.mktemp("plain")
    return set(tag for tag, _ in shape(page(hostile_folder(root / "in", "plain"), root / "out")))


@pytest.mark.parametrize("text", HOSTILE[:10], ids=ascii)
def test_hostile_text_is_shown_and_does_nothing(text, plain_shape, tmp_path):
    found = page(hostile_folder(tmp_path / "in", text), tmp_path / "out")
    assert {tag for tag, _ in shape(found)} == plain_shape
    assert not any(name.startswith("on") for _, attrs in found.elements for name in attrs)
    assert not {"script", "img", "link", "iframe", "form"} & {tag for tag, _ in found.elements}
    assert visible(text) in "".join(found.texts)
    assert all(value.startswith("#") for value in (*found.attributes("href"), *found.attributes("xlink:href")))
    for path in (tmp_path / "out").rglob("*"):
        assert path.resolve().is_relative_to((tmp_path / "out").resolve()) and path.name.isprintable()


@pytest.mark.long
def test_the_same_folder_gives_the_same_bytes(tmp_path):
    folder = write_folder(tmp_path / "in")
    for name in ("first", "second"):
        reproduce(folder, tmp_path / name)
    first, second = (
        {path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob("*.*")}
        for name in ("first", "second")
    )
    assert first == second and len(first) > 10
