"""What every template of ours is rendered by: whatever an expression gives reaches the page escaped."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from shiftbench.report import text


def escaping(room: str) -> Environment:
    """For the templates of a folder of the package; an unknown name in one is an error."""
    return Environment(
        loader=PackageLoader("shiftbench", room),
        autoescape=True,
        finalize=_finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _finalize(value: object) -> object:
    """What every expression goes through: no hidden character reaches the page by any of them."""
    return value if isinstance(value, Markup) else text.visible(str(value))
