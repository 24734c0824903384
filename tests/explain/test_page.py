"""docs/attribution.md states what was measured."""

from tests.explain import page


def test_the_table_is_that_of_the_kept_results():
    text = page.PAGE.read_text(encoding="utf-8")
    between = text.partition(page.BEGIN)[2].partition(page.END)[0]
    assert between.strip() == page.table().strip() != "", "python -m tests.explain.page writes it anew"
