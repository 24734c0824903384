"""README and docs/ as what can be checked: their fenced blocks, and why one is not run.

In a page:
    ```bash                                  run, in order, in one folder of the page's own; the first error ends it
    ```console                               lines after "$ " are run; what stands below must be in what they print,
                                             line by line ("..." stands for anything)
    ```python title="FILE"  (any language)   written to FILE there
    <!-- not run: REASON -->                 before a block: shown only; its commands must still compose
    <!-- run by tests/FILE.py -->            anywhere: that test follows the page
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
    """One fenced block. reason: why it is not run, else empty. title: the file that it is, else empty."""

    language: str
    title: str
    text: str
    reason: str

    @property
    def script(self) -> str:
        """What a shell is to run."""
        return "".join(f"{line.removeprefix('$ ')}\n" for line, typed in self._lines() if typed)

    @property
    def printed(self) -> list[str]:
        """What must be printed, a line each, parts between "..." apart; white space is as may be."""
        shown = [line for line, typed in self._lines() if not typed]
        parts = [" ".join(part.split()) for line in shown for part in line.split("...")]
        return [part for part in parts if part]

    def _lines(self) -> Iterator[tuple[str, bool]]:
        """Each line, and whether it is typed rather than printed; a command may go on in the next line."""
        goes_on = False
        for line in self.text.splitlines():
            typed = self.language == "bash" or goes_on or line.startswith("$ ")
            yield line, typed
            goes_on = typed and line.endswith("\\")


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    found = FENCE.finditer(page.read_text(encoding="utf-8"))
    return [Block(m["language"], m["title"] or "", m["text"], m["reason"] or "") for m in found]


def followed_by(page: Path) -> str:
    """The test that follows the page, where it has one of its own."""
    found = re.search(r"^<!-- run by (\S+) -->$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else ""


def commands(block: Block) -> Iterator[list[str]]:
    """The words of each simple command of a shell block; a heredoc's text is no command."""
    text = re.sub(r"<<'?(\w+)'?(.*?)\n.*?^\1$", r"\2", block.script, flags=re.DOTALL | re.MULTILINE)
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words and re.fullmatch(r"\w+=.*", words[0]):  # variables of the environment
            words = words[1:]
        if words:
            yield words
