"""A page of the leaderboard that shows a run's report.html in a frame, where nothing in the report can run.

Whoever may write to the tracking server can put any HTML there as a run's report. If the site served that file as it
is, the file's scripts would run with the rights of all pages of the site. Therefore the report is not a file of the
site. It is stored, escaped, in an attribute of a page that we write, and that page shows it in a frame.

Two measures stop the report's scripts, and each one is enough by itself. The frame's sandbox forbids scripts, forms,
navigation of the page around the frame, and access to the site's origin. The Content-Security-Policy of the page, which
applies in the frame too, admits no script and no address, and of styles only those of the page and of the report
(docs/security.md).
"""

from __future__ import annotations

import re

from markupsafe import Markup

from shiftbench.leaderboard.page import package_text
from shiftbench.report.colours import colour_variables
from shiftbench.report.content_security import element_contents, style_attributes_to_classes, with_policy
from shiftbench.report.templates import template_environment


def framed_report(report: bytes, name: str, home: str) -> str:
    """The HTML of reports/STEM.html (STEM is Line.stem), which shows a run's report in a frame.

    report: the run's report.html as it was tracked. Bytes that are not UTF-8 become U+FFFD, and so do NUL characters.
    name: of the pair. home: file name of the first page of the pair's board, to which the page has a link.
    """
    # Reports of earlier versions have style attributes, which the page's policy does not admit.
    document = style_attributes_to_classes(report.decode("utf-8", "replace").replace("\0", "\ufffd"))
    # A document that comes from an attribute has the base address of the page around the frame, so a link to "#part"
    # would lead to that page. The full address about:srcdoc#part stays inside the report.
    document = re.sub(r'(<a\b[^<>]*? href=")#', r"\1about:srcdoc#", document)
    style = colour_variables() + package_text("report_frame.css")
    page = template_environment("leaderboard").get_template("report_frame.html.jinja").render(
        name=name, home=home, style=Markup(style),
        report=Markup.escape(document),
    )  # fmt: skip
    framed = element_contents(document, "style")
    return with_policy(page, style, framed_styles=framed)
