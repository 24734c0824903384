"""Arrows between the rooms go one way, and docs/design.md shows the rooms as they are."""

from __future__ import annotations

import pytest

from tests.house import rooms


def test_every_module_is_in_a_room_that_is_described():
    found = {rooms.room_of(module) for module in rooms.modules()} - rooms.GENERATED - {"data", "schema"}
    assert found == set(rooms.ROOMS), "a new room gets a line in tests/house/rooms.py; a room that went loses its line"


def test_the_top_of_the_package_holds_folders_and_four_modules():
    loose = {path.name for path in rooms.PACKAGE.glob("*.py")}
    assert loose == {"__init__.py", "__main__.py", "api.py", "errors.py"}, "a module belongs into a room"


def test_no_room_imports_a_higher_one():
    order = list(rooms.ROOMS)
    climbing = [
        f"{module} imports {target}"
        for room, others in rooms.graph().items()
        for other, arrows in others.items()
        if order.index(other) > order.index(room)
        for module, target in arrows
    ]
    assert not climbing, "lower rooms never import higher ones; move the code or the seam"


def test_no_modules_of_a_room_import_each_other_in_a_circle():
    assert not rooms.cycles()


def test_the_page_and_the_picture_are_todays():
    assert rooms.PICTURE.read_text(encoding="utf-8") == rooms.picture(), "python -m tests.house.rooms writes it anew"
    assert rooms.PAGE.read_text(encoding="utf-8") == rooms.page(), "python -m tests.house.rooms writes it anew"


def test_a_planted_import_is_seen(tmp_path, monkeypatch: pytest.MonkeyPatch):
    """The graph reads imports inside functions too, and those of a whole module."""
    file = tmp_path / "shiftbench" / "stats" / "planted.py"
    file.parent.mkdir(parents=True)
    file.write_text(
        "def late():\n    from shiftbench.pipeline import run\n    import shiftbench.report\n    return run\n"
    )
    monkeypatch.setattr(rooms, "ROOT", tmp_path)
    monkeypatch.setattr(rooms, "PACKAGE", tmp_path / "shiftbench")
    assert set(rooms.graph()["stats"]) == {"pipeline", "report"}
