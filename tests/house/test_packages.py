"""Every room reaches the wheel: setup.py packs folders that have an __init__.py, and no others."""

from tests.house import rooms


def test_every_folder_of_modules_is_a_package():
    folders = {path.parent for path in rooms.modules().values()}
    assert not [str(folder.relative_to(rooms.ROOT)) for folder in folders if not (folder / "__init__.py").is_file()]


def test_every_room_says_what_is_in_it():
    """The docstring of a room with more than three files names each of them, so that a reader knows where to look."""
    silent = []
    for folder in {path.parent for path in rooms.modules().values()} - {rooms.PACKAGE}:
        files = [path.stem for path in folder.glob("*.py") if path.stem not in ("__init__", "__main__")]
        text = (folder / "__init__.py").read_text(encoding="utf-8")
        missing = [name for name in files if name not in text]
        if len(files) > 3 and missing:
            silent.append(f"{folder.relative_to(rooms.ROOT)}: {', '.join(missing)}")
    assert not silent
