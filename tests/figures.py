"""Figures that pages state: `python -m tests.figures NAME RUN` puts a run's scores into docs/results/NAME.json.

A table behind <!-- figures: NAME --> states scores of that file, each in a row that begins with its name; in one behind
<!-- figures: NAME, NAME, ... --> a row begins with the pair. tests/test_readme.py compares them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"
PATHS = ("base", "tuned")  # where the models lay is nobody's business


def keep(name: str, run: Path) -> None:
    """A run's scores.json without its paths."""
    document = json.loads((run / "scores.json").read_text(encoding="utf-8"))
    document["pair"] = {key: value for key, value in document["pair"].items() if key not in PATHS}
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps({key: document[key] for key in ("versions", "pair", "scores")}, indent=1) + "\n"
    (RESULTS / f"{name}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    keep(sys.argv[1], Path(sys.argv[2]))
