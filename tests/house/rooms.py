"""The rooms of shiftbench, who may import whom, and the picture of that: `python -m tests.house.rooms` writes it.

The import graph is read from the source, imports inside functions included. ROOMS says what each room holds and in
which order the rooms stand: a room may import those that stand before it in that list, and no other. docs/design.md
shows the list and docs/pictures/rooms.svg the arrows; tests/house/test_rooms.py fails where either is not what this
file would write.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "shiftbench"
PAGE, PICTURE = ROOT / "docs" / "design.md", ROOT / "docs" / "pictures" / "rooms.svg"
BEGIN, END = "<!-- rooms: written by python -m tests.house.rooms -->", "<!-- end of rooms -->"

# From the lowest room to the highest. The second text is what the room holds.
ROOMS: dict[str, str] = {
    "errors": "the two exceptions that end in one line: bad input, and what cannot be written",
    "readers": "the boundary: files, archives, templates and replies that may hold anything",
    "system": "the operating system: files that appear whole, locks between processes, full disks, signals",
    "demo": "the bundled models and how they were trained",
    "config": "composing a configuration, and saying what to type where it does not compose",
    "ops": "the door to the compiled core, a file a family of functions, and their GPU versions",
    "stats": "intervals, tests, effect sizes, angles between subspaces",
    "words": "vocabularies, word lists, static word vectors",
    "prompts": "texts with marked spans, as token ids, and the data sets they come from",
    "store": "explanations on disk: units, keys, sharing work between processes",
    "models": "pairs of models: loading them, what identifies them, where their weights are",
    "engine": "derivatives, masked passes and greedy decoding on a model written down as data",
    "contracts": "what explainers, findings, annotators, ratings and controls promise each other",
    "annotate": "labels of concepts, by word lists or by a chat model",
    "ratings": "how far responses follow their instructions",
    "controls": "null models",
    "explain": "methods that look inside a model, a file each",
    "findings": "comparisons of two explanations, a file each",
    "verdicts": "what may be said of a pair: one function decides it from the scores",
    "report": "one run as a page, as tables and as figures",
    "tracking": "runs in MLflow",
    "results": "what a run leaves in its folder",
    "pipeline": "one job, step by step",
    "sweep": "many jobs: on this machine, on its GPUs, on a cluster",
    "family": "several tuned models of one base: chains and mixtures",
    "certify": "how often verdicts are false: pairs without a shift, and planted shifts",
    "published": "a paper's tables from the explanations that it published",
    "gate": "whether a pair's scores pass against an earlier run's",
    "leaderboard": "the tracked pairs as one table",
    "perf": "whether the hot spots are as fast as they were",
    "api": "the same as Python functions, for notebooks",
    "commands": "the command line, a file a command",
    "__main__": "where the program starts",
}
GENERATED = {"_C", ""}  # the compiled module, and the package itself, whose names are loaded on first use


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path, known: Mapping[str, Path]) -> set[str]:
    """The dotted names of the package's modules that a file imports, also inside functions.

    known: the package's modules; `from A import B` counts as the module A.B where that is one of them, otherwise as A.
    """
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in known else node.module for name in names]
        else:
            continue
        found |= {name for name in names if name.partition(".")[0] == "shiftbench"}
    return found


def room_of(module: str) -> str:
    """'explain' of 'shiftbench.explain.attention'; '' of the package itself."""
    return module.partition(".")[2].partition(".")[0]


def graph() -> dict[str, dict[str, list[tuple[str, str]]]]:
    """room -> room that it imports -> the imports that make this arrow, each as (importing module, imported module)."""
    known = modules()
    found: dict[str, dict[str, list[tuple[str, str]]]] = {}
    for module, path in known.items():
        room = room_of(module)
        for target in sorted(imports(path, known)):
            other = room_of(target)
            if room != other and not {room, other} & GENERATED:
                found.setdefault(room, {}).setdefault(other, []).append((module, target))
    return found


def cycles() -> list[list[str]]:
    """Modules within one room that import each other in a circle, each circle once."""
    known = modules()
    edges = {
        module: {
            target for target in imports(path, known) if room_of(target) == room_of(module) and target in known
        } - {module}
        for module, path in known.items()
    }  # fmt: skip
    return [sorted(part) for part in _strongly_connected(edges) if len(part) > 1]


def _strongly_connected(edges: Mapping[str, set[str]]) -> list[set[str]]:
    """The strongly connected components of a graph, by Tarjan's algorithm. edges: node -> the nodes it points to."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[set[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(edges[node]):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            part = set()
            while node not in part:
                part.add(stack.pop())
            found.append(part)

    for node in sorted(edges):
        if node not in index:
            visit(node)
    return found


def levels(arrows: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """How high each room stands: 0 where it imports no other room, else one above the highest room that it imports."""
    found: dict[str, int] = {}
    for room in ROOMS:
        found[room] = 1 + max((found[other] for other in arrows.get(room, ()) if other in found), default=-1)
    return found


def table() -> str:
    """The rooms, the highest first, with what each holds and imports, as Markdown. Imports of `errors` are left out."""
    arrows = graph()
    lines = ["| room | what it holds | imports |", "|---|---|---|"]
    for room, holds in reversed(ROOMS.items()):
        others = sorted(set(arrows.get(room, ())) - {"errors"}, key=list(ROOMS).index)
        lines.append(f"| `{room}` | {holds} | {', '.join(others) or 'nothing'} |")
    return "\n".join(lines)


WIDTH, BOX, HEIGHT, GAP = 900, 104, 30, 36


def picture() -> str:
    """The rooms but `errors`, in rows by height, as SVG.

    An arrow leads from a room to each room that it imports, unless a path over other rooms leads there too.
    """
    arrows = {room: [other for other in others if other != "errors"] for room, others in graph().items()}
    height = levels(arrows)
    rows: dict[int, list[str]] = {}
    for room in ROOMS:
        if room != "errors":
            rows.setdefault(height[room], []).append(room)
    order = sorted(rows, reverse=True)
    place = {}
    for line, level in enumerate(order):
        step = WIDTH / len(rows[level])
        for column, room in enumerate(rows[level]):
            place[room] = (step * (column + 0.5), 20 + line * (HEIGHT + GAP))
    total = 40 + len(order) * (HEIGHT + GAP) - GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {total}" font-family="sans-serif" '
        f'font-size="14" role="img" aria-label="Which room imports which">',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 L8 4 L0 8 z" fill="#888"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{total}" fill="#fff"/>',
    ]
    for room in arrows:
        for other in _direct(room, arrows):
            (x1, y1), (x2, y2) = place[room], place[other]
            parts.append(
                f'<path d="M{x1:.0f} {y1 + HEIGHT:.0f} L{x2:.0f} {y2 - 1:.0f}" stroke="#aaa" stroke-width="1.2" '
                f'fill="none" marker-end="url(#tip)"/>'
            )
    for room, (x, y) in place.items():
        parts.append(
            f'<rect x="{x - BOX / 2:.0f}" y="{y:.0f}" width="{BOX}" height="{HEIGHT}" rx="5" fill="#eef3fb" '
            f'stroke="#3b6cb7"/><text x="{x:.0f}" y="{y + 20:.0f}" text-anchor="middle" fill="#111">'
            f"{escape(room)}</text>"
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _direct(room: str, arrows: Mapping[str, Sequence[str]]) -> list[str]:
    """The rooms that `room` imports and that none of the other rooms it imports leads to, directly or over others."""

    def reach(start: str) -> set[str]:
        found: set[str] = set()
        todo = [start]
        while todo:
            for other in arrows.get(todo.pop(), ()):
                if other not in found:
                    found.add(other)
                    todo.append(other)
        return found

    others = arrows[room]
    return sorted(other for other in others if not any(other in reach(one) for one in others if one != other))


def page() -> str:
    """docs/design.md with the table of today's rooms."""
    text = PAGE.read_text(encoding="utf-8")
    before, after = text[: text.index(BEGIN)], text[text.index(END) :]
    return f"{before}{BEGIN}\n\n{table()}\n\n{after}"


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PICTURE.relative_to(ROOT)} and the table of {PAGE.relative_to(ROOT)}")
