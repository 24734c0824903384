"""The policy of a page admits exactly the blocks of the page, and the page has no style attribute left."""

from __future__ import annotations

import base64
import hashlib
import re
import time

import pytest

from shiftbench.report.content_security import element_contents, style_attributes_to_classes, with_policy

HEAD = '<!doctype html>\n<head>\n<meta charset="utf-8">\n'


def digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def policy(page: str) -> str:
    [found] = re.findall('<meta charset="utf-8">\n<meta http-equiv="Content-Security-Policy" content="([^"]*)">', page)
    return str(found)


def test_the_policy_admits_the_blocks_and_nothing_else() -> None:
    page = f'{HEAD}<style>a{{}}</style><script type="application/json" id="x">{{}}</script><script>f()</script>'
    assert policy(with_policy(page)) == (
        f"default-src 'none'; script-src {digest('f()')}; style-src {digest('a{}')}; "
        "base-uri 'none'; form-action 'none'"
    )
    assert policy(with_policy(HEAD)) == "default-src 'none'; base-uri 'none'; form-action 'none'"
    assert "; img-src data:; " in policy(with_policy(f'{HEAD}<img src="data:image/png;base64,">'))
    assert digest("b{}") in policy(with_policy(f"{HEAD}<style>a{{}}</style>", framed_styles=["b{}"]))


def test_style_attributes_become_classes() -> None:
    body = '<p style="a: b">x</p><i class="c" style="d: &quot;e&quot;">y</i><u style="a: b">z</u>'
    page = with_policy(f"{HEAD}<style>p{{}}</style>{body}")
    assert '<p class="s1">x</p><i class="c s2">y</i><u class="s1">z</u>' in page
    assert '<style>p{}.s1{a: b}\n.s2{d: "e"}\n</style>' in page
    assert digest('p{}.s1{a: b}\n.s2{d: "e"}\n') in policy(page)


@pytest.mark.parametrize(
    "page",
    [
        "<p>",
        f"{HEAD}{HEAD}",
        f"{HEAD}<style>a",
        f'{HEAD}<style></style><p style="}} body {{">',
        f"{HEAD}<STYLE></style>",
    ],
)
def test_a_page_that_we_did_not_write_is_refused(page: str) -> None:
    if "STYLE" in page:
        assert "style-src" not in policy(with_policy(page))  # the policy does not admit this block
        return
    with pytest.raises(RuntimeError):
        with_policy(page)


@pytest.mark.parametrize(
    "text",
    ["<style>", "<style", "<a ", '<a style="', '<a style="x', '<a style="x" ', "</style>", '<a class="', '" style="'],
)
def test_a_hostile_page_takes_linear_time(text: str) -> None:
    """The page has a megabyte. Quadratic time would be minutes."""
    page = text * (2**20 // len(text))
    began = time.monotonic()
    element_contents(style_attributes_to_classes(page), "style")
    assert time.monotonic() - began < 20
