"""Hooks of mkdocs: they add the page of options and the page of the notebook, and turn formulas into MathML."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path
from typing import Any

import latex2mathml.converter
from mkdocs.structure.files import File, Files

HERE = Path(__file__).parent
configuration_page = runpy.run_path(str(HERE / "configuration.py"))["page"]
FORMULA = re.compile(r"```math\n(.*?)```|\$`(.*?)`\$", re.DOTALL)  # GitHub shows both forms too


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages that are generated: configuration.md from conf/, notebook.md from the notebook."""
    files.append(File.generated(config, "configuration.md", content=configuration_page(HERE.parent / "conf")))
    files.append(File.generated(config, "notebook.md", content=notebook_page(HERE / "notebook.ipynb")))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page with its formulas as MathML, which browsers draw without a script."""
    return FORMULA.sub(_mathml, markdown)


def _mathml(found: re.Match[str]) -> str:
    """HTML of one formula."""
    block, inline = found.groups()
    mathml: str = latex2mathml.converter.convert((block or inline).strip(), display="block" if block else "inline")
    # The span is needed because Markdown takes a line that begins with a bare <math> for a paragraph of its own.
    return f'<div class="formula">{mathml}</div>' if block else f"<span>{mathml}</span>"


def notebook_page(path: Path) -> str:
    """Markdown of an executed notebook, with its stored outputs."""
    return "\n\n".join(_cell(cell) for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]) + "\n"


def _cell(cell: dict[str, Any]) -> str:
    """Markdown of one cell and its outputs."""
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return source
    return "\n\n".join([f"```python\n{source}\n```", *map(_output, cell["outputs"])])


def _output(output: dict[str, Any]) -> str:
    """Markdown of one output: its HTML where it has some, otherwise its text."""
    data = output.get("data", {"text/plain": output.get("text", "")})
    html = "".join(data.get("text/html", ""))
    if html:
        return f'<div class="output">\n{html.strip()}\n</div>'
    return "```text\n" + "".join(data["text/plain"]) + "\n```"
