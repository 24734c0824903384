"""Keeps the scores and verdicts that pages state.

`python -m tests.figures NAME RUN` writes them to docs/results/NAME.json. RUN is the folder of results that they are
read from. In a page, the comment <!-- figures: NAME --> before a table
says that the table's figures are from that file. Each row then begins with the name of a score. With several names,
<!-- figures: NAME, NAME, ... -->, each row begins with the name of a pair. tests/test_readme.py compares the tables
with the files.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"
PATHS = ("base", "tuned")  # fields with paths of the machine that made the run; they are not kept


def keep(name: str, run: Path) -> None:
    """Write the scores of a run to docs/results/NAME.json, without paths of the machine that made them."""
    document = json.loads((run / "scores.json").read_text(encoding="utf-8"))
    document["pair"] = {key: value for key, value in document["pair"].items() if key not in PATHS}
    verdicts = {  # commands name folders of the machine too
        name: {key: value for key, value in verdict.items() if key != "next"}
        for name, verdict in document["verdicts"].items()
    }
    RESULTS.mkdir(exist_ok=True)
    kept = {"verdicts": verdicts, **{key: document[key] for key in ("versions", "pair", "scores")}}
    text = json.dumps(kept, indent=1) + "\n"
    (RESULTS / f"{name}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    keep(sys.argv[1], Path(sys.argv[2]))
