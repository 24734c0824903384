"""The Content-Security-Policy of a page that we write: it admits the page's own blocks by their digests, and no more.

Whatever came into a page by a hole in the escaping would be no block that we wrote, and the browser would not run it.
The policy is computed from the finished page, so that it cannot differ from it. A digest admits no style attribute, so
each attribute becomes a class with a rule in the page's style.
"""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Sequence

_HEAD = '<meta charset="utf-8">\n'
# Our templates and matplotlib write attributes in double quotes; what they quote has its quotes and brackets escaped.
_STYLED = re.compile(r'<(?P<before>[a-zA-Z][^<>]*?) style="(?P<style>[^"]*)"(?P<after>[^<>]*)>')
_CLASS = re.compile(r' class="([^"]*)"')
_IMAGE = re.compile(r'(?:href|src)="data:image/')
_DATA = ' type="application/json"'  # of a script block that is not run
FORBIDDEN = "base-uri 'none'; form-action 'none'"


def sealed(page: str, framed: Sequence[str] = ()) -> str:
    """The page with its policy in its head, and with classes in place of style attributes.

    framed: style blocks of a document inside the page, which is under the page's policy too.
    Raises RuntimeError where the page is not one of ours: without the head, or with a block that does not end.
    """
    if page.count(_HEAD) != 1:
        raise RuntimeError(f"a page must have {_HEAD.strip()!r} once in its head, for the policy to stand behind it")
    page = without_attributes(page)
    scripts, styles = blocks(page, "script", but=_DATA), blocks(page, "style")
    if _STYLED.search(page) or page.count("<style") != len(styles):
        raise RuntimeError("a page has a style block without an end, or a style attribute that is no rule")
    policy = policy_of(scripts, [*styles, *framed], images=bool(_IMAGE.search(page)))
    meta = f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
    return page.replace(_HEAD, _HEAD + meta, 1)


def policy_of(scripts: Sequence[str], styles: Sequence[str], images: bool) -> str:
    """The policy that admits these inline blocks. images: whether there are any, inside the page as data."""
    parts = ["default-src 'none'"]
    parts += [f"script-src {_digests(scripts)}"] if scripts else []
    parts += [f"style-src {_digests(styles)}"] if styles else []
    parts += ["img-src data:"] if images else []
    return "; ".join([*parts, FORBIDDEN])


def blocks(page: str, tag: str, but: str | None = None) -> list[str]:
    """The contents of the page's <script> or <style> elements, in order; but: of those without these attributes.

    One pass, whatever the page holds.
    """
    found, end = [], 0
    while (start := page.find(f"<{tag}", end)) >= 0 and (inside := page.find(">", start)) >= 0:
        end = page.find(f"</{tag}>", inside)
        if end < 0:
            break
        if but is None or but not in page[start:inside]:
            found.append(page[inside + 1 : end])
    return found


def without_attributes(page: str) -> str:
    """The page whose style attributes are classes s1, s2, ... with rules at the end of its first style block.

    An attribute that a rule cannot hold stays, and no policy of ours admits it.
    """
    names: dict[str, str] = {}

    def classed(match: re.Match[str]) -> str:
        style = html.unescape(match["style"])
        if any(mark in style for mark in "{}<>"):
            return match[0]
        name = names.setdefault(style, f"s{len(names) + 1}")
        tag = match["before"] + match["after"]
        found = _CLASS.search(tag)
        if found:
            return f"<{tag[: found.end(1)]} {name}{tag[found.end(1) :]}>"
        return f'<{match["before"]} class="{name}"{match["after"]}>'

    page = _STYLED.sub(classed, page)
    rules = "".join(f".{name}{{{style}}}\n" for style, name in names.items())
    return page.replace("</style>", f"{rules}</style>", 1) if rules else page


def _digests(contents: Sequence[str]) -> str:
    found = [base64.b64encode(hashlib.sha256(content.encode()).digest()).decode() for content in contents]
    return " ".join(f"'sha256-{digest}'" for digest in dict.fromkeys(found))
