"""Runs in MLflow: where they are kept, sending them, finding them again. Nothing else imports mlflow."""

from shiftbench.tracking.place import OFF, RUNS, TrackedRun, Tracking, metrics_of, without_secrets
from shiftbench.tracking.reading import FoundRun, find_runs, read_artifact

__all__ = [
    "OFF",
    "RUNS",
    "FoundRun",
    "TrackedRun",
    "Tracking",
    "find_runs",
    "metrics_of",
    "read_artifact",
    "without_secrets",
]
