"""The leaderboard in a real browser: sorting, filters, comparison, keyboard, small screens, and hostile content."""

from __future__ import annotations

import dataclasses
import itertools
import re
import threading
import time
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from shiftbench.leaderboard import build, write_folder
from shiftbench.report import write_report
from tests.report.browser import CHROMIUM, Browser, browser
from tests.report.sample import summary
from tests.report.test_report import HOSTILE

from .runs import Planted, entries, row

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason=f"{CHROMIUM} is not installed"),
]
RAN = "window.alert = () => { window.ran = true }"
REPORT = b"<!doctype html><title>The report</title>"
# All ways in which a page can act by itself or on a click. WATCH is a server that must get no request.
PLANTED_REPORT = """<!doctype html><title>planted</title>
<script>top.ran = 1; parent.document.title = "taken"; fetch("WATCH/fetch"); new Image().src = "WATCH/script"</script>
<meta http-equiv="refresh" content="0; url=WATCH/refresh"><base href="WATCH/" target="_top">
<link rel="stylesheet" href="WATCH/style"><link rel="prefetch" href="WATCH/prefetch"><style>@import "WATCH/import";
p { background: url(WATCH/background) } @font-face { font-family: x; src: url(WATCH/font) } b { font-family: x }</style>
<img src="WATCH/image" onerror="top.ran = 2" onload="top.ran = 3">
<svg onload="top.ran = 4"><script>top.ran = 5</script></svg>
<iframe src="WATCH/frame"></iframe><iframe srcdoc="<script>top.ran = 6</script>"></iframe>
<object data="WATCH/object"></object><embed src="WATCH/embed"><video src="WATCH/video" autoplay></video>
<form action="WATCH/form" id="form"><input name="x" autofocus onfocus="top.ran = 7">
<button id="send">send</button></form>
<a id="out" href="WATCH/out">out</a> <a id="js" href="javascript:top.ran = 8">js</a> <p style="color: red">text <b>b</b>
<a id="top" href="WATCH/top" target="_top">top</a> <a id="new" href="WATCH/new" target="_blank">new</a>
"></iframe><script>top.ran = 9</script><!-- ' --> </textarea></style></title><script>top.ran = 10</script>
"""
PROBE = row("probe", "gain", 0.04, 0.01, 0.07)
UNCLEAR = {"verbs": (0.01, -0.1, 0.12), "none_share_fall": (0.01, -0.1, 0.12)}
PLANTED = (
    Planted("alpha", "org/small", size="135M", scores={**UNCLEAR, "recognition": (0.3, 0.25, 0.35)}),
    Planted("bravo", "org/small", size="135M",
            scores={**UNCLEAR, "recognition": (0.1, 0.05, 0.15), "verbs": (0.4, 0.3, 0.5)}),
    Planted("charlie", "org/large", size="7B", family="qwen2", extra=[PROBE],
            scores={**UNCLEAR, "recognition": (0.2, 0.18, 0.22)}, tags={"flags": "unfaithful:base"}),
    Planted("delta", "org/other", size="1.7B", family="qwen2", scores={**UNCLEAR, "recognition": (-0.1, -0.2, 0.0)}),
)  # fmt: skip
MORE = ("instruction_recognition.prompt_density_rise", "instruction_position", "key_part_gain")
KEYS = {"Tab": (9, ""), "Enter": (13, "\r"), " ": (32, " "), "Escape": (27, "")}


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as page:
        page.call("Page.addScriptToEvaluateOnNewDocument", source=RAN)
        yield page


def address(folder: Path, planted: Sequence[Planted], report: bytes = REPORT) -> str:
    board = build(entries(*planted), [])
    return write_folder(board, {entry.run_id: report for each in board for entry in each.rows}, folder).as_uri()


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> str:
    return address(tmp_path_factory.mktemp("board") / "x", PLANTED)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> str:
    texts = [*(text for text in HOSTILE if text), "</script><script>alert(1)</script>", "W" * 300, "__proto__", "table"]
    planted = [
        Planted(text, text, f"{text}/t", text, text, seed=i, tags={"flags": text},
                extra=[row(text, text, 0.1, 0, 0.2)] * (i == 1))
        for i, text in enumerate(texts)
    ]  # fmt: skip
    return address(tmp_path_factory.mktemp("hostile") / "x", [*planted, *PLANTED])


def shown(page: Browser) -> list[str]:
    return page.value("[...document.querySelectorAll('#table tbody tr:not([hidden]) .pair')].map(e => e.textContent)")


def press(page: Browser, key: str, times: int = 1) -> None:
    code, text = KEYS[key]
    for _ in range(times):
        for kind in ("keyDown", "keyUp"):
            more = {"text": text} if text and kind == "keyDown" else {}
            page.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **more)


def click(page: Browser, selector: str) -> None:
    """Click on the middle of an element with the mouse."""
    box = page.value(
        f"(() => {{ const e = document.querySelector({selector!r}); e.scrollIntoView({{block: 'center'}}); "
        f"const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2] }})()"
    )
    for kind in ("mousePressed", "mouseReleased"):
        page.call("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)


def choose(page: Browser, key: str, value: str) -> None:
    page.value(
        f"(() => {{ const s = document.querySelector('select[data-of={key}]'); s.value = {value!r}; "
        f"s.dispatchEvent(new Event('change')) }})()"
    )


def eventually(page: Browser, expression: str) -> bool:
    """Whether the expression becomes true within five seconds: a dialog's close event comes a moment later."""
    end = time.monotonic() + 5
    while time.monotonic() < end:
        if page.value(expression):
            return True
    return False


def focused(page: Browser) -> str:
    return page.value("document.activeElement.getAttribute('aria-label') || document.activeElement.textContent.trim()")


def logged(events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    names = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Network.loadingFailed")
    return [each for each in events if each["method"] in names]


def test_the_first_finding_sorts_the_table_and_a_click_sorts_by_another(chromium: Browser, board: str) -> None:
    chromium.open(board)
    sorts = "[...document.querySelectorAll('#table th[aria-sort]')].map(e => e.getAttribute('aria-sort'))"
    assert shown(chromium) == ["alpha", "charlie", "bravo", "delta"]
    assert chromium.value(sorts).count("descending") == 1
    click(chromium, "button[data-key=column-0]")
    assert shown(chromium) == ["delta", "bravo", "charlie", "alpha"]
    click(chromium, "button[data-key=column-1]")
    assert shown(chromium)[0] == "bravo"
    click(chromium, "button[data-key=name]")
    assert shown(chromium) == ["alpha", "bravo", "charlie", "delta"]
    assert chromium.value(sorts).count("ascending") == 1 and chromium.value(sorts).count("descending") == 0
    click(chromium, "button[data-key=size]")
    assert shown(chromium)[:2] == ["charlie", "delta"]
    for _ in range(2):  # rows without a value stay last in both directions
        click(chromium, "button[data-key=column-3]")
        assert shown(chromium)[0] == "charlie"


def test_words_ranks_and_flags_are_on_the_page(chromium: Browser, board: str) -> None:
    chromium.open(board)
    ranks = chromium.value(
        "[...document.querySelectorAll('#table td.score:nth-of-type(3) .says')].map(e => e.innerText)"
    )
    said = [re.sub(r"\s+", " ", rank).strip() for rank in ranks]
    assert said == ["rank 1 supported", "rank 2 supported", "rank 3 supported", "not clear"]
    flags = chromium.value("[...document.querySelectorAll('.flag')].map(e => e.textContent)")
    assert flags == ["attributions of base not better than random"]
    click(chromium, "#table td.score:nth-of-type(3) summary")
    assert "contains 0" in chromium.value("document.querySelector('details.why[open]').innerText")


def test_filters_narrow_together_and_clear(chromium: Browser, board: str) -> None:
    chromium.open(board)
    choose(chromium, "family", "qwen2")
    assert shown(chromium) == ["charlie", "delta"]
    choose(chromium, "size", "7B")
    assert shown(chromium) == ["charlie"]
    assert chromium.value("document.getElementById('shown').textContent") == "1 of 4 pairs"
    click(chromium, "#clear")
    assert len(shown(chromium)) == 4
    choose(chromium, "base", "org/small")
    assert shown(chromium) == ["alpha", "bravo"]
    choose(chromium, "base", "")
    click(chromium, "#find")
    chromium.call("Input.insertText", text="LARGE char")
    assert shown(chromium) == ["charlie"]
    chromium.call("Input.insertText", text="x")
    assert shown(chromium) == [] and chromium.value("document.getElementById('empty').hidden") is False


def test_two_pairs_are_compared_by_mouse(chromium: Browser, board: str) -> None:
    chromium.open(board)
    for name in ("alpha", "delta", "bravo"):  # the third one replaces the first
        click(chromium, f"[aria-label='Compare {name}']")
    assert chromium.value("document.getElementById('chosen').textContent") == "delta and bravo"
    click(chromium, "#open")
    assert chromium.value("document.getElementById('side').open") is True
    assert chromium.value("[...document.querySelectorAll('dialog h3')].map(e => e.textContent)") == ["delta", "bravo"]
    text = chromium.value("document.querySelector('dialog .plain').innerText")
    assert re.search(r"Recognises the instruction\s+not clear: the interval .* contains 0\s+supported", text)
    text = chromium.value("document.querySelectorAll('dialog .plain')[1].innerText")
    assert re.search(
        r"recognition: recognition\s+-0.100 \[-0.200, \+0.000\]\s+\+0.100 \[\+0.050, \+0.150\]\s+"
        r"intervals do not overlap",
        text,
    )
    assert chromium.value("document.querySelectorAll('dialog .headline > .cell').length") == 8
    assert chromium.value("location.hash") == "#compare=delta&with=bravo"
    click(chromium, "dialog .close")
    assert chromium.value("document.getElementById('side').open") is False
    assert eventually(chromium, "location.hash === ''")
    chromium.open("about:blank")
    chromium.open(f"{board}#compare=charlie&with=alpha")
    assert chromium.value("[...document.querySelectorAll('dialog h3')].map(e => e.textContent)") == ["charlie", "alpha"]


def test_everything_works_by_keyboard(chromium: Browser, board: str) -> None:
    chromium.open("about:blank")
    chromium.open(board)
    press(chromium, "Tab")
    assert focused(chromium) == "Skip to the table"
    seen = []
    for _ in range(60):
        press(chromium, "Tab")
        seen.append(focused(chromium))
        if seen[-1] == "Heads encode instruction verbs":
            break
    outline = chromium.value("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid" and "Leaderboard" in seen
    press(chromium, "Enter")
    assert shown(chromium)[0] == "bravo"
    wanted = ["Compare bravo", "Compare alpha"]
    for _ in range(60):
        press(chromium, "Tab")
        if focused(chromium) in wanted:
            wanted.remove(focused(chromium))
            press(chromium, " ")
        if focused(chromium) == "Compare":
            break
    assert wanted == []
    press(chromium, "Enter")
    assert chromium.value("document.getElementById('side').open") is True and focused(chromium) == "Close"
    press(chromium, "Tab", 12)
    assert chromium.value(
        "document.getElementById('side').contains(document.activeElement) || document.activeElement === document.body"
    )
    press(chromium, "Escape")
    assert eventually(chromium, "!document.getElementById('side').open && document.activeElement.id === 'open'")


def test_links_open_the_report_and_the_page_of_a_base(chromium: Browser, board: str) -> None:
    chromium.open(board)
    link = chromium.value("document.querySelector('a.pair').href")
    chromium.open(link)
    assert chromium.value("document.title") == "alpha · shiftbench"
    assert framed(chromium, "document.title") == "The report"
    chromium.open(chromium.value("document.querySelector('header a').href"))
    assert chromium.value("location.href") == board
    chromium.open(board)
    chromium.open(chromium.value("document.querySelector('.bases a').href"))
    assert shown(chromium) == ["alpha", "bravo"]
    assert chromium.value("document.querySelector('h1').innerText") == "What tuning changed in org/small"
    click(chromium, "button[data-key=column-0]")
    assert shown(chromium) == ["bravo", "alpha"]
    chromium.open(chromium.value("document.querySelector('.kicker a').href"))
    assert len(shown(chromium)) == 4


def every_word(folder: Path) -> str:
    """The address of a board of ten pairs and seven columns with every word, beside two other groups."""
    check = [row("attribution_faithfulness", "comprehensiveness_over_random_base", 0.02, 0.0, 0.04, 20)]
    said: list[dict[str, Any]] = [
        {}, {"draws": 59}, {"draws": 19}, {"p_uncorrected": 0.03},
        {"verdict": "not trustworthy", "reasons": ["why " * 30]},
        {"verdict": "not applicable", "n": 0}, {"verdict": "opposite"}, {"draws": 0}, {"headline": "x" * 30},
    ]  # fmt: skip
    plain: dict[str, Any] = {key: {} for key in MORE}
    pairs = [
        Planted(f"pair_{i}", f"organisation/long-name-of-a-base-model-{i}b", seed=i, extra=check, size="7B",
                verdicts={None: {"draws": 999}, **plain, MORE[0]: fields, "instruction_verbs": fields},
                tags={"flags": "unfaithful:base,unfaithful:tuned" if i % 3 == 0 else ""})
        for i, fields in enumerate(said)
    ]  # fmt: skip
    others = [Planted("pair_1", old=True, pair={"dtype": "bfloat16"}), Planted("a", pair={"prompt_set": "x"})]
    found = entries(*others, *pairs, Planted("old", old=True, extra=check))
    boards = build([dataclasses.replace(one, levels=("attribution_faithfulness",)) for one in found], [])
    return write_folder(boards, {}, folder).as_uri()


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> str:
    return every_word(tmp_path_factory.mktemp("words") / "x")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_ten_pairs_with_every_word_fit_and_only_supported_ones_have_a_colour(
    chromium: Browser, words: str, width: int, dark: bool
) -> None:
    chromium.open(words, width, dark)
    assert len(shown(chromium)) == 10
    assert chromium.value("document.querySelectorAll('#table thead .sort').length") == 7 + 3
    assert chromium.value("document.documentElement.scrollWidth") == width
    assert chromium.value("(e => e.scrollWidth <= e.clientWidth)(document.querySelector('.scroll'))")
    said = chromium.value("[...new Set([...document.querySelectorAll('#table .word')].map(e => e.textContent))]")
    assert {"supported", "supported alone", "opposite", "not clear", "not trustworthy", "not applicable",
            "no verdict"} <= set(said)  # fmt: skip
    assert chromium.value("document.querySelectorAll('.cell:not(.supported) .rank').length") == 0
    tuned = "rgb(242, 161, 95)" if dark else "rgb(194, 87, 12)"
    coloured = chromium.value(
        "[...document.querySelectorAll('#table *, #table svg *')].filter(e => ((s, c) => [s.color, s.backgroundColor, "
        f"s.stroke, s.fill, s.borderTopColor].includes(c))(getComputedStyle(e), '{tuned}'))"
        ".map(e => !!e.closest('.cell.supported'))"
    )
    assert coloured and all(coloured)
    assert len(coloured) >= 2 * chromium.value("document.querySelectorAll('.cell.supported').length") > 0


def test_the_picker_leads_to_every_group_without_scripts(chromium: Browser, words: str) -> None:
    chromium.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        chromium.open(words)
        assert chromium.value("document.querySelector('.groups').open") is False
        click(chromium, ".groups summary")
        items = chromium.value("[...document.querySelectorAll('.groups li')].map(e => e.innerText)")
        assert len(items) == 3 and "10 pairs, 1970-01-01" in items[0] and "scored by an older version" in items[2]
        assert all(item.startswith("252 prompts, 200 tokens, suite all, ") for item in items)
        chromium.open(chromium.value("document.querySelectorAll('.groups a')[1].href"))
        assert shown(chromium) == ["pair_1"]
        assert chromium.value("document.querySelector('.groups summary').innerText").endswith(
            "2 other groups of comparable runs"
        )
        chromium.open(chromium.value("document.querySelector('.groups a').href"))
        assert chromium.value("location.href") == words
    finally:
        chromium.call("Emulation.setScriptExecutionDisabled", value=False)


def framed(page: Browser, expression: str) -> Any:
    """The value of an expression in the framed report, once the report is loaded."""
    session = page.frame()
    end = time.monotonic() + 10
    while page.frame_value(session, "document.readyState") != "complete" and time.monotonic() < end:
        time.sleep(0.02)
    return page.frame_value(session, expression)


@pytest.fixture
def watch() -> Iterator[tuple[str, list[str]]]:
    """(address, paths of the requests so far) of a server."""
    requests: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(self.path)
            self.send_response(200)
            self.end_headers()

        do_POST = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", requests
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("opened", ["from the board", "directly"])
def test_a_planted_report_runs_nothing_and_sends_no_request(
    chromium: Browser, tmp_path: Path, watch: tuple[str, list[str]], opened: str
) -> None:
    """Someone put a hostile page into MLflow in place of a report. It has a script and tries every other way to act."""
    server, requests = watch
    report = PLANTED_REPORT.replace("WATCH", server).encode() + b"\xff\x00"
    (tmp_path / "planted.html").write_bytes(report)
    chromium.open((tmp_path / "planted.html").as_uri())  # opened directly, the page does send requests
    end = time.monotonic() + 10
    while "/fetch" not in requests and time.monotonic() < end:
        time.sleep(0.02)
    assert "/fetch" in requests
    chromium.open("about:blank")
    time.sleep(0.2)  # wait for requests that are on their way
    requests.clear()
    board = address(tmp_path / "x", PLANTED[:1], report)
    own = board.replace("leaderboard.html", "reports/alpha.html")
    if opened == "directly":
        chromium.open(own)
    else:
        chromium.open(board)
        before = len(chromium.events)
        click(chromium, "a.pair")
        while not any(event["method"] == "Page.loadEventFired" for event in chromium.events[before:]):
            chromium.value("1")
    assert framed(chromium, "document.title") == "planted"
    assert framed(chromium, "self.origin") == "null"
    for each in ("out", "js", "top", "new", "send"):
        framed(chromium, f"document.getElementById({each!r}).click()")
    time.sleep(0.3)  # a request would have arrived by now
    assert requests == []
    assert chromium.value("window.ran") is None and chromium.value("location.href") == own
    assert chromium.value("document.title") == "alpha · shiftbench" and chromium.value("document.scripts.length") == 0
    assert chromium.value("document.querySelectorAll('iframe').length") == 1
    assert chromium.value("document.querySelector('iframe').sandbox.length") == 0
    served = (tmp_path / "x" / "reports" / "alpha.html").read_text()
    assert "<script" not in served and server not in re.sub(r'srcdoc="[^"]*"', "", served)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_our_own_report_is_complete_in_its_frame(chromium: Browser, tmp_path: Path, dark: bool) -> None:
    report = write_report(summary(), tmp_path / "report")
    board = address(tmp_path / "x", PLANTED[:1], report.read_bytes())
    before = len(chromium.events)
    chromium.open(board.replace("leaderboard.html", "reports/alpha.html"), dark=dark)
    assert framed(chromium, "document.querySelectorAll('.picture svg').length") > 3
    background = framed(chromium, "getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(20, 23, 28)" if dark else "rgb(255, 255, 255)")
    token = "getComputedStyle(document.querySelector('article.prompt figure span')).backgroundColor"
    assert framed(chromium, token).startswith("rgba(")
    framed(chromium, "document.querySelector('.answer a').click()")
    end = time.monotonic() + 10
    while not framed(chromium, "document.scrollingElement.scrollTop") and time.monotonic() < end:
        time.sleep(0.02)
    assert framed(chromium, "location.hash") == "#finding-1"
    assert logged(chromium.events[before:]) == []


def test_a_report_of_an_earlier_version_keeps_its_colours(chromium: Browser, tmp_path: Path) -> None:
    """Reports of earlier versions have style attributes, which no digest admits."""
    old = b'<!doctype html><title>old</title><style>p{margin:0}</style><p style="color:rgb(1,2,3)">a</p>'
    board = address(tmp_path / "x", PLANTED[:1], old)
    before = len(chromium.events)
    chromium.open(board.replace("leaderboard.html", "reports/alpha.html"))
    assert framed(chromium, "getComputedStyle(document.querySelector('p')).color") == "rgb(1, 2, 3)"
    assert logged(chromium.events[before:]) == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390, 320])
def test_hostile_names_do_nothing_and_fit(chromium: Browser, hostile: str, width: int, dark: bool) -> None:
    before = len(chromium.events)
    chromium.open(hostile, width, dark)
    assert len(shown(chromium)) == len(HOSTILE) - 1 + 4 + len(PLANTED)
    for i in (0, 1):
        chromium.value(f"document.querySelectorAll('.compare')[{i}].click()")
    stems = chromium.value("[...document.querySelectorAll('#table tbody tr')].map(e => e.dataset.stem)")
    for first, second in itertools.pairwise(stems):
        chromium.value(f"document.querySelector('[data-stem={first!r}] .compare:not(:checked)')?.click()")
        chromium.value(f"document.querySelector('[data-stem={second!r}] .compare:not(:checked)')?.click()")
        chromium.value("document.getElementById('open').click()")
        assert chromium.value("document.querySelectorAll('dialog[open] h3').length") == 2
        assert chromium.value(
            "document.getElementById('side').scrollWidth <= document.getElementById('side').clientWidth"
        )
        chromium.value("document.getElementById('side').close()")
    chromium.value(
        "{ const f = document.getElementById('find'); f.value = '<script>'; f.dispatchEvent(new Event('input')) }"
    )
    assert shown(chromium)
    assert chromium.value("document.documentElement.scrollWidth") == width
    assert chromium.value("window.ran") is None
    assert chromium.value("document.scripts.length") == 2 and chromium.value("document.images.length") == 0
    seen = chromium.events[before:]
    requests = [each["params"]["request"]["url"] for each in seen if each["method"] == "Network.requestWillBeSent"]
    assert requests == [hostile]
    assert logged(seen) == []


def test_the_policy_stops_what_escaping_missed(chromium: Browser, board: str) -> None:
    """If a script or a style got into the page, the policy would not admit it."""
    chromium.open(board)
    add = "{{ const e = document.createElement({!r}); e.{} = {!r}; document.body.append(e) }}"
    chromium.value(add.format("script", "textContent", "alert(1)"))
    chromium.value(add.format("p", "innerHTML", "<img src=x onerror=alert(1)>"))
    chromium.value(add.format("style", "textContent", "body{display:none}"))
    assert chromium.value("window.ran") is None
    assert chromium.value("getComputedStyle(document.body).display") == "block"


def test_the_table_is_complete_without_scripts(chromium: Browser, board: str) -> None:
    chromium.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        chromium.open(board)
    finally:
        chromium.call("Emulation.setScriptExecutionDisabled", value=False)
    assert shown(chromium) == ["alpha", "charlie", "bravo", "delta"]
    assert chromium.value("getComputedStyle(document.querySelector('.controls')).display") == "none"
    assert chromium.value("getComputedStyle(document.querySelector('.choose')).display") == "none"
