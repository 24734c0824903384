"""Writes the outcome of certifications into docs/certification.md: `python -m tests.certify.page FOLDER ...`.

Each FOLDER is the folder `out` of a `shiftbench certify`. The documents are kept as docs/results/certification*.json,
and tests/certify/test_page.py fails where the page shows something else.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from shiftbench.certify.tally import markdown

ROOT = Path(__file__).parents[2]
PAGE, RESULTS = ROOT / "docs" / "certification.md", ROOT / "docs" / "results"
BEGIN = "<!-- certification: written by python -m tests.certify.page FOLDER ... -->"
END = "<!-- end of certification -->"


def kept() -> list[Path]:
    """The documents that the page shows, in order."""
    return sorted(RESULTS.glob("certification*.json"))


def page() -> str:
    """docs/certification.md with the tables of the kept documents."""
    text = PAGE.read_text(encoding="utf-8")
    tables = [markdown(json.loads(path.read_text(encoding="utf-8"))) for path in kept()]
    shown = "\n".join(tables) or "Nothing has been measured with this version yet.\n"
    return f"{text[: text.index(BEGIN)]}{BEGIN}\n{shown}{text[text.index(END) :]}"


def keep(folders: list[Path]) -> None:
    """Keep the documents of these folders in place of the earlier ones, and write the page."""
    documents = [json.loads((folder / "certification.json").read_text(encoding="utf-8")) for folder in folders]
    for path in kept():
        path.unlink()
    for number, document in enumerate(documents, start=1):
        text = json.dumps(document, indent=1) + "\n"
        (RESULTS / f"certification_{number}.json").write_text(text, encoding="utf-8")
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    keep([Path(folder) for folder in sys.argv[1:]])
