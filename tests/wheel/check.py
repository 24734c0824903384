"""Checks that the package installed from a wheel scores the demo pair: `check.py COMMAND`, run by `make test-wheel`.

COMMAND is the installed program `shiftbench`. The current folder must not be the clone.
"""

import json
import subprocess
import sys
from importlib import resources
from pathlib import Path

import shiftbench

CLONE = Path(__file__).parents[2]


def main(command: str) -> None:
    """Raise an error where the installed package lacks a file or does not run."""
    package = Path(shiftbench.__file__).parent
    assert "site-packages" in package.parts, f"{package} is not the installed package"
    missing = [name for name in expected() if not (package / name).is_file()]
    assert not missing, f"the wheel lacks {missing}"
    assert resources.files("shiftbench.conf").joinpath("config.yaml").is_file()

    subprocess.run([command, "--help"], check=True, stdout=subprocess.DEVNULL)
    limits = ["dataset.limit=4", "response.max_new_tokens=16"]
    score = [command, "score", "pair=demo", "suite=demo", *limits, "out=out", f"store.path={Path('store').resolve()}"]
    subprocess.run(score, check=True)
    assert json.loads(Path("out/scores.json").read_text())["scores"]
    assert Path("out/report.html").stat().st_size > 10_000
    subprocess.run([command, "leaderboard", "out=board"], check=True)
    assert Path("board/leaderboard.html").stat().st_size > 10_000
    print(f"the wheel of shiftbench {shiftbench.__version__} scores the demo pair on its own")


def expected() -> list[str]:
    """Every file of the clone that the package must contain, by its path in the package."""
    files = subprocess.run(
        ["git", "ls-files", "shiftbench", "conf"], cwd=CLONE, check=True, capture_output=True, text=True
    )
    in_package = (name.removeprefix("shiftbench/") for name in files.stdout.split())
    return [name for name in in_package if not name.endswith(".gitignore")]


if __name__ == "__main__":
    main(sys.argv[1])
