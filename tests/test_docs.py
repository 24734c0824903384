"""Every command in README and docs/ is run, or at least composed where a comment says why it is not run.

Citations of pages and links between them lead to sections that exist.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from shiftbench.commands import COMMANDS
from shiftbench.commands import main as shiftbench
from shiftbench.config import composition
from shiftbench.sweep import command_line, launcher
from tests.pages import PAGES, ROOT, SHELL, Block, anchor, blocks, commands, followed_by, links, sections

NOT_RUN = [
    pytest.param(block, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, block in enumerate(blocks(page))
    if block.language in SHELL and (block.reason or followed_by(page))
]
TO_RUN = [
    page for page in PAGES if not followed_by(page) and any(not b.reason for b in blocks(page) if b.language in SHELL)
]
NUMBER = re.compile(r"[-+]?\d+\.\d+(?:e[-+]\d+)?")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
CITING = [
    path
    for folder in ("shiftbench", "csrc", "tests", "conf", "docs")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in (".py", ".pyi", ".h", ".cpp", ".cu", ".cuh", ".yaml")
]
QUOTED = r"'[^']+'|\"[^\"]+\""
CITATION = re.compile(rf"docs/([a-z_]+\.md)((?:(?:,| and)(?: sections?)? (?:{QUOTED}))*)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_has_plain_fences_and_names_a_test_that_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    fences = [line for line in text.splitlines() if line.startswith("```") and line != "```"]
    assert len(fences) == len(blocks(page)), "tests/pages.py does not recognise one of the fences"
    assert all(block.language for block in blocks(page)), "a fence without a language is neither run nor checked"
    assert text.count("<!-- not run") == sum(bool(block.reason) for block in blocks(page))
    follower = followed_by(page)
    assert not follower or page.name in (ROOT / follower).read_text(encoding="utf-8")


def test_citations_of_pages_in_the_code_lead_to_sections_that_exist() -> None:
    """A docstring or comment cites a page as docs/PAGE.md, or docs/PAGE.md, 'Section' with the title of a section."""
    missing = [
        f"{path.relative_to(ROOT)}: docs/{name} {title}".rstrip()
        for path in CITING
        for name, titles in CITATION.findall(one_line(path.read_text(encoding="utf-8")))
        for title in ([quoted[1:-1] for quoted in re.findall(QUOTED, titles)] or [""])
        if not (ROOT / "docs" / name).exists() or (title and title not in sections(ROOT / "docs" / name))
    ]
    assert not missing


def one_line(text: str) -> str:
    """The text with its line breaks, and the marks of comments behind them, as single spaces."""
    return re.sub(r"\s*\n\s*(?:(?://|#)\s*)?", " ", text)


@pytest.mark.parametrize("page", [ROOT / "SECURITY.md", *PAGES], ids=lambda page: page.stem)
def test_links_of_a_page_lead_to_files_and_sections_that_exist(page: Path) -> None:
    generated = {"notebook.md", "configuration.md"}  # by docs/hooks.py; the strict build of the site checks their links
    for path, part in links(page):
        if path in generated:
            continue
        target = page.parent / path if path else page
        assert target.exists(), path
        assert not part or part in map(anchor, sections(target)), f"{path}#{part}"


@pytest.mark.parametrize("block", NOT_RUN)
def test_a_command_that_is_not_run_here_composes(block: Block) -> None:
    """Every option and every choice of a shiftbench command exists. So does every target of make."""
    for program, *words in commands(block):
        if program == "make":
            assert all(re.search(rf"^{word}:", MAKEFILE, re.MULTILINE) for word in words if "=" not in word), words
        elif program == "shiftbench":
            composes(words)


def composes(words: list[str]) -> None:
    command, rest = words[0], [re.sub(r"\$\(.*?\)|\$\w+", "x", word) for word in words[1:] if word not in (">", "|")]
    if command.startswith("-") or "--help" in rest:
        assert shiftbench(words) == 0
        return
    assert command in COMMANDS
    if command == "score":
        composition.register_resolvers()
        settings, _ = command_line.split_arguments(rest)
        command_line.compose_jobs(rest)
        launcher.check(settings, Path("x"))
    else:
        verbs = [word for word in rest if "=" not in word and not word.startswith("~")]
        assert len(verbs) <= 1
        # `annotate` is also a config group, so the command's own configuration has its verb's name too.
        name = "annotate_check" if command == "annotate" else command
        composition.compose(name, [word for word in rest if word not in verbs])


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for all pages, so that a page finds the explanations of the pages before it."""
    workers_own = tmp_path_factory.getbasetemp()
    folder = (workers_own.parent if "PYTEST_XDIST_WORKER" in os.environ else workers_own) / "store-of-all-pages"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.mark.docs
@pytest.mark.parametrize("page", TO_RUN, ids=lambda page: page.stem)
def test_a_page_can_be_followed(page: Path, store: Path, tmp_path: Path) -> None:
    """The commands run in an empty folder, or in a copy of the clone where the page adds a file to the package."""
    if any(block.title.startswith("shiftbench/") for block in blocks(page)):
        clone(tmp_path)
    for block in blocks(page):
        if block.title:
            (tmp_path / block.title).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / block.title).write_text(block.text, encoding="utf-8")
    script, printed = "", []
    for number, block in enumerate(blocks(page)):
        if block.language in SHELL and not block.reason:
            script += f"echo '== block {number}'\n{block.script}"
            printed += block.printed
    done = follow(script, tmp_path, store)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    said = "\n".join(" ".join(line.split()) for line in (done.stdout + done.stderr).splitlines())
    assert [line for line in printed if line not in said] == [], said


def clone(folder: Path) -> None:
    """Put the package into the folder, as links to its files: a page can add a file and the clone does not change."""
    links = ["cp", "-rs"]
    subprocess.run([*links, ROOT / "shiftbench", folder / "shiftbench"], check=True)
    subprocess.run([*links, ROOT / "conf", folder / "shiftbench" / "conf"], check=True)
    (folder / "conf").symlink_to("shiftbench/conf")  # a new file in conf/ is then in the package, as in a clone


def follow(script: str, folder: Path, store: Path) -> subprocess.CompletedProcess[str]:
    """Run a script in bash, with the Python and the package of this test. The first error ends the script."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "XDG_"))}
    environment |= {
        "HOME": str(folder),
        "XDG_CACHE_HOME": str(store),
        "PATH": f"{Path(sys.executable).parent}:{environment['PATH']}",
        "PYTHONPATH": str(folder),
        "HF_HUB_OFFLINE": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=600,
    )  # fmt: skip


@pytest.mark.docs
def test_the_notebook_shows_what_its_cells_give(store: Path, tmp_path: Path) -> None:
    """The cells are executed in a new process. Words must be equal, and numbers within what another CPU may change."""
    (tmp_path / "notebook.ipynb").write_text((ROOT / "docs" / "notebook.ipynb").read_text(encoding="utf-8"))
    (tmp_path / "execute.py").write_text((ROOT / "docs" / "execute.py").read_text(encoding="utf-8"))
    done = follow("python execute.py", tmp_path, store)
    assert done.returncode == 0, done.stderr[-3000:]
    stored, found = (shown(folder / "notebook.ipynb") for folder in (ROOT / "docs", tmp_path))
    assert len(stored) == len(found) > 6
    for one, other in zip(stored, found, strict=True):
        assert NUMBER.sub("#", one).split() == NUMBER.sub("#", other).split()
        numbers = ([float(number) for number in NUMBER.findall(text)] for text in (other, one))
        assert next(numbers) == pytest.approx(next(numbers), abs=0.02)


def shown(notebook: Path) -> list[str]:
    """The text of each output of a notebook."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    return ["".join(output.get("text") or output["data"]["text/plain"]) for output in outputs]


@pytest.mark.docs
def test_the_site_builds_and_loads_nothing_from_outside(tmp_path: Path) -> None:
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "-f", ROOT / "mkdocs.yml", "-d", tmp_path],
        capture_output=True, text=True,
    )  # fmt: skip
    assert built.returncode == 0, built.stdout + built.stderr
    pages = {page.name: page.read_text(encoding="utf-8") for page in tmp_path.glob("*.html")}
    assert {page.with_suffix(".html").name for page in PAGES if page.name != "README.md"} < set(pages)
    assert "findings.NAME.KEY" in pages["configuration.html"] and "<math" in pages["mathematics.html"]
    for name, html in pages.items():
        outside = re.findall(r"<(?:script|img|iframe)[^>]* src=\"?https?:[^>]*>|<link[^>]* href=\"?https?:[^>]*>", html)
        assert not [tag for tag in outside if 'rel="canonical"' not in tag], name
