"""The leaderboard's folder: its files, that hostile names do nothing in them, and how the folder is replaced."""

from __future__ import annotations

import base64
import csv
import dataclasses
import hashlib
import io
import json
import os
import re
import stat
from pathlib import Path

import pytest

from shiftbench.errors import InputError
from shiftbench.leaderboard import build, data_files, write_folder, write_site
from shiftbench.leaderboard.site import check
from shiftbench.report.text import visible
from tests.report.test_report import HOSTILE, Page

from .runs import FINDINGS, Planted, entries, row

NAMES = (*(text for text in HOSTILE if text), "..", ".", "a/b", "a b", "a_b", "A_B", 'a"b', "a'b", "/etc/passwd", "-rf",
         "con", "__proto__", "table", "x" * 300, "</script><script>alert(1)</script>", "<!--<script>", "a|b`c`[d](e)",
         "=cmd|' /C calc'!A0", "é" * 150)  # fmt: skip
REPORT = b"<!doctype html><title>r</title>"


def written(folder: Path, *planted: Planted) -> Path:
    board = build(entries(*planted), [])
    return write_folder(board, {entry.run_id: REPORT for each in board for entry in each.rows}, folder)


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def hostile(text: str) -> Planted:
    """A run in which every string is this text."""
    scores = [row(text, text, 0.1, 0, 0.2), row(text, f"{text}_over_null", 0, 0, 1)]
    tags = {"flags": text}
    fixed = {name: (0.1, -0.1, 0.2) for names in FINDINGS.values() for name in names}
    null = {"kind": text, "draws": 99, "mean": 0.0, "low": 0.0, "high": 0.0, "place": 99}
    said = {"short": text, "reasons": [text, text], "claim": text, "sentence": text, "null": null, "low": -0.1}
    judged = {None: said, text: {"headline": text}, f"{text}.{text}": {"verdict": "supported", "headline": text}}
    return Planted(
        text, text, text, text, text, scores=fixed, extra=scores, tags=tags, versions={text: text},
        pair={"suite": text, "prompts": text, text: text}, verdicts=judged,
    )  # fmt: skip


@pytest.fixture(scope="module")
def all_hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile") / "board"
    written(folder, *(Planted(name, f"base {name}", f"{name} tuned", seed=i) for i, name in enumerate(NAMES)))
    return folder


def test_the_policy_of_every_page_admits_the_pages_own_blocks(all_hostile: Path) -> None:
    pages = list(all_hostile.rglob("*.html"))
    assert len(pages) > len(NAMES)
    for path in pages:
        text = path.read_text()
        [policy] = re.findall('<meta http-equiv="Content-Security-Policy" content="([^"]*)">', text)
        assert policy.startswith("default-src 'none'; ") and policy.endswith("base-uri 'none'; form-action 'none'")
        assert not re.search(r"unsafe|https?:|\*|'self'", policy)
        admitted = set(re.findall("'sha256-([^']*)'", policy))
        blocks = [
            *re.findall("<style>(.*?)</style>", text, re.DOTALL),
            *re.findall("<script>(.*?)</script>", text, re.DOTALL),
        ]
        assert admitted == {base64.b64encode(hashlib.sha256(block.encode()).digest()).decode() for block in blocks}
        names = {name for _, attributes in Page(text).elements for name in attributes}
        assert not any(name == "style" or name.startswith("on") for name in names)


def test_every_name_has_its_own_report_inside_the_folder(all_hostile: Path) -> None:
    reports = list((all_hostile / "reports").iterdir())
    assert len(reports) == len({path.name.casefold() for path in reports}) == len(NAMES)
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]{1,110}\.html", path.name) for path in reports)
    assert sorted(path.name for path in all_hostile.parent.iterdir()) == ["board"]
    rows = json.loads((all_hostile / "leaderboard.json").read_text())["rows"]
    assert {each["pair"]["name"] for each in rows} == set(NAMES)
    assert all((all_hostile / each["report"]).is_file() for each in rows)


@pytest.mark.parametrize("text", [text for text in NAMES if text], ids=ascii)
def test_hostile_text_is_shown_and_does_nothing(text: str, tmp_path: Path) -> None:
    pages = [
        written(tmp_path / "x", hostile(text)).read_text(),
        written(tmp_path / "y", hostile("harmless")).read_text(),
    ]
    seen, plain = map(Page, pages)
    assert [(tag, sorted(attrs)) for tag, attrs in seen.elements] == [
        (tag, sorted(attrs)) for tag, attrs in plain.elements
    ]
    assert not any(name.startswith("on") or name == "style" for _, attrs in seen.elements for name in attrs)
    assert visible(text) in "".join(seen.texts)
    for page in pages:
        data = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
        assert len(data) == 1 and "<" not in data[0]
        assert len(json.loads(data[0])) == 1


def test_the_policy_admits_no_address_and_no_unsafe_source(tmp_path: Path) -> None:
    page = written(tmp_path / "x", Planted("a")).read_text()
    policy = re.findall(r'Content-Security-Policy" content="([^"]+)"', page)[0].replace("&#39;", "'")
    assert policy.startswith("default-src 'none'; script-src 'sha256-") and "unsafe" not in policy
    assert not re.search(r"""(?:src|href)=["'](?:https?:)?//""", page)


def test_markdown_and_csv_hold_hostile_names(all_hostile: Path) -> None:
    lines = (all_hostile / "leaderboard.md").read_text().splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 2 + len(NAMES)
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in table} == {7}
    assert not any(re.search(r"(?<!\\)<", line) for line in lines)
    rows = list(csv.DictReader(io.StringIO((all_hostile / "leaderboard.csv").read_text())))
    assert len(rows) == len(NAMES)
    assert not any(
        value[:1] in "=+@" and value for each in rows for value in (each["pair"], each["base"], each["tuned"])
    )


def test_json_csv_and_markdown_agree(tmp_path: Path) -> None:
    same = {"verbs": (0.1, 0.05, 0.15), "none_share_fall": (0.0, -0.1, 0.1)}
    few = {"instruction_verbs": {"draws": 39}}
    written(tmp_path / "x", *(
        Planted(name, scores={"recognition": score, **same}, verdicts=few)
        for name, score in (("a", (0.3, 0.2, 0.4)), ("b", (0.1, 0.05, 0.15)))
    ))  # fmt: skip
    document = json.loads((tmp_path / "x" / "leaderboard.json").read_text())
    first, second = csv.DictReader(io.StringIO((tmp_path / "x" / "leaderboard.csv").read_text()))
    assert [each["pair"]["name"] for each in document["rows"]] == [first["pair"], second["pair"]] == ["a", "b"]
    assert document["rows"][1]["ranks"]["instruction_recognition"] == {"first": 2, "last": 2}
    assert document["rows"][1]["verdicts"]["instruction_recognition"]["word"] == "supported"
    said = {name.partition(".")[2]: second[name] for name in second if name.startswith("instruction_recognition.")}
    assert (said["verdict"], said["rank"], said["high"], said["headline"]) == ("supported", "2", "0.15", "recognition")
    assert float(said["p_board"]) == document["rows"][1]["verdicts"]["instruction_recognition"]["p_board"] <= 0.05
    alone = "supported alone; not over this board: 79 draws would be needed"
    assert (second["instruction_verbs.verdict"], second["instruction_verbs.rank"]) == (alone, "")
    assert document["schema"] == "shiftbench/leaderboard/2"
    assert document["correction"] == {
        "method": "Holm", "alpha": 0.05, "tests": 6, "standing": 2, "draws": [39, 1999], "needed": 79
    }  # fmt: skip
    assert [(each["pairs"], each["folder"]) for each in document["groups"]] == [(2, "")]
    markdown = (tmp_path / "x" / "leaderboard.md").read_text()
    cells = r"| supported, rank 2\: +0.100 \[+0.050, +0.150\] | " + alone.replace(":", r"\:") + r"\: +0.100 \["
    assert f"| [b](reports/b.html) | org/base-1b → org/base-1b-b | 1.2B {cells}" in markdown
    assert "Holm's method over the board's 6 tested claims" in markdown and "needs at least 79" in markdown


def test_every_group_has_a_folder_with_the_same_files(tmp_path: Path) -> None:
    other = {"prompt_set": "x", "prompts": 11}
    home = written(tmp_path / "x", Planted("a", "one"), Planted("b", "one"), Planted("a", "one", pair=other))
    below = [path for path in files(tmp_path / "x") if path.startswith("groups/")]
    assert [path.partition("/")[2].partition("/")[2] for path in below] == [
        "leaderboard.csv", "leaderboard.html", "leaderboard.json", "leaderboard.md", "reports/a.html"
    ]  # fmt: skip
    pages = [home, *home.parent.glob("groups/*/leaderboard.html"), *home.parent.glob("bases/*.html")]
    assert len(pages) == 3
    for page in pages:
        links = re.findall(r'href="([^#"]+)"', page.read_text())
        assert all((page.parent / link).is_file() for link in links)
        assert any("groups/" in link or link == "../../leaderboard.html" for link in links) == (
            "bases" not in str(page)
        )
    assert "11 prompts, 200 tokens, suite all, 1,999 permuted draws" in home.read_text()


def test_a_folder_of_an_earlier_version_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "leaderboard.json").write_text('{"schema": "shiftbench/leaderboard/1"}')
    check(tmp_path, "out")


def test_a_base_with_several_tuned_models_has_a_page(tmp_path: Path) -> None:
    home = written(tmp_path / "x", Planted("a", "one"), Planted("b", "one"), Planted("c", "two"))
    assert files(tmp_path / "x") == [
        "bases/one.html", "leaderboard.csv", "leaderboard.html", "leaderboard.json", "leaderboard.md",
        "reports/a.html", "reports/b.html", "reports/c.html",
    ]  # fmt: skip
    page = (tmp_path / "x" / "bases" / "one.html").read_text()
    for link in re.findall(r'href="([^#"]+)"', home.read_text()):
        assert (home.parent / link).is_file()
    for link in re.findall(r'href="([^#"]+)"', page):
        assert (tmp_path / "x" / "bases" / link).is_file()
    assert "../reports/a.html" in page and "reports/c.html" not in page


def test_a_board_of_checks_alone_has_no_words(tmp_path: Path) -> None:
    [run] = entries(Planted("a"))
    checks = dataclasses.replace(run, levels=tuple({score.finding for score in run.scores}))
    page = write_folder(build([checks], []), {}, tmp_path / "x").read_text()
    assert "check: " in page and 'class="word"' not in page and 'class="rank' not in page


def test_a_site_is_replaced_in_one_step(tmp_path: Path) -> None:
    one, two = build(entries(Planted("a")), []), build(entries(Planted("b")), [])
    site = tmp_path / "site"
    assert write_site(one, {"run0": REPORT}, site) == site / "index.html"
    os.chmod(site, 0o750)
    held = os.open(site, os.O_RDONLY)  # like a server that has the old folder open
    write_site(two, {}, site)
    assert files(site) == ["index.html", "leaderboard.csv", "leaderboard.json", "leaderboard.md"]
    assert stat.S_IMODE(site.stat().st_mode) == 0o750
    assert [path.name for path in tmp_path.iterdir()] == ["site"]
    assert os.listdir(held) == []  # the old folder was removed and never mixed with the new one
    os.close(held)
    assert "has no report" in (site / "index.html").read_text()


def test_a_new_folder_can_be_read_by_a_server(tmp_path: Path) -> None:
    written(tmp_path / "x", Planted("a"))
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o777 & ~umask


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("=1+1", "'=1+1"), ("+1", "'+1"), ("-1", "'-1"), ("@SUM(A1)", "'@SUM(A1)"), ("\t=1", "'\t=1"), (" =1", "' =1"),
        ("a;=1+1", "a;'=1+1"), ("a\r@x", "a\r'@x"), ("\uff1d1", "'\uff1d1"), ("a=b", "a=b"), ("a-b;c", "a-b;c"),
        ("", ""),
    ],
)  # fmt: skip
def test_a_spreadsheet_runs_no_name_as_a_formula(name: str, cell: str) -> None:
    assert data_files._without_formula(name) == cell
    assert data_files._without_formula(-1.5) == -1.5


def test_a_failure_leaves_the_old_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path / "x", Planted("a"))
    before = (tmp_path / "x" / "leaderboard.json").read_bytes()
    board = build(entries(Planted("b")), [])
    with pytest.raises(AttributeError):
        write_folder(board, {"run0": None}, tmp_path / "x")  # type: ignore[dict-item]
    assert (tmp_path / "x" / "leaderboard.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("content", [b"", b"[" * 100_000, b"null", b"{}", b'{"schema": 5}', b"\xff", None], ids=repr)
def test_a_folder_with_a_damaged_leaderboard_is_refused(content: bytes | None, tmp_path: Path) -> None:
    if content is None:
        os.mkfifo(tmp_path / "leaderboard.json")
    else:
        (tmp_path / "leaderboard.json").write_bytes(content)
    with pytest.raises(InputError, match="holds files that are not a leaderboard's"):
        check(tmp_path, "out")


def test_a_leaderboard_with_a_file_of_someone_else_is_refused(tmp_path: Path) -> None:
    folder = written(tmp_path / "x", Planted("a")).parent
    check(folder, "out")
    (folder / "CNAME").write_text("shift.example.org")
    with pytest.raises(InputError, match=r"x holds files that are not a leaderboard's, such as 'CNAME'"):
        check(folder, "out")


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("years")
    with pytest.raises(InputError, match=r"out=.*home holds files that are not a leaderboard's"):
        check(tmp_path / "home", "out")
    with pytest.raises(InputError, match=r"publish=.*thesis\.tex is not a plain folder"):
        check(tmp_path / "home" / "thesis.tex", "publish")
    (tmp_path / "link").symlink_to(tmp_path / "home")
    with pytest.raises(InputError, match="is not a plain folder"):
        check(tmp_path / "link", "out")
    with pytest.raises(InputError, match=r"cannot be written"):
        check(tmp_path / "home" / "thesis.tex" / "below", "out")
    check(tmp_path / "new" / "deep", "out")
    assert not (tmp_path / "new").exists()
    written(tmp_path / "ours", Planted("a"))
    check(tmp_path / "ours", "out")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_leaves_the_old_folder(tmp_path: Path) -> None:
    if os.system(f"mount -t tmpfs -o size=512k tmpfs {tmp_path} 2>/dev/null"):
        pytest.skip("this sandbox does not mount")
    try:
        written(tmp_path / "x", Planted("a"))
        before = files(tmp_path / "x")
        board = build(entries(Planted("b")), [])
        with pytest.raises(InputError, match=r"could not be written to .*the disk at .* is full: 1\.0 MiB"):
            write_folder(board, {"run0": b"x" * 2**20}, tmp_path / "x")
        assert files(tmp_path / "x") == before and os.listdir(tmp_path) == ["x"]
        with pytest.raises(InputError, match="is not a plain folder"):
            check(tmp_path, "publish")  # a mount point cannot be replaced
    finally:
        os.system(f"umount {tmp_path}")
