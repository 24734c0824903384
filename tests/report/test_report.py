"""The report page: its structure, that hostile names and tokens do nothing in it, and that it is deterministic."""

from __future__ import annotations

import dataclasses
import html
import math
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from markupsafe import Markup
from rich.console import Console

from shiftbench.contracts.claim import Claim
from shiftbench.contracts.result import Figure, Result, Saliency, Score, ScoreFact
from shiftbench.errors import InputError
from shiftbench.report import RunSummary, attribution_html, score_table, write_report, write_tables
from shiftbench.report.figures import figure_svg
from shiftbench.report.numbers import number
from shiftbench.report.text import file_name, in_markdown, title, visible, visible_token
from shiftbench.verdicts import Evidence, Null, Remedy, Verdict, Word

from .sample import summary
from .test_content_security import digest

Shape = list[tuple[str, list[str]]]
VOID = {"meta", "br", "wbr", "img", "input", "link", "hr"}
HOSTILE = (
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "]]>", "{{7*7}}", "{% raw %}", "</style><b>",
    "$\\frac{", "javascript:alert(1)", "_hidden", "../../up", "'\" onload='x", "&lt;b&gt;", "\ud800lone",
    "\x00nul\x1b[31m",
    "\u202eoverride\u2066", "a\tb\nc\r", "\ufffd", "\u0301combining", "https://example.org/x.png", "",
)  # fmt: skip


class Page(HTMLParser):
    """A parsed page: its elements with attributes, and its texts. Raises AssertionError where a tag is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == [], f"left open: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open and self._open[-1] == tag, f"</{tag}> closes {self._open[-3:]}"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def count(self, tag: str) -> int:
        return sum(tag == name for name, _ in self.elements)

    def attributes(self, name: str) -> list[str]:
        return [attrs[name] or "" for _, attrs in self.elements if name in attrs]


def hostile(text: str) -> RunSummary:
    """A run in which every name, token, cell, path, note, reason, fact, caption and command is this text."""
    # pandas holds a lone surrogate in a cell of objects, and nowhere else.
    column = text.encode("utf-8", errors="replace").decode()
    table = pd.DataFrame({column: pd.Series([text, text], dtype=object), "x": [0, 1], "y": [0.1, 0.2]})
    figures = [
        Figure(text + kind, text, kind, table, "x", "y", column, dashed=(text,), x_label=text, y_label=text)
        for kind in ("line", "bar", "heat")
    ]
    both = [f"{text}, base", f"{text}, tuned"]
    figures.append(Figure(f"{text}2", text, "bar", table.assign(c=pd.Series(both, dtype=object)), column, "y", "c"))
    seen = Saliency(text, [text, "b"], [True, False], [0.5, 0.1], [1.0, math.nan], text, 0.1, math.nan)
    score = Score(text, text, 0.1, 0.0, 0.2, 0.5, 3)
    size = Score(text, f"{text}2", 0.1, 0.0, 0.2, None, 3)
    result = Result(text, text, text, [score, size], {text: table}, figures, [seen], notes=[text], captions={"*": text})
    pair = {"name": text, "base": text, "tuned": text, "family": text, "size": text, "digests": {text: text}}
    claim = Claim(text, text, text, text, text, 10, True)
    null = Null(text, 40, 0.0, -0.1, 0.1, 40)
    verdict = Verdict(Word.NOT_CLEAR, claim, Evidence(score, score, null, p=0.5), [text], 0.3, Remedy((text,)))
    fact = ScoreFact(text, text, text, text)
    facts = {text: {text: fact, f"{text}2": dataclasses.replace(fact, signed=False)}}
    other = dataclasses.replace(result, finding=f"{text}3", figures=(), saliency=(), flags=[text], level=True)
    return RunSummary(
        pair, {"torch": text}, [result, other], [text, f"{text} of the run"], text, [verdict], [text], None, facts
    )


class ScriptInSentence:
    """A run with a script and two styles in a sentence that is marked as HTML, so that the template escapes nothing."""

    script = "alert(1)"
    style = "body{display:none}"
    attribute = "color:rgb(1,2,3)"

    @property
    def run(self) -> RunSummary:
        planted = (
            f'<script>{self.script}</script><style>{self.style}</style><b id="planted" style="{self.attribute}">x</b>'
        )
        result = Result("f", "s", Markup(planted), [Score("f", "s", 0.1, 0.0, 0.2, 0.5, 3)], {})
        return RunSummary({}, {}, [result], [], "")


def written(run: RunSummary, folder: Path) -> str:
    return write_report(run, folder).read_text(encoding="utf-8")


@pytest.mark.long
def test_the_page_has_the_findings_with_their_pictures_tables_and_prompts(tmp_path: Path) -> None:
    run = summary()
    page = Page(written(run, tmp_path))
    text = " ".join(page.texts)
    for result in run.results:
        assert result.sentence in text
        for score in result.scores:
            assert score.name in text
    assert page.count("title") == page.count("h1") == page.count("main") == 1
    assert ("html", {"lang": "en"}) in page.elements
    drawn = sum(not figure.table.empty for result in run.results for figure in result.figures)
    pictures = [attrs for tag, attrs in page.elements if attrs.get("class") == "picture"]
    assert len(pictures) == drawn == len(list((tmp_path / "figures").glob("*.svg")))
    assert all(attrs["role"] == "img" and len(attrs["aria-label"] or "") > 40 for attrs in pictures)
    assert page.count("article") == len(run.results) + 2  # one for each finding without a verdict, and two prompts
    assert "This table has no rows." in text
    assert "This chart has no data: no row of its table has a finite number." in text


@pytest.mark.long
def test_ids_are_unique_and_every_link_inside_the_page_has_a_target(tmp_path: Path) -> None:
    page = Page(written(summary(), tmp_path))
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    wanted = {value[1:] for name in ("href", "xlink:href") for value in page.attributes(name)}
    wanted |= set(page.attributes("aria-labelledby"))
    assert wanted <= set(ids)


@pytest.mark.long
@pytest.mark.parametrize("run", [summary(), hostile("https://example.org/x.png")], ids=["sample", "hostile"])
def test_the_page_loads_nothing_and_has_no_script(run: RunSummary, tmp_path: Path) -> None:
    text = written(run, tmp_path)
    page = Page(text)
    assert not {"script", "img", "link", "iframe", "object", "image", "form"} & {tag for tag, _ in page.elements}
    for name in ("href", "xlink:href", "src", "srcset", "data", "action"):
        assert all(value.startswith("#") for value in page.attributes(name))
    assert "@import" not in text
    assert set(re.findall(r"url\((.)", text)) <= {"#"}
    policy = next(
        attrs["content"] for _, attrs in page.elements if attrs.get("http-equiv") == "Content-Security-Policy"
    )
    assert (policy or "").startswith("default-src 'none'")


def test_a_planted_script_or_style_is_not_admitted(tmp_path: Path) -> None:
    planted = ScriptInSentence()
    text = written(planted.run, tmp_path)
    assert f"<script>{planted.script}</script>" in text  # the mistake is real
    (policy,) = re.findall('http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert "script-src" not in policy
    assert policy.count("'sha256-") == 1
    assert digest(planted.style) not in policy
    assert f'style="{planted.attribute}"' in text  # it got no class, and no digest admits it


@pytest.fixture(scope="module")
def plain_shape(tmp_path_factory: pytest.TempPathFactory) -> Shape:
    return shape(Page(written(hostile("plain"), tmp_path_factory.mktemp("plain"))))


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_hostile_text_is_shown_and_does_nothing(text: str, plain_shape: Shape, tmp_path: Path) -> None:
    run = hostile(text)
    page = Page(written(run, tmp_path))
    write_tables(run.results, tmp_path)
    # The text added no element and no attribute: they are those of a page with a harmless text.
    assert shape(page) == plain_shape
    assert not any(name.startswith("on") for _, attrs in page.elements for name in attrs)
    assert visible(text) in "".join(page.texts)
    everything = "".join(page.texts) + "".join(value or "" for _, attrs in page.elements for value in attrs.values())
    assert not re.search(
        "[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", everything
    )
    written_files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written_files) == 3 + len(run.results[0].figures)  # the page, two tables, and the figures
    assert all(path.stem.isprintable() for path in written_files)
    for path in (tmp_path / "figures").iterdir():
        drawn = "".join("".join(ET.parse(path).getroot().itertext()).split())
        assert visible(text)[:20].replace(" ", "") in drawn


def shape(page: Page) -> Shape:
    """Elements and attribute names, without spans and SVG shapes: their number depends on the length of the text."""
    return [(tag, sorted(attrs)) for tag, attrs in page.elements if tag in HTML]


HTML = {
    "html", "head", "meta", "title", "style", "body", "a", "header", "p", "h1", "b", "main", "section", "article", "h2",
    "h3", "h4", "code", "table", "th", "td", "bdi", "ul", "li", "dl", "dd", "details", "figure", "svg", "img", "script",
}  # fmt: skip


@pytest.mark.long
def test_the_same_run_gives_the_same_bytes(tmp_path: Path) -> None:
    for folder in ("first", "second"):
        write_report(summary(), tmp_path / folder)
        write_tables(summary().results, tmp_path / folder)
    first, second = (
        {path.relative_to(tmp_path / folder): path.read_bytes() for path in (tmp_path / folder).rglob("*.*")}
        for folder in ("first", "second")
    )
    assert first == second
    assert len(first) > 10


def test_the_page_of_an_empty_run_says_what_is_missing(tmp_path: Path) -> None:
    empty = Result("f", "absent", "Nothing changed.", [], {"t": pd.DataFrame()})
    page = Page(written(RunSummary({}, {}, [empty], [], ""), tmp_path))
    assert "The finding gave no score." in " ".join(page.texts)
    page = Page(written(RunSummary({}, {}, [], [], ""), tmp_path))
    assert "The run has no finding." in " ".join(page.texts)
    assert write_tables([], tmp_path) == []


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_is_shown_as_such(bad: float, tmp_path: Path) -> None:
    score = Score("f", "s", bad, bad, bad, bad, 0)
    run = dataclasses.replace(summary(), results=[Result("f", "s", "One.", [score], {})])
    text = written(run, tmp_path)
    assert number(bad) in " ".join(Page(text).texts)
    assert "nan" not in text.replace("nance", "")
    console = Console(width=100, record=True, file=open("/dev/null", "w"))
    console.print(score_table(run.results))
    assert number(bad) in console.export_text()


def test_the_page_cuts_a_long_table_and_its_csv_file_has_all_rows(tmp_path: Path) -> None:
    table = pd.DataFrame({"word": [f"w{i}" for i in range(1000)], "gain": 1 / 3})
    run = dataclasses.replace(summary(), results=[Result("f", "s", "One.", [], {"long": table})])
    page = Page(written(run, tmp_path))
    assert "w199" in page.texts
    assert "w200" not in page.texts
    (path,) = write_tables(run.results, tmp_path)
    assert path == tmp_path / "tables" / "f.long.csv"
    pd.testing.assert_frame_equal(pd.read_csv(path), table)


def test_the_terminal_table_does_not_read_markup_in_names() -> None:
    console = Console(width=100, record=True, file=open("/dev/null", "w"))
    console.print(
        score_table([Result("f", "s", "", [Score("f", "[red]s[/red]\x1b[2J", 0.1234, 0.1, 0.2, 1e-9, 60)], {})])
    )
    text = console.export_text()
    assert "[red]s[/red]U+001B[2J" in text
    assert "+0.123" in text
    assert "1e-09" in text


@pytest.mark.parametrize(
    ("token", "shown"),
    [("\n", "↵"), (" a", "·a"), ("\t", "⇥"), ("", "∅"), ("\u202e", "U+202E"), ("\ud83d", "U+D83D"),
     ("\u00a0", "U+00A0"),
     ("\u0301", "◌\u0301"), ("\ufffd", "\ufffd"), ("naïve 日本", "naïve·日本")],
)  # fmt: skip
def test_hidden_characters_of_a_token_are_spelled_out(token: str, shown: str) -> None:
    assert visible_token(token) == shown
    assert shown in "".join(Page(attribution_html([token], [False], [0.5])).texts)


def test_a_tokens_background_shows_its_density_and_instruction_tokens_are_underlined() -> None:
    page = Page(attribution_html(["a", "b", "c"], [True, False, False], [1.0, 0.5, math.nan]))
    spans = [attrs for tag, attrs in page.elements if tag == "span" and "title" in attrs]
    alphas = [float(re.search(r",([\d.]+)\)", attrs["style"] or "").group(1)) for attrs in spans]  # type: ignore[union-attr]
    assert alphas == pytest.approx([0.65, 0.325, 0.0], abs=1e-3)
    assert ["border-bottom" in (attrs["style"] or "") for attrs in spans] == [True, False, False]
    assert [attrs["title"] for attrs in spans] == ["density 1.00, instruction", "density 0.50", "density n/a"]


def test_tokens_and_densities_of_different_length_are_refused() -> None:
    with pytest.raises(InputError, match="got 2, 2 and 1"):
        attribution_html(["a", "b"], None, [0.5])


def test_a_figure_with_an_unknown_column_or_kind_is_refused() -> None:
    table = pd.DataFrame({"x": [1], "y": [1.0], "s": ["a"]})
    with pytest.raises(InputError, match="'f': its table has no column 'z'"):
        figure_svg(Figure("f", "", "line", table, "x", "z", "s"))
    with pytest.raises(InputError, match="kind must be one of line, bar, heat, got 'pie'"):
        figure_svg(Figure("f", "", "pie", table, "x", "y", "s"))


def test_names_become_headings_and_safe_file_names() -> None:
    assert title("concept_rotation") == "Concept rotation"
    assert title("table2") == "Table 2"
    assert file_name("heads") == "heads"
    assert "/" not in file_name("../a")
    assert file_name("a b") != file_name("a/b")


@pytest.mark.parametrize(
    ("value", "text"),
    [(3, "3"), (12345, "12,345"), (0.12345, "0.123"), (2.4e-11, "2.4e-11"), (0.0, "0.000"), (True, "True"), ("a", "a")],
)
def test_numbers_are_written_for_people(value: Any, text: str) -> None:
    assert number(value) == text


STARTS = ("- a", "+ a", "* a", "1. a", "12) a", "# a", "## a", "> a", "    a", "   - a", " 1. a", "= a", "===", "---",
          "***", "___", "```", "~~~ a", "| a | b |", "[a]: b", "<b>a</b>", "&amp;", "a  ")  # fmt: skip
INSIDE = ("[a](javascript:alert(1))", "![a](b)", "<javascript:alert(1)>", "www.example.org", "https://example.org",
          "*a* _b_ **c** `d` ~~e~~", "a \\* b \\", "a\n# b", "$x$ :smile: @user", "{: .a}",
          "a#b &#35; &lt;")  # fmt: skip


@pytest.mark.parametrize("text", [*STARTS, *INSIDE])
def test_markdown_interprets_no_text_at_the_start_of_a_line_or_inside_it(text: str) -> None:
    markdown_it = pytest.importorskip("markdown_it")
    parser = markdown_it.MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    shown, safe = html.escape(visible(text)), in_markdown(text)
    for before, after in (("", ""), ("- ", ""), ("a\n\n", "\n\nb"), ("| h |\n|---|\n| ", " |")):
        page = parser.render(f"{before}{safe}{after}")
        assert shown.strip() in page, page
        plain = parser.render(f"{before}x{after}")
        assert re.findall("<[^>]+>", page) == re.findall("<[^>]+>", plain), page
    assert not re.search(r"(?<!\\)[\[\]<>$@]|www\.|(?<!\\):|\n", safe)
