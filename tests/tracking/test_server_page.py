"""The commands of docs/server.md run as written, except the ports, the installation and what needs root."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from shiftbench.tracking import TrackedRun, spool_run
from tests.tracking.postgres import PASSWORD, Postgres
from tests.tracking.servers import free_port

PAGE = (Path(__file__).parents[2] / "docs" / "server.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
SKIPPED_LINES = (
    "python3 -m venv venv",
    "venv/bin/pip install ",
)  # this test's own environment replaces what these lines install
PREPARATION = """
mkdir -p ~/bin ~/mlflow/venv/bin
printf '#!/bin/sh\\nexec {python} "$@"\\n' > ~/mlflow/venv/bin/python
printf '#!/bin/sh\\nexec {python} -m mlflow "$@"\\n' > ~/mlflow/venv/bin/mlflow
printf '#!/bin/sh\\nexec {python} -m shiftbench "$@"\\n' > ~/bin/shiftbench
chmod +x ~/bin/* ~/mlflow/venv/bin/*
trap 'kill $(cat ~/mlflow/pid)' EXIT
umask 077
echo "127.0.0.1:{database}:*:mlflow:{password}" > ~/.pgpass
"""


def test_the_numbers_on_the_page_are_the_measured_ones() -> None:
    measured = json.loads((Path(__file__).parent / "many_runs.json").read_text())
    for name, row in measured["search"].items():
        assert f"| {name} | {row['runs']} | {row['bytes'] / 1000:.0f} kB | {row['median_ms']} ms |" in PAGE
    for name in ("first_s", "later_s", "search_s"):
        assert f" {measured['page'][name]} s " in " ".join(PAGE.split())
    assert len(measured["search"]) == 8 and f"takes {measured['send_s']} s" in PAGE


@pytest.mark.server
def test_the_page_can_be_followed(databases: Postgres, run: TrackedRun, tmp_path: Path) -> None:
    home, server = tmp_path / "home", free_port()
    results = home / "shiftbench-runs" / "demo"
    results.parent.mkdir(parents=True)
    run.artifacts.rename(results)
    spool_run(results, TrackedRun("demo", {}, {}, {"m": 1.0}, results, None))
    for name in ("mlflow", "mlflow_users"):
        databases.sql(f"CREATE DATABASE {name}")
    assert len(BLOCKS) == 7 and "createdb -O mlflow mlflow_users" in BLOCKS[0]
    scored = r"shiftbench score .*\n"  # it takes minutes; test_server.py scores against such a server
    _, settings, start, accounts, use, backup, upgrade = BLOCKS
    stop = "kill $(cat ~/mlflow/pid); sleep 5"
    steps = [settings, start, accounts, "cd ~", re.sub(scored, "", use), backup, stop, upgrade]
    script = "\n".join(line for step in steps for line in step.splitlines() if not line.startswith(SKIPPED_LINES))
    for written, here in (
        ("5000", str(server)),
        ("127.0.0.1/mlflow", f"127.0.0.1:{databases.port}/mlflow"),
        ("pg_dump -h", f"{databases.programs}/pg_dump -p {databases.port} -h"),
        ("nohup ./start", "nohup ./start --workers 1"),
    ):
        assert written in script
        script = script.replace(written, here)
    first = PREPARATION.format(python=sys.executable, database=databases.port, password=PASSWORD)
    again = f"until curl -fs http://127.0.0.1:{server}/health; do sleep 1; done"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    environment |= {"HOME": str(home), "PATH": f"{home}/bin:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-exc", f"{first}\n{script}\n{again}"],
        cwd=home, env=environment, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"sent 1 of 1 to http://127.0.0.1:{server}" in done.stdout
    kept = home / "mlflow" / "backup"
    assert (kept / "mlflow.dump").stat().st_size > 10_000 and list(kept.glob("artifacts/**/scores.json"))
