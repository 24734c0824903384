"""docs/scores.md says of each score what the finding says of it."""

from __future__ import annotations

from tests.house import scores


def test_the_page_is_written_from_todays_facts():
    assert scores.PAGE.read_text(encoding="utf-8") == scores.page(), "python -m tests.house.scores writes it anew"


def test_it_has_every_finding_of_the_package():
    names = {one.name for one in scores.all_findings()}
    assert {"instruction_recognition", "instruction_verbs", "concept_rotation"} < names
    assert all(f"### {name}\n" in scores.page() for name in names)
