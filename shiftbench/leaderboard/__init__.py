"""The leaderboard: tracked runs of many pairs as one ranked table, written as HTML pages and data files
(docs/leaderboard.md).

How pairs are ranked:

- A row of the table is a pair, shown by its newest finished run.
- The rows of one table must be comparable. They share the prompts, the options, the versions of every finding and
  explainer, the kind of response, the template, the dtype, the vocabulary, the word vectors and the number of new
  tokens. The group with the most pairs is shown, unless another one is chosen. The page names the reason for every run
  that is left out.
- Each finding has its own ranks, by its headline score, which is the first score that the finding lists. There is no
  overall rank, because the findings measure different things. A check of a method (Result.level) has no ranks.
- The rank of a pair is 1 + the number of pairs whose whole interval lies above its own interval. If all intervals
  overlap, all ranks are 1. Two pairs with overlapping intervals get different ranks only where the interval of some
  third pair lies above one of them and not above the other.
- The last rank that a pair could have is the number of ranked pairs minus the number of pairs whose whole interval lies
  below its own.
- A score without observations (n = 0) is shown and has no rank.

tracked_runs  runs read from MLflow as entries
board         which runs are shown together, and why each other run is left out
ranks         ranks of scores with intervals
view          the rows of a board as people read them
page          the leaderboard as one HTML page
report_frame  a page that shows a run's report in a frame where nothing can run
pictures      the pictures of scores and of profiles, as SVG
data_files    the board as JSON, CSV and Markdown
site          the folder of pages, reports and data files
folder_swap   puts a finished folder in the place of another in one step
"""

from shiftbench.leaderboard.board import Board, Entry, LeftOut, build
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
