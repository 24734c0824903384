"""docs/glossary.md explains every shape suffix that the code uses."""

from __future__ import annotations

import ast
import re

import pytest

from tests.house import rooms

GLOSSARY = rooms.ROOT / "docs" / "glossary.md"
SHAPED = re.compile(r"^[a-z][a-z0-9_]*_([A-Z][A-Z0-9]*)$")  # importance_PR, but neither a class nor a constant


def suffixes() -> dict[str, list[str]]:
    """letter -> names of variables, arguments and arrays that end in a suffix with it."""
    found: dict[str, list[str]] = {}
    for module, path in rooms.modules().items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = node.id if isinstance(node, ast.Name) else node.arg if isinstance(node, ast.arg) else ""
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                name = node.value
            match = SHAPED.match(name) if name != "lora_A" else None  # peft's name of a weight
            for letter in match[1] if match else "":
                if letter.isalpha():
                    found.setdefault(letter, []).append(f"{module}: {name}")
    return found


def explained() -> set[str]:
    """The letters in the first column of the table of suffixes."""
    text = GLOSSARY.read_text(encoding="utf-8")
    table = text[text.index("## Shape suffixes") : text.index("## Pairs and prompts")]
    rows = re.findall(r"^\| ([A-Z](?:, [A-Z])*) \|", table, re.M)
    return {letter for row in rows for letter in row.split(", ")}


def test_every_shape_suffix_is_explained():
    missing = {letter: names[:3] for letter, names in suffixes().items() if letter not in explained()}
    assert not missing


def test_every_explained_suffix_is_used():
    assert not explained() - set(suffixes())


@pytest.mark.parametrize(
    "word", ["tangent", "cotangent", "KV cache", "padding", "work item", "provenance", "row layout"]
)
def test_the_words_of_the_field_are_explained(word):
    assert re.search(rf"^\|[^|]*\b{word}\b[^|]*\|", GLOSSARY.read_text(encoding="utf-8"), re.M)
