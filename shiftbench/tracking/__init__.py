"""Everything that shiftbench does with MLflow; no other package of shiftbench imports mlflow.

address      the tracking URI: made absolute, shown without secrets
destination  `Tracking`: where runs are recorded, and whether they can be written there
diagnosis    what a user can do about an error of MLflow's
tracked      `TrackedRun`: the metrics, parameters, tags and files of one run
scores_file  the id of the MLflow run in scores.json
spool        a run that waits beside its results until it has been sent, and sending it exactly once
sending      writing a run into MLflow
suites       the parent run that the pairs of a sweep are shown under
reading      finding runs again, and reading their files
artifacts    the files of a run, read and written only where that is safe
transport    limits of time and size on MLflow's requests to an HTTP server
"""

from shiftbench.tracking.address import OFF, RUNS, without_secrets
from shiftbench.tracking.destination import Tracking
from shiftbench.tracking.diagnosis import Unreachable
from shiftbench.tracking.reading import FoundRun, NoAnswerInTime, find_runs, read_artifact
from shiftbench.tracking.spool import is_pending, pending_folders, send_run, spool_run
from shiftbench.tracking.tracked import (
    DESCRIPTION,
    KIND,
    PAIR,
    RESULT,
    SUITE,
    SWEEP,
    Headline,
    TrackedRun,
    select_metrics,
)

__all__ = [
    "DESCRIPTION", "KIND", "OFF", "PAIR", "RESULT", "RUNS", "SUITE", "SWEEP",
    "FoundRun", "Headline", "NoAnswerInTime", "TrackedRun", "Tracking", "Unreachable",
    "find_runs", "is_pending", "pending_folders", "read_artifact", "select_metrics", "send_run", "spool_run",
    "without_secrets",
]  # fmt: skip
