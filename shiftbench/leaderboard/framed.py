"""A run's own report.html on a page of the board, where nothing in it can run.

Whoever may write to the place where runs are tracked may put any page there, and on the site it would run its scripts
with the rights of all pages of that site. So the report is no file of the site: it stands, escaped, in an attribute of
a page of ours, which shows it in a frame. Two measures stop its scripts, and each would be enough: the frame's sandbox
forbids scripts, forms, navigation of the page around it and the site's origin; and the page's policy, which holds in
the frame too, admits no script, no address and only the report's own styles.
"""

from __future__ import annotations

import re

from markupsafe import Markup

from shiftbench.leaderboard.page import palette, part
from shiftbench.report.escaping import escaping
from shiftbench.report.policy import blocks, sealed, without_attributes


def framed(report: bytes, name: str, home: str) -> str:
    """The HTML of reports/NAME.html. report: a run's report.html, as it was tracked. home: the board's own page."""
    # Earlier versions wrote style attributes, which no digest admits.
    document = without_attributes(report.decode("utf-8", "replace").replace("\0", "\ufffd"))
    # In a document made from an attribute, a browser takes "#part" for a part of the page around the frame.
    document = re.sub(r'(<a\b[^<>]*? href=")#', r"\1about:srcdoc#", document)
    page = escaping("leaderboard").get_template("framed.html.jinja").render(
        name=name, home=home, style=Markup(palette() + part("framed.css")), report=Markup.escape(document)
    )  # fmt: skip
    return sealed(page, framed=blocks(document, "style"))
