"""Runs in MLflow: where they are kept, sending them exactly once, finding them again. Nothing else imports mlflow."""

from shiftbench.tracking.address import OFF, RUNS, without_secrets
from shiftbench.tracking.place import Tracking
from shiftbench.tracking.reading import FoundRun, Silent, find_runs, read_artifact
from shiftbench.tracking.refusal import Unreachable
from shiftbench.tracking.spool import leave, pending, send, waits
from shiftbench.tracking.tracked import KIND, PAIR, RESULT, SUITE, SWEEP, TrackedRun, metrics_of

__all__ = [
    "KIND", "OFF", "PAIR", "RESULT", "RUNS", "SUITE", "SWEEP",
    "FoundRun", "Silent", "TrackedRun", "Tracking", "Unreachable",
    "find_runs", "leave", "metrics_of", "pending", "read_artifact", "send", "waits", "without_secrets",
]  # fmt: skip
