"""One run as a page, as files and as what the terminal prints."""

from shiftbench.report.page import RunSummary, write_report
from shiftbench.report.tables import score_table, write_tables
from shiftbench.report.tokens import attribution_html

__all__ = [
    "RunSummary",
    "attribution_html",
    "score_table",
    "write_report",
    "write_tables",
]
