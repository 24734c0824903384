"""The policy of a page is computed from its blocks, and no style attribute is left that it would have to admit."""

from __future__ import annotations

import base64
import hashlib
import re
import time

import pytest

from shiftbench.report.policy import blocks, sealed, without_attributes

HEAD = '<!doctype html>\n<head>\n<meta charset="utf-8">\n'


def digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def policy(page: str) -> str:
    [found] = re.findall('<meta charset="utf-8">\n<meta http-equiv="Content-Security-Policy" content="([^"]*)">', page)
    return str(found)


def test_it_admits_the_blocks_and_nothing_else() -> None:
    page = f'{HEAD}<style>a{{}}</style><script type="application/json" id="x">{{}}</script><script>f()</script>'
    assert policy(sealed(page)) == (
        f"default-src 'none'; script-src {digest('f()')}; style-src {digest('a{}')}; "
        "base-uri 'none'; form-action 'none'"
    )
    assert policy(sealed(HEAD)) == "default-src 'none'; base-uri 'none'; form-action 'none'"
    assert "; img-src data:; " in policy(sealed(f'{HEAD}<img src="data:image/png;base64,">'))
    assert digest("b{}") in policy(sealed(f"{HEAD}<style>a{{}}</style>", framed=["b{}"]))


def test_style_attributes_become_classes() -> None:
    body = '<p style="a: b">x</p><i class="c" style="d: &quot;e&quot;">y</i><u style="a: b">z</u>'
    made = sealed(f"{HEAD}<style>p{{}}</style>{body}")
    assert '<p class="s1">x</p><i class="c s2">y</i><u class="s1">z</u>' in made
    assert '<style>p{}.s1{a: b}\n.s2{d: "e"}\n</style>' in made
    assert digest('p{}.s1{a: b}\n.s2{d: "e"}\n') in policy(made)


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
def test_a_page_that_is_none_of_ours_is_a_bug(page: str) -> None:
    if "STYLE" in page:
        assert "style-src" not in policy(sealed(page))  # it is not admitted
        return
    with pytest.raises(RuntimeError):
        sealed(page)


@pytest.mark.parametrize(
    "text",
    ["<style>", "<style", "<a ", '<a style="', '<a style="x', '<a style="x" ', "</style>", '<a class="', '" style="'],
)
def test_what_a_stranger_wrote_takes_linear_time(text: str) -> None:
    """A report of a megabyte: quadratic time would be minutes."""
    page = text * (2**20 // len(text))
    began = time.monotonic()
    blocks(without_attributes(page), "style")
    assert time.monotonic() - began < 20
