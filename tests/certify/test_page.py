"""docs/certification.md shows the kept outcome of `shiftbench certify`, and no figure that was written by hand."""

from tests.certify import page


def test_the_page_shows_what_was_measured():
    assert page.PAGE.read_text(encoding="utf-8") == page.page()
