"""What mkdocs cannot do by itself: the page of conf/, the page of the notebook, and formulas as MathML."""

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
FORMULA = re.compile(r"```math\n(.*?)```|\$`(.*?)`\$", re.DOTALL)  # GitHub shows both too


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages that are made from something else."""
    files.append(File.generated(config, "configuration.md", content=configuration_page(HERE.parent / "conf")))
    files.append(File.generated(config, "notebook.md", content=notebook_page(HERE / "notebook.ipynb")))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Formulas become MathML, which browsers draw without a script."""
    return FORMULA.sub(_mathml, markdown)


def _mathml(found: re.Match[str]) -> str:
    block, inline = found.groups()
    made: str = latex2mathml.converter.convert((block or inline).strip(), display="block" if block else "inline")
    # In a span: a line that began with a bare <math> would be a paragraph of its own to Markdown.
    return f'<div class="formula">{made}</div>' if block else f"<span>{made}</span>"


def notebook_page(path: Path) -> str:
    """An executed notebook as Markdown, its outputs as they are stored."""
    return "\n\n".join(_cell(cell) for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]) + "\n"


def _cell(cell: dict[str, Any]) -> str:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return source
    return "\n\n".join([f"```python\n{source}\n```", *map(_output, cell["outputs"])])


def _output(output: dict[str, Any]) -> str:
    data = output.get("data", {"text/plain": output.get("text", "")})
    html = "".join(data.get("text/html", ""))
    if html:
        return f'<div class="output">\n{html.strip()}\n</div>'
    return "```text\n" + "".join(data["text/plain"]) + "\n```"
