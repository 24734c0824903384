"""The policy of a page admits what its caller put in and nothing that is found in the page."""

from __future__ import annotations

import base64
import hashlib
import re
import time

import pytest

from shiftbench.report.content_security import (
    StyleClasses,
    element_contents,
    style_attributes_to_classes,
    with_policy,
)

HEAD = '<!doctype html>\n<head>\n<meta charset="utf-8">\n'


def digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def policy(page: str) -> str:
    [found] = re.findall('<meta charset="utf-8">\n<meta http-equiv="Content-Security-Policy" content="([^"]*)">', page)
    return str(found)


def test_the_policy_admits_what_the_caller_put_in_and_nothing_else() -> None:
    page = f'{HEAD}<style>a{{}}</style><script type="application/json" id="x">{{}}</script><script>f()</script>'
    assert policy(with_policy(page, "a{}", ["f()"])) == (
        f"default-src 'none'; script-src {digest('f()')}; style-src {digest('a{}')}; "
        "base-uri 'none'; form-action 'none'"
    )
    plain = f"{HEAD}<style></style>"
    assert policy(with_policy(plain, "")) == (
        f"default-src 'none'; style-src {digest('')}; base-uri 'none'; form-action 'none'"
    )
    assert "; img-src data:; " in policy(with_policy(plain, "", images=True))
    assert "img-src" not in policy(with_policy(f'{plain}<img src="data:image/png;base64,">', ""))
    assert digest("b{}") in policy(with_policy(plain, "", framed_styles=["b{}"]))


@pytest.mark.parametrize("planted", ["<script>alert(1)</script>", "<style>body{display:none}</style>", "<p style='x'>"])
@pytest.mark.parametrize("scripts", [[], ["f()"]])
def test_a_planted_block_is_not_admitted(planted: str, scripts: list[str]) -> None:
    """The policy of a page with a script or a style that got past the escaping is that of the page without it."""
    own = f"{HEAD}<style>a{{}}</style>" + "".join(f"<script>{script}</script>" for script in scripts)
    for page in (f"{own}{planted}", own.replace("<style>", f"{planted}<style>", 1)):
        assert policy(with_policy(page, "a{}", scripts)) == policy(with_policy(own, "a{}", scripts))


def test_style_attributes_become_classes() -> None:
    classes = StyleClasses()
    found = classes('<p style="a: b">x</p><i class="c" style="d: &quot;e&quot;">y</i><u style="a: b">z</u>')
    assert found == '<p class="s1">x</p><i class="c s2">y</i><u class="s1">z</u>'
    assert classes('<b style="a: b">') == '<b class="s1">'
    assert classes.rules == '.s1{a: b}\n.s2{d: "e"}\n'
    assert classes('<p style="}} body {{">') == '<p style="}} body {{">'  # it could end the rule
    page = style_attributes_to_classes('<style>p{}</style><p style="a: b">')
    assert page == '<style>p{}.s1{a: b}\n</style><p class="s1">'


@pytest.mark.parametrize(
    ("page", "scripts"),
    [("<p>", []), (f"{HEAD}{HEAD}<style>a</style>", []), (f"{HEAD}<style>b</style>", []), (HEAD, []),
     (f"{HEAD}<style>a</style><script>g()</script>", ["f()"])],
)  # fmt: skip
def test_a_page_that_lacks_what_its_caller_names_is_refused(page: str, scripts: list[str]) -> None:
    with pytest.raises(RuntimeError):
        with_policy(page, "a", scripts)


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
