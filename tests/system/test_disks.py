"""Which disk a path lies on, where the path goes through a symbolic link."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from shiftbench.system import disks


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is a mount point without a free inode; tmp_path is one, too, with room for files."""
    place = tmp_path.resolve()
    mounts = {place / "disk": 0, place: 7}
    (place / "disk" / "folder").mkdir(parents=True)

    def statvfs(path: str | Path) -> SimpleNamespace:
        holder = next(mount for mount in mounts if Path(path).resolve().is_relative_to(mount))
        size = 1024 if mounts[holder] else 4096
        return SimpleNamespace(f_bavail=1, f_frsize=size, f_files=1000, f_favail=mounts[holder])

    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) in mounts)
    monkeypatch.setattr(os, "statvfs", statvfs)
    return place / "disk"


@pytest.mark.parametrize("target", ["disk", "disk/folder", "disk/folder/not yet there"])
def test_a_path_through_a_symbolic_link_lies_on_the_disk_of_its_target(disk: Path, target: str) -> None:
    (disk.parent / "link").symlink_to(disk.parent / target)
    path = disk.parent / "link" / "results" / "scores.json"
    assert disks.mount_of(path) == disk
    assert disks.free_bytes(path) == 4096
    reason = disks.no_room_reason(OSError(errno.ENOSPC, "full"), path, 10)
    assert reason == f"the disk at {disk} has no room for another file: all 1,000 inodes are used"


def test_a_path_back_out_of_a_link_lies_beside_the_links_target(disk: Path) -> None:
    (disk.parent / "link").symlink_to(disk / "folder")
    assert disks.mount_of(disk.parent / "link" / ".." / "new") == disk


def test_a_path_without_a_link_lies_on_the_disk_of_its_folder(disk: Path) -> None:
    assert disks.mount_of(disk.parent / "new") == disk.parent
    assert disks.mount_of(disk / "new") == disk
    assert disks.free_bytes(disk.parent / "new") == 1024
