"""The results of one run as an HTML page (report.html), as CSV and SVG files, and as a table for the terminal.

page              one run as report.html
markdown          the answer of a run in Markdown, for MLflow
opening           the first screen of the page: verdicts, what was compared, and one prompt
score_groups      the scores of a finding by what they are, for its tables
terminal          what the terminal shows: the verdicts, and the table of all scores
tables            the tables of findings as CSV files
figures           a finding's figure as a chart; bar_charts, line_charts and heat_maps draw them
series_styles     colour, stroke and marker of each series
svg               a chart as SVG text
intervals         a score with its interval, as text and as a small picture
token_html        a prompt's tokens, shaded by importance density
numbers           numbers as people read them
text              text that cannot damage a page, a chart or a file name
colours           the colours of reports and leaderboards
templates         the environment of all HTML templates
content_security  the Content-Security-Policy of pages
"""

from shiftbench.report.markdown import answer_markdown
from shiftbench.report.page import RunSummary, write_report
from shiftbench.report.tables import write_tables
from shiftbench.report.terminal import console, score_table, verdict_lines
from shiftbench.report.token_html import attribution_html

__all__ = [
    "RunSummary",
    "answer_markdown",
    "attribution_html",
    "console",
    "score_table",
    "verdict_lines",
    "write_report",
    "write_tables",
]
