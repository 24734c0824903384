"""The verdict can be read by people and by CI, whatever the names in it are made of."""

from xml.etree import ElementTree

import pytest

from shiftbench.contracts.result import Score
from shiftbench.gate import junit, markdown
from shiftbench.gate.reference import Scores
from shiftbench.gate.rules import gate
from shiftbench.gate.summary import Judgement, code

HOSTILE = [
    "<script>alert(1)</script>",
    "a | b\n| c | d |",
    "`code` ``two``",
    "`",
    " ",
    "",
    "]]> <!-- & &amp; \"quotes\" 'single'",
    "@everyone [link](http://x) ![i](x) **bold** # head",
    "nul \x00 bell \x07 esc \x1b[31m surrogate \udcff rtl \u202e bom \ufeff no character \uffff",
    "\\| \\` \\",
    "../../etc/passwd",
    "\U0001f600 größe",
]


def judgement(name):
    key = ("recognised", "share")
    found = gate("g", {name or "r": {"finding": key[0], "score": key[1], "at_least": 0.2, "at_most": 0.5}})
    score = Score(*key, 0.1, 0.0, 0.2, None, 9)
    scores = {key: score}
    current = Scores("results=x", {"name": name, "base": name, "tuned": name}, {}, scores)
    reference = Scores(f"against={name}", {"tuned": name}, {}, scores)
    return Judgement(name, current, reference, found.judge(scores, scores), ["The reference was made with another x."])


@pytest.mark.parametrize("name", HOSTILE)
def test_junit_is_xml_with_the_verdict(name):
    root = ElementTree.fromstring(junit(judgement(name), 1.5).encode())
    assert root.tag == "testsuites" and root.get("tests") == "2" and root.get("failures") == "1"
    (suite,) = root
    assert [child.tag for child in suite] == ["properties", "testcase", "testcase"]
    (failed,) = root.iter("failure")
    assert failed.get("type") == "at_least" and "+0.1, at least +0.2" in failed.get("message")
    assert not list(root.iter("script"))


@pytest.mark.parametrize("name", HOSTILE)
def test_markdown_keeps_its_lines_and_cells(name):
    lines = markdown(judgement(name)).splitlines()
    assert lines[0] == "## shiftbench gate failed: 1 of 2 requirements"
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 4 and all(line.count("|") == 7 for line in table)
    assert not any(ord(character) < 32 for line in lines for character in line)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_code_span_cannot_be_closed_from_inside(name):
    shown = code(name)
    if shown == "(empty)":
        assert not name.strip()
        return
    fence = shown[: len(shown) - len(shown.lstrip("`"))]
    inside = shown[len(fence) : -len(fence)]
    assert shown.endswith(fence) and fence not in inside
    assert not inside.startswith("`") and not inside.endswith("`") and "|" not in inside


def test_a_rendered_page_holds_the_names_as_text():
    """Rendered by a real Markdown parser, without the sanitiser that a forge adds."""
    markdown_it = pytest.importorskip("markdown_it")
    parser = markdown_it.MarkdownIt("commonmark", {"html": True}).enable("table")
    for name in HOSTILE:
        html = parser.render(markdown(judgement(name)))
        assert "<script" not in html and "<img" not in html and "<a " not in html and "<strong>bold" not in html
        assert html.count("<tr>") == 3 and html.count("<td>") == 12, name


def test_a_passed_gate_says_so():
    key = ("recognised", "share")
    scores = {key: Score(*key, 0.3, 0.2, 0.4, None, 9)}
    run = Scores("results=x", {"name": "p"}, {}, scores)
    verdicts = gate("g", {"r": {"finding": key[0], "score": key[1], "not_below_interval": True}}).judge(scores, scores)
    passed = Judgement("g", run, run, verdicts, [])
    assert passed.passed and markdown(passed).startswith("## shiftbench gate passed\n")
    assert not list(ElementTree.fromstring(junit(passed, 0)).iter("failure"))
