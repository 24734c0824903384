"""Every table of every finding has a caption: what a row is and what the columns mean."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

import shiftbench
from shiftbench.contracts.result import Result
from shiftbench.findings.null import CAPTIONS as NULL_CAPTIONS

ROOT = Path(shiftbench.__file__).parent
MODULES = [
    path
    for room in ("findings", "family", "published")
    for path in sorted((ROOT / room).glob("*.py"))
    if "captions=" in path.read_text(encoding="utf-8") or "tables={" in path.read_text(encoding="utf-8")
]


def tables_of(path: Path) -> set[str]:
    """The names of the tables in the calls of Result in a module, as far as they are written as text."""
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    given = [each.value for call in calls for each in call.keywords if each.arg == "tables"]
    keys = [key for value in given if isinstance(value, ast.Dict) for key in value.keys]
    return {key.value for key in keys if isinstance(key, ast.Constant) and isinstance(key.value, str)}


@pytest.mark.parametrize("path", [path for path in MODULES if tables_of(path)], ids=lambda path: path.stem)
def test_every_table_has_a_caption(path: Path) -> None:
    captions = importlib.import_module(f"shiftbench.{path.parent.name}.{path.stem}").CAPTIONS
    assert tables_of(path) <= set(captions)
    assert all(text.startswith("One row is ") and text.endswith(".") for text in captions.values())


def test_the_findings_are_found() -> None:
    assert len([path for path in MODULES if tables_of(path)]) >= 10


def test_a_table_of_a_control_and_one_on_other_responses_have_captions() -> None:
    result = Result("f", "s", "", [], {}, captions={"prompts": "One row is one prompt.", **NULL_CAPTIONS})
    assert result.caption("prompts_own_response") == "One row is one prompt."
    assert result.caption("null_permuted_draws").startswith("One row is one null model.")
    assert result.caption("null_permuted").startswith("One row is one score.")
    assert result.caption("other") == ""
