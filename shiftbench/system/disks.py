"""Full disks: which disk it is, how much is needed and how much is missing, in readable units."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path

# Errors of a write that would succeed with more room on the disk, a larger quota or a higher limit of a file's size.
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def amount(size: float) -> str:
    """A number of bytes in words, in units of powers of 1024: '312 bytes', '4.2 KiB', '1.3 GiB'."""
    for unit in UNITS:
        if size < 1024 or unit == UNITS[-1]:
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == UNITS[0] else f"{size:.1f} {unit}"


def mount_of(path: Path) -> Path:
    """The mount point of the disk that holds a path; symbolic links are followed. The path need not exist yet."""
    above = Path(os.path.realpath(path))  # a parent of a link's own name may lie on another disk than the link's target
    while not (above.exists() and os.path.ismount(above)) and above != above.parent:
        above = above.parent
    return above


def free_bytes(path: Path) -> int:
    """Bytes that are free for users other than root on the disk that holds a path; quotas are not considered.

    Symbolic links are followed, and the path need not exist yet.
    """
    above = Path(os.path.realpath(path))
    while not above.exists() and above != above.parent:
        above = above.parent
    found = os.statvfs(above)
    return found.f_bavail * found.f_frsize


def no_room_reason(error: OSError, path: Path, needed: int) -> str:
    """Why `needed` bytes cannot be written at a path, as a clause for a message.

    error: that of the failed write; its errno is in FULL. needed: the number of bytes that were to be written.
    """
    if error.errno == errno.EFBIG:
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
        most = f"at most {amount(limit)}" if limit != resource.RLIM_INFINITY else "fewer"
        return f"a file of {amount(needed)} is too large: it may have {most} here (ulimit -f)"
    if error.errno == errno.EDQUOT:
        return f"your quota on the disk at {mount_of(path)} is used up; {amount(needed)} are needed"
    look = os.statvfs(mount_of(path))
    if look.f_files and not look.f_favail:
        return f"the disk at {mount_of(path)} has no room for another file: all {look.f_files:,} inodes are used"
    left = free_bytes(path)
    missing = f"{amount(needed - left)} are missing" if needed > left else "files take more room than they have bytes"
    return f"the disk at {mount_of(path)} is full: {amount(needed)} are needed, {amount(left)} are free; {missing}"
