"""A matplotlib canvas as SVG text: the same bytes in every run with the same version of matplotlib.

Settings of matplotlib that a user has made do not matter. Nothing in it disturbs the page around it."""

from __future__ import annotations

import io
import re
import textwrap
import warnings
from collections.abc import Callable
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure as Canvas

from shiftbench.report.colours import light_colour
from shiftbench.report.text import visible

_TITLE = Markup('<text x="7" y="{y:g}" style="font: 600 11px system-ui, sans-serif; fill: {colour}">{line}</text>')
_TITLE_LINE = 15  # height of a line of the title, in points
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: searchable, selectable, in the reader's own font
    "text.parse_math": False,  # a '$' in a name is shown as '$'
    "font.size": 9.5,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.edgecolor": light_colour("line"),
    "axes.labelcolor": light_colour("muted"),
    "axes.titlecolor": light_colour("muted"),
    "xtick.color": light_colour("line"),
    "ytick.color": light_colour("line"),
    "xtick.labelcolor": light_colour("muted"),
    "ytick.labelcolor": light_colour("muted"),
    "text.color": light_colour("ink"),
    "grid.color": light_colour("line"),
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
}


def render_svg(draw: Callable[[], Canvas], salt: str) -> str:
    """SVG text of the canvas that `draw` returns, in the light colours.

    draw: called while matplotlib has its defaults and the settings of _STYLE; afterwards it has the user's settings
    again. salt: matplotlib computes the ids inside the SVG from it, so charts with different salts can stand on one
    page.
    """
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()  # a matplotlibrc, or rcParams in a notebook, would change the chart
        matplotlib.rcParams.update({**_STYLE, "svg.hashsalt": salt})
        # matplotlib warns of glyphs that its own font lacks. The browser draws the text, with its own fonts.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        return _svg(draw())


def with_title(svg: str, title: str) -> str:
    """The SVG, made taller, with a title above the chart, wrapped into lines, for a file that is opened by itself.

    svg: as `render_svg` gives it.
    """
    width, height = (float(side) for side in re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)[0])
    lines = textwrap.wrap(visible(title), width=int(width / 6))
    top = _TITLE_LINE * (len(lines) + 0.5)
    texts = Markup("").join(
        _TITLE.format(y=_TITLE_LINE * (i + 1) - top, colour=light_colour("ink"), line=line)
        for i, line in enumerate(lines)
    )
    head, body = svg.split(">", 1)
    head = re.sub(r'height="[^"]+"', f'height="{height + top:g}pt"', head, count=1)
    head = re.sub(r'viewBox="[^"]+"', f'viewBox="0 {-top:g} {width:g} {height + top:g}"', head, count=1)
    return f"{head}>{texts}{body}"


def _svg(canvas: Canvas) -> str:
    buffer = io.StringIO()
    canvas.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    # matplotlib's metadata names schemas only. Its style element would apply to the whole page around the chart, so it
    # is removed; the line join that it sets becomes an attribute of the svg element.
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, count=1, flags=re.DOTALL)
    text = re.sub(r"\s*<defs>\s*<style.*?</style>\s*</defs>", "", text, count=1, flags=re.DOTALL)
    text = re.sub(r"'DejaVu Sans'[^;\"]*", "system-ui, sans-serif", text)
    return _without_unused_ids(text.replace("<svg ", '<svg stroke-linejoin="round" ', 1))


def _without_unused_ids(svg: str) -> str:
    """The SVG without the ids that nothing in it refers to.

    Every chart of matplotlib has the id 'figure_1', and a page that holds many charts must not repeat an id.
    """
    used = set(re.findall(r"(?:url\(|href=\")#([^)\"]+)", svg))
    return re.sub(r' id="([^"]+)"', lambda match: match.group(0) if match.group(1) in used else "", svg)
