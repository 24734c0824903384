"""A source distribution holds every file of the repository: python tests/wheel/sdist.py dist/shiftbench-*.tar.gz

Run in a clone, after `python -m build --sdist`. Exits with 1 and names the files that MANIFEST.in leaves out.
"""

import subprocess
import sys
import tarfile
from pathlib import Path

CLONE = Path(__file__).parents[2]


def main(archive: str) -> int:
    """Compare the archive with the files that git tracks in this clone; return the exit status."""
    with tarfile.open(archive) as members:
        packed = {member.name.partition("/")[2] for member in members if member.isfile()}
    listed = subprocess.run(["git", "ls-files"], cwd=CLONE, check=True, capture_output=True, text=True)
    tracked = listed.stdout.splitlines()
    missing = [name for name in tracked if name not in packed]
    if missing:
        print(f"{archive} lacks {len(missing)} files of the repository; name them in MANIFEST.in:", *missing, sep="\n")
        return 1
    print(f"{archive} holds all {len(tracked)} files of the repository")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
