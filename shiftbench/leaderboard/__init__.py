"""The leaderboard: tracked runs of many pairs as one ranked table, written as HTML pages and data files
(docs/leaderboard.md).

What a board says:

- A row of the table is a pair. Of several comparable runs of a pair, the one with the most null models is shown, and of
  several such runs the newest. A run of a version that recorded no verdicts is shown only where there is no other.
- The rows of one table must be comparable. They share the prompts, the options, the versions of every finding and
  explainer, the kind of response, the template, the dtype, the vocabulary, the word vectors, the number of new tokens
  and the control. Each such group has a page of its own (at most board.MOST_BOARDS groups have one). Unless the
  option `group` chooses another, the first page is that of the group with the most pairs, among groups with verdicts
  where there are any.
- A column is a claim of a finding, with the verdict of each pair; or a finding without claims, or a check of a method,
  with the score of each pair. The words `supported` and `opposite` are corrected over all pairs and claims of the board
  (multiplicity.py). Where they hold for their run only, the word says so.
- In each column only supported pairs have a rank and a colour. The rank of a pair is 1 + the number of supported pairs
  of the same table and column whose whole interval lies above its own interval, so pairs with overlapping intervals can
  share a rank. There is no overall rank, because the claims are about different things. A check of a method
  (Result.level) has no verdicts and no ranks.
- The last rank that a pair could have is the number of supported pairs minus the number of those whose whole interval
  lies below its own.

tracked_runs  runs read from MLflow as entries
entry         one run, and the settings that must be equal for two runs to be compared
groups        groups of comparable runs in words, and how two groups differ
board         which runs are shown together, and why each other run is left out
multiplicity  the correction of a board's tests over its pairs and claims
standing      what a board says of each claim of each pair
ranks         ranks of scores with intervals
view          the rows of a board as people read them
page          a board, or its pairs of one base model, as an HTML page
report_frame  a page that shows a run's report in a frame where nothing can run
pictures      the picture of a score, as SVG
data_files    the board as JSON, CSV and Markdown
site          the folder of pages, reports and data files
folder_swap   puts a finished folder in the place of another in one step
"""

from shiftbench.leaderboard.board import Board, LeftOut, build
from shiftbench.leaderboard.entry import Entry
from shiftbench.leaderboard.ranks import Rank, ranks
from shiftbench.leaderboard.site import write_folder, write_site
from shiftbench.leaderboard.tracked_runs import gather, read_reports

__all__ = [
    "Board",
    "Entry",
    "LeftOut",
    "Rank",
    "build",
    "gather",
    "ranks",
    "read_reports",
    "write_folder",
    "write_site",
]
