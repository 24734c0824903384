"""Reads README and the pages of docs/ for the tests: their fenced blocks, their sections and their links.

A page may contain:
    ```bash                                  The block is run, in order, in a folder of the page's own. The first error
                                             ends the run.
    ```console                               Lines that begin with "$ " are run. Each line below them must be in the
                                             output; "..." stands for any text.
    ```python title="FILE"  (any language)   The block is written to FILE in that folder.
    <!-- not run: REASON -->                 The block below is not run. Its commands must still compose.
    <!-- run by tests/FILE.py -->            That test runs the commands of the page.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(
    r"^(?:<!-- not run: (?P<reason>[^\n]*?) -->\n+)?```(?P<language>\w*)(?: title=\"(?P<title>[^\"]+)\")?[^\n]*\n"
    r"(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
SHELL = ("bash", "console")


@dataclass(frozen=True)
class Block:
    """One fenced block.

    reason: why the block is not run; empty where it is run. title: the file that it is written to; empty where there
    is none.
    """

    language: str
    title: str
    text: str
    reason: str

    @property
    def script(self) -> str:
        """The commands of the block, as a script for a shell."""
        return "".join(f"{line.removeprefix('$ ')}\n" for line, is_command in self._lines() if is_command)

    @property
    def printed(self) -> list[str]:
        """The texts that the output must contain: each line, split at "...". Runs of white space are one space."""
        output = [line for line, is_command in self._lines() if not is_command]
        parts = [" ".join(part.split()) for line in output for part in line.split("...")]
        return [part for part in parts if part]

    def _lines(self) -> Iterator[tuple[str, bool]]:
        """(line, whether it is a command). A command may continue on the next line; all other lines are output."""
        continues = False
        for line in self.text.splitlines():
            is_command = self.language == "bash" or continues or line.startswith("$ ")
            yield line, is_command
            continues = is_command and line.endswith("\\")


def sections(page: Path) -> list[str]:
    """The titles of a page's sections, without their marks. Lines in fenced blocks are no titles."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    return [title.strip() for title in re.findall(r"^#+ (.+)$", text, re.MULTILINE)]


def anchor(title: str) -> str:
    """The anchor of a section, as GitHub and mkdocs derive it from the title."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def links(page: Path) -> list[tuple[str, str]]:
    """(path, anchor) of each link of a page that stays in the repository; either may be empty."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    return [(path, part) for path, _, part in (t.partition("#") for t in targets if "://" not in t)]


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    found = FENCE.finditer(page.read_text(encoding="utf-8"))
    return [Block(m["language"], m["title"] or "", m["text"], m["reason"] or "") for m in found]


def followed_by(page: Path) -> str:
    """The test file that runs the commands of the page, as the page names it; empty where it names none."""
    found = re.search(r"^<!-- run by (\S+) -->$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else ""


def commands(block: Block) -> Iterator[list[str]]:
    """The words of each simple command of a shell block. The text of a heredoc is left out."""
    text = re.sub(r"<<'?(\w+)'?(.*?)\n.*?^\1$", r"\2", block.script, flags=re.DOTALL | re.MULTILINE)
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words and re.fullmatch(r"\w+=.*", words[0]):  # assignments of environment variables before the command
            words = words[1:]
        if words:
            yield words
