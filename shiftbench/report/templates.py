"""Makes the jinja2 environments that render the HTML templates of the package, one for each folder of templates.

They escape the value of every expression, unless it is markupsafe's Markup, and spell out hidden characters in it.
"""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from shiftbench.report import text


def template_environment(folder: str) -> Environment:
    """An environment for the templates in a folder of the package; folder: its path below shiftbench/, as 'report'.

    Rendering a template that uses an undefined name raises jinja2.UndefinedError.
    """
    return Environment(
        loader=PackageLoader("shiftbench", folder),
        autoescape=True,
        finalize=_finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _finalize(value: object) -> object:
    """The value of a template's expression as text with its hidden characters spelled out; Markup stays unchanged.

    Jinja calls this on the value of every expression, and then escapes what is not Markup.
    """
    return value if isinstance(value, Markup) else text.visible(str(value))
