"""The report page in a real browser: it logs nothing, loads nothing, runs no script, and fits a phone."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from shiftbench.report import RunSummary, write_report

from .browser import CHROMIUM, Browser, browser
from .sample import every_word, summary
from .test_report import HOSTILE, ScriptInSentence, hostile

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason=f"{CHROMIUM} is not installed"),
]
# The scripts in HOSTILE call alert. If one ran, window.ran would be set.
RAN = "window.alert = () => { window.ran = true }"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as page:
        page.call("Page.addScriptToEvaluateOnNewDocument", source=RAN)
        yield page


def sample_and_hostile() -> RunSummary:
    """The sample, and after it one finding for each hostile text, with names too long for a narrow page."""
    every = [hostile(text).results[0] for text in (*HOSTILE, "W" * 300)]
    results = [dataclasses.replace(result, figures=result.figures[:1]) for result in every]
    long = "organisation/" + "a-very-long-model-name-" * 8
    run = summary()
    return dataclasses.replace(run, pair={**run.pair, "base": long}, results=[*run.results, *results])


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_report(sample_and_hostile(), tmp_path_factory.mktemp("report")).as_uri()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_logs_nothing_and_fits(chromium: Browser, address: str, width: int, dark: bool) -> None:
    before = len(chromium.events)
    chromium.open(address, width, dark)
    chromium.value("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert chromium.value("document.documentElement.scrollWidth") == width
    assert chromium.value("window.ran") is None
    assert chromium.value("document.scripts.length + document.images.length") == 0
    assert (
        chromium.value("document.querySelectorAll('section.finding').length") == len(sample_and_hostile().results) + 1
    )
    seen = chromium.events[before:]
    requests = [each["params"]["request"]["url"] for each in seen if each["method"] == "Network.requestWillBeSent"]
    assert requests == [address]
    loud = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Network.loadingFailed")
    assert [each for each in seen if each["method"] in loud] == []


# The lowest edge of everything that an element shows, in pixels from the top of the page.
BOTTOM = "Math.max(...[...document.querySelectorAll('{}')].map(each => each.getBoundingClientRect().bottom))"
FIRST = (
    ".about",
    ".made .command",
    ".word",
    ".verdict a",
    ".headline",
    ".verdict li",
    ".verdict .command",
    ".answer aside",
)


def test_the_answer_stands_within_the_first_800_pixels(chromium: Browser, tmp_path: Path) -> None:
    """Six verdicts, one more than there are words, with reasons and commands, and a pair of heat maps."""
    chromium.open(write_report(every_word(), tmp_path).as_uri(), 1280)
    words = chromium.value("[...document.querySelectorAll('.verdict .word')].map(each => each.innerText.trim())")
    assert words == [
        "+supported", "-opposite", "?not clear", "?not clear", "!not trustworthy", "not applicable",
    ]  # fmt: skip
    for selector in FIRST:
        scope = selector if selector != ".word" else ".answer .word"
        assert 0 < chromium.value(BOTTOM.format(scope)) <= 800, selector
    assert chromium.value("document.querySelectorAll('.answer aside .tokens').length") == 2
    assert chromium.value("document.querySelectorAll('details[open]').length") == 0
    # Below the first screen, no table is shown before it is unfolded.
    assert (
        chromium.value("[...document.querySelectorAll('table')].filter(each => !each.closest('details')).length") == 0
    )


def test_a_click_selects_the_command_that_would_decide(chromium: Browser, tmp_path: Path) -> None:
    chromium.open(write_report(every_word(), tmp_path).as_uri(), 1280)
    for event in ("mousePressed", "mouseReleased"):
        where = chromium.value(
            "(({x, y}) => [x + 9, y + 9])(document.querySelector('.next .command').getBoundingClientRect())"
        )
        chromium.call("Input.dispatchMouseEvent", type=event, x=where[0], y=where[1], button="left", clickCount=1)
    assert chromium.value("getSelection().toString()") == "shiftbench score pair=demo suite=demo control=random"


def test_tables_scroll_inside_their_box_on_a_phone(chromium: Browser, tmp_path: Path) -> None:
    chromium.open(write_report(every_word(), tmp_path).as_uri(), 390)
    chromium.value("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert chromium.value("document.documentElement.scrollWidth") == 390
    boxes = "[...document.querySelectorAll('table')].map(each => each.parentElement)"
    assert chromium.value(f"{boxes}.every(each => each.clientWidth <= 350)")
    assert chromium.value(f"{boxes}.some(each => each.scrollWidth > each.clientWidth)")


def test_a_script_and_a_style_that_the_escaping_missed_do_nothing(chromium: Browser, tmp_path: Path) -> None:
    """The sentence of a finding is put into the page without escaping, as a mistake in the templates would do it."""
    chromium.open(write_report(ScriptInSentence().run, tmp_path).as_uri())
    assert chromium.value("document.scripts.length") > 0  # it is in the page
    assert chromium.value("window.ran") is None
    assert chromium.value("getComputedStyle(document.body).display") == "block"
    assert chromium.value("getComputedStyle(document.getElementById('planted')).color") != "rgb(1, 2, 3)"


def test_the_background_follows_the_reader_s_colour_scheme(chromium: Browser, address: str) -> None:
    backgrounds = []
    for dark in (False, True):
        chromium.open(address, dark=dark)
        backgrounds.append(chromium.value("getComputedStyle(document.body).backgroundColor"))
    assert backgrounds == ["rgb(255, 255, 255)", "rgb(20, 23, 28)"]


def test_the_policy_stops_a_script_that_escaping_missed(chromium: Browser, address: str) -> None:
    """If a script got into the page, the policy would not let it run, and the console would say so."""
    chromium.open(address)
    before = len(chromium.events)
    chromium.value(
        "{ const s = document.createElement('script'); s.textContent = 'alert(1)'; document.body.append(s) }"
    )
    assert chromium.value("window.ran") is None
    assert any(each["method"] == "Log.entryAdded" for each in chromium.events[before:])
