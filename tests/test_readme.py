"""Figures that the README states are those of the files they come from."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COLUMNS = ("paper's loop", "the loop, frozen parameters", "share of GEMM peak", "error against float64 autograd")
RESULTS = ROOT / "tests" / "perf" / "results" / "amd-epyc-2-threads.json"
TABLE_ROW = r"^\| (\d+), (\d+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$"
ROWS = re.findall(TABLE_ROW, (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)


def written(value, text):
    """The value, rounded as the text is."""
    if text.endswith("x"):
        return f"{value:.1f}x"
    return f"{value:.0f}%" if text.endswith("%") else f"{value:.0e}".replace("e-0", "e-")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"P {row[0]}, R {row[1]}")
def test_the_performance_table_is_the_benchmarks(row):
    case = f"SmolLM2-135M, P {row[0]}, R {row[1]}"
    measured = {r["against"]: r["value"] for r in json.loads(RESULTS.read_text())["rows"] if r["case"] == case}
    for column, text in zip(COLUMNS, row[2:], strict=True):
        assert text == written(measured[column], text), column


def test_the_table_is_there():
    assert len(ROWS) == 4
