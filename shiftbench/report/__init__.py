"""The results of one run as an HTML page (report.html), as CSV and SVG files, and as a table for the terminal."""

from shiftbench.report.page import RunSummary, write_report
from shiftbench.report.tables import write_tables
from shiftbench.report.terminal import score_table
from shiftbench.report.token_html import attribution_html

__all__ = [
    "RunSummary",
    "attribution_html",
    "score_table",
    "write_report",
    "write_tables",
]
