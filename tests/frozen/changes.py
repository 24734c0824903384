"""Adds what differs from recorded.json today, and is not listed yet, to changed.json:

    python -m tests.frozen.changes 'issue 19: claims have verdicts (CHANGELOG, Unreleased)'

The argument is the reason. Rows whose value is the recorded one again are taken out, and rows whose value changed once
more keep their reason. Read `git diff tests/frozen/changed.json` before committing it: each row is something that users
depend on. A difference between units is no row; CHANGED_UNITS in test_frozen.py lists methods.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from tests.frozen.record import record
from tests.frozen.test_frozen import ABSENT, CHANGED, CHANGED_FILE, RECORDED, SECTIONS, flat


def main(reason: str) -> None:
    """Write changed.json anew."""
    today = json.loads(json.dumps(record()))
    reason_of = {
        (section, name): why for why, sections in CHANGED.items() for section, rows in sections.items() for name in rows
    }
    rows: dict[str, dict[str, dict[str, Any]]] = {}
    for section in SECTIONS:
        before, after = flat(RECORDED[section]), flat(today.get(section, {}))
        for name in sorted({*before, *after}):
            value = after.get(name, ABSENT)
            if before.get(name, ABSENT) != value:
                why = reason_of.get((section, name), reason)
                rows.setdefault(why, {}).setdefault(section, {})[name] = value
    CHANGED_FILE.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
