"""The Markdown and the JUnit XML of a gate stay valid with hostile names in them."""

from xml.etree import ElementTree

import pytest

from shiftbench.contracts.result import Score
from shiftbench.gate import junit, markdown
from shiftbench.gate.reference import Scores
from shiftbench.gate.rules import gate
from shiftbench.gate.summary import Judgement, code
from shiftbench.results.document import RecordedVerdict

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
    current = Scores("results=x", scores, pair={"name": name, "base": name, "tuned": name}, versions={})
    reference = Scores(f"against={name}", scores, pair={"tuned": name}, versions={})
    return Judgement(
        name, current, reference, found.judge(current, reference), ["The reference was made with another x."]
    )


@pytest.mark.parametrize("name", HOSTILE)
def test_junit_is_valid_xml_with_the_result(name):
    root = ElementTree.fromstring(junit(judgement(name), 1.5).encode())
    assert root.tag == "testsuites" and root.get("tests") == "2" and root.get("failures") == "1"
    (suite,) = root
    assert [child.tag for child in suite] == ["properties", "testcase", "testcase"]
    (failed,) = root.iter("failure")
    assert failed.get("type") == "at_least" and "+0.1, at least +0.2" in failed.get("message")
    assert not list(root.iter("script"))


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_change_no_line_or_cell_of_the_markdown(name):
    lines = markdown(judgement(name)).splitlines()
    assert lines[0] == "## shiftbench gate failed: 1 of 2 requirements"
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 4 and all(line.count("|") == 7 for line in table)
    assert not any(ord(character) < 32 for line in lines for character in line)


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_can_close_its_code_span(name):
    shown = code(name)
    if shown == "(empty)":
        assert not name.strip()
        return
    fence = shown[: len(shown) - len(shown.lstrip("`"))]
    inside = shown[len(fence) : -len(fence)]
    assert shown.endswith(fence) and fence not in inside
    assert not inside.startswith("`") and not inside.endswith("`") and "|" not in inside


def test_a_rendered_page_shows_names_as_text():
    """A real Markdown parser renders the page, without the sanitiser that a code host adds."""
    markdown_it = pytest.importorskip("markdown_it")
    parser = markdown_it.MarkdownIt("commonmark", {"html": True}).enable("table")
    for name in HOSTILE:
        html = parser.render(markdown(judgement(name)))
        assert "<script" not in html and "<img" not in html and "<a " not in html and "<strong>bold" not in html
        assert html.count("<tr>") == 3 and html.count("<td>") == 12, name


def test_a_passed_gate_says_so():
    key = ("recognised", "share")
    scores = {key: Score(*key, 0.3, 0.2, 0.4, None, 9)}
    run = Scores("results=x", scores, pair={"name": "p"}, versions={})
    outcomes = gate("g", {"r": {"finding": key[0], "score": key[1], "not_below_interval": True}}).judge(run, run)
    passed = Judgement("g", run, run, outcomes, [])
    assert passed.passed and markdown(passed).startswith("## shiftbench gate passed\n")
    assert not list(ElementTree.fromstring(junit(passed, 0)).iter("failure"))


@pytest.mark.parametrize("name", HOSTILE)
def test_a_verdict_that_is_not_accepted_says_why_whatever_names_its_reason_holds(name):
    word, reason = "not clear", f"null models ({name}) score as much"
    recorded = RecordedVerdict(
        word, "claim", "share", 0.3, 0.2, 0.4, 0.01, 60, None, [reason], "", 0.1, "shiftbench score"
    )
    run = Scores("results=x", {}, {"recognised": recorded}, pair={"name": "p"}, versions={})
    judged = Judgement("g", run, None, gate("g", {"recognised": "supported"}).judge(run, None), [])
    lines = markdown(judged).splitlines()
    assert "not clear, +0.300 [+0.200, +0.400]" in lines[6] and "'supported' is required" in lines[6]
    assert lines[6].count("|") == 7 and "- no reference" in lines
    (failed,) = ElementTree.fromstring(junit(judged, 0).encode()).iter("failure")
    assert failed.get("type") == "verdict" and "next: shiftbench score" in failed.get("message")
