"""docs/certification.md shows the kept outcome of `shiftbench certify`, and no figure that was written by hand."""

import json

from tests.certify import page


def test_the_page_shows_what_was_measured():
    assert page.PAGE.read_text(encoding="utf-8") == page.page()


def test_readme_says_what_the_certification_found():
    (path,) = page.kept()
    claims = json.loads(path.read_text(encoding="utf-8"))["claims"]
    assert {claim["supported"] + claim["opposite"] for claim in claims} == {0}
    (pairs,) = {claim["pairs"] for claim in claims}
    readme = " ".join((page.ROOT / "README.md").read_text(encoding="utf-8").split())
    assert f"none was called supported or opposite on {pairs} pairs without a shift" in readme
