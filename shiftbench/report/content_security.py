"""The Content-Security-Policy of the HTML pages that we write.

The policy admits the script and style blocks of the page by their digests, and images in data URLs where the page has
some. It forbids everything else: files and addresses, event handlers and other scripts in attributes, style attributes.

The policy is computed from the finished page, so it always fits the page. So it also admits a script block that
got into the page through a mistake in the escaping. A digest cannot admit a style attribute. Therefore each style
attribute becomes a class with a rule in the page's style block.
"""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Sequence

_HEAD = '<meta charset="utf-8">\n'
# Our templates and matplotlib quote attributes with double quotes, and escape quotes and angle brackets inside them.
_STYLED = re.compile(r'<(?P<before>[a-zA-Z][^<>]*?) style="(?P<style>[^"]*)"(?P<after>[^<>]*)>')
_CLASS = re.compile(r' class="([^"]*)"')
_IMAGE = re.compile(r'(?:href|src)="data:image/')
_DATA = ' type="application/json"'  # attribute of a script element that holds data and is not run
ALWAYS_FORBIDDEN = "base-uri 'none'; form-action 'none'"


def with_policy(page: str, framed_styles: Sequence[str] = ()) -> str:
    """The page with its policy in its head, and with classes in place of style attributes.

    page: a whole HTML page as our templates give it. framed_styles: the contents of the style blocks of a document that
    the page shows in a frame; the page's policy applies to that document too.
    Raises RuntimeError where the page is not one of ours: it does not have the element _HEAD exactly once, a style
    block does not end, or a style attribute cannot become a rule.
    """
    if page.count(_HEAD) != 1:
        raise RuntimeError(
            f"a page must have {_HEAD.strip()!r} exactly once in its head: the policy is placed after it"
        )
    page = style_attributes_to_classes(page)
    scripts, styles = element_contents(page, "script", unless=_DATA), element_contents(page, "style")
    if _STYLED.search(page) or page.count("<style") != len(styles):
        raise RuntimeError("a page has a style block without an end, or a style attribute that cannot become a rule")
    policy = policy_for(scripts, [*styles, *framed_styles], images=bool(_IMAGE.search(page)))
    meta = f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
    return page.replace(_HEAD, _HEAD + meta, 1)


def policy_for(scripts: Sequence[str], styles: Sequence[str], images: bool) -> str:
    """The Content-Security-Policy that admits exactly these inline blocks, as the text of the policy.

    scripts, styles: the contents of the <script> and of the <style> elements that are admitted. images: whether images
    in data URLs are admitted.
    """
    parts = ["default-src 'none'"]
    parts += [f"script-src {_digests(scripts)}"] if scripts else []
    parts += [f"style-src {_digests(styles)}"] if styles else []
    parts += ["img-src data:"] if images else []
    return "; ".join([*parts, ALWAYS_FORBIDDEN])


def element_contents(page: str, tag: str, unless: str | None = None) -> list[str]:
    """The contents of the page's <script> or <style> elements, in order.

    tag: 'script' or 'style'. unless: elements with this text in their start tag are left out. An element without an end
    tag is left out, and so is everything after it.
    The page is read once, so the time is linear in its length even for a page that someone else wrote.
    """
    found, end = [], 0
    while (start := page.find(f"<{tag}", end)) >= 0 and (inside := page.find(">", start)) >= 0:
        end = page.find(f"</{tag}>", inside)
        if end < 0:
            break
        if unless is None or unless not in page[start:inside]:
            found.append(page[inside + 1 : end])
    return found


def style_attributes_to_classes(page: str) -> str:
    """The page with its style attributes as classes s1, s2, ..., and their rules at the end of its first style block.

    Elements with equal style attributes get the same class. A style attribute with one of the characters {}<> stays an
    attribute, because the character could end a rule or the block; no policy of ours admits it.
    """
    names: dict[str, str] = {}

    def with_class(match: re.Match[str]) -> str:
        style = html.unescape(match["style"])
        if any(mark in style for mark in "{}<>"):
            return match[0]
        name = names.setdefault(style, f"s{len(names) + 1}")
        tag = match["before"] + match["after"]
        found = _CLASS.search(tag)
        if found:
            return f"<{tag[: found.end(1)]} {name}{tag[found.end(1) :]}>"
        return f'<{match["before"]} class="{name}"{match["after"]}>'

    page = _STYLED.sub(with_class, page)
    rules = "".join(f".{name}{{{style}}}\n" for style, name in names.items())
    return page.replace("</style>", f"{rules}</style>", 1) if rules else page


def _digests(contents: Sequence[str]) -> str:
    found = [base64.b64encode(hashlib.sha256(content.encode()).digest()).decode() for content in contents]
    return " ".join(f"'sha256-{digest}'" for digest in dict.fromkeys(found))
