"""Tracked runs of many pairs as one table: asked of MLflow, grouped, ranked, written as files and pages.

How it ranks. A row is a pair: its newest whole run. Rows stand in one table only where their numbers may be compared:
the same prompts, the same options, the same versions of every finding and method, the same kind of response, template,
dtype, vocabulary, word vectors and number of new tokens. The largest such group is shown, and every run that is not
says why. Each finding is ranked by itself, by its headline score, which is the first one it lists; there is no overall
rank, because the findings measure different things. A pair's rank is 1 + the number of pairs whose whole interval lies
above its own. So pairs whose intervals overlap are told apart only by a third one that is clearly above one of them,
and where all intervals overlap all ranks are 1. The last rank it could have is the number of ranked pairs less those
whose whole interval lies below. A score over no observation (n = 0) is shown and has no rank.
"""

from shiftbench.leaderboard.board import Board, Entry, LeftOut, build
from shiftbench.leaderboard.ranks import Rank, ranks
from shiftbench.leaderboard.site import write_folder, write_site
from shiftbench.leaderboard.sources import gather, read_reports

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
