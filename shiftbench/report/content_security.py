"""The Content-Security-Policy of the HTML pages that we write.

The policy admits the scripts and styles that the caller says it put into the page, by their digests, and images in data
URLs where the caller says that the page has some. It forbids everything else: files and addresses, event handlers and
other scripts in attributes, style attributes. Nothing is read from the finished page, so a script or a style that got
into the page through a mistake in the escaping is not admitted.

A digest in this policy admits no style attribute. `StyleClasses` therefore turns the style attributes of a fragment
that we made into classes, before the fragment is put into a page.

The policy of a page also applies to a document that the page shows in a frame of its own. So it admits the styles of
that document too, which the caller names, and none of its scripts.
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
ALWAYS_FORBIDDEN = "base-uri 'none'; form-action 'none'"


def with_policy(
    page: str,
    style: str,
    scripts: Sequence[str] = (),
    framed_styles: Sequence[str] = (),
    images: bool = False,
) -> str:
    """The page with its policy in its head.

    page: a whole HTML page as our templates give it. style, scripts: the contents of the <style> element and of the
    <script> elements that the caller put into the page; the policy admits no other. framed_styles: the contents of the
    style blocks of a document that the page shows in a frame; the page's policy applies to that document too. images:
    whether images in data URLs are admitted.
    Raises RuntimeError where the page is not one of ours: it does not have the element _HEAD exactly once, or it lacks
    a script or the style that the caller names.
    """
    if page.count(_HEAD) != 1:
        raise RuntimeError(
            f"a page must have {_HEAD.strip()!r} exactly once in its head: the policy is placed after it"
        )
    blocks = [f"<style>{style}</style>", *(f"<script>{script}</script>" for script in scripts)]
    if not all(block in page for block in blocks):
        raise RuntimeError("a page lacks a script or a style that its policy would admit")
    policy = policy_for(scripts, [style, *framed_styles], images)
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


def element_contents(page: str, tag: str) -> list[str]:
    """The contents of the page's <script> or <style> elements, in order.

    tag: 'script' or 'style', which the page writes in lower case. An element without an end tag is left out, and so is
    everything after it. The page is read once, so the time is linear in its length even for a page that someone else
    wrote.
    """
    found, end = [], 0
    while (start := page.find(f"<{tag}", end)) >= 0 and (inside := page.find(">", start)) >= 0:
        end = page.find(f"</{tag}>", inside)
        if end < 0:
            break
        found.append(page[inside + 1 : end])
    return found


class StyleClasses:
    """Turns style attributes into the classes s1, s2, ...; equal style attributes get the same class.

    rules: the CSS rules of the classes so far, for the page's style block.
    """

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    @property
    def rules(self) -> str:
        return "".join(f".{name}{{{style}}}\n" for style, name in self._names.items())

    def __call__(self, fragment: str) -> str:
        """The HTML fragment with classes in place of its style attributes.

        A style attribute with one of the characters {}<> stays an attribute, because the character could end a rule or
        the block; no policy of ours admits it.
        """
        return _STYLED.sub(self._with_class, fragment)

    def _with_class(self, match: re.Match[str]) -> str:
        style = html.unescape(match["style"])
        if any(mark in style for mark in "{}<>"):
            return match[0]
        name = self._names.setdefault(style, f"s{len(self._names) + 1}")
        tag = match["before"] + match["after"]
        found = _CLASS.search(tag)
        if found:
            return f"<{tag[: found.end(1)]} {name}{tag[found.end(1) :]}>"
        return f'<{match["before"]} class="{name}"{match["after"]}>'


def style_attributes_to_classes(page: str) -> str:
    """A page that someone else wrote, with classes in place of its style attributes.

    The rules of the classes are put at the end of its first style element; without one, they are lost.
    Attributes that `StyleClasses` leaves stay.
    """
    classes = StyleClasses()
    page = classes(page)
    return page.replace("</style>", f"{classes.rules}</style>", 1) if classes.rules else page


def _digests(contents: Sequence[str]) -> str:
    found = [base64.b64encode(hashlib.sha256(content.encode()).digest()).decode() for content in contents]
    return " ".join(f"'sha256-{digest}'" for digest in dict.fromkeys(found))
