"""Runs in MLflow: where they are kept, sending them, finding them again. Nothing else imports mlflow."""

from shiftbench.tracking.place import OFF, RUNS, TrackedRun, Tracking, metrics_of, without_secrets

__all__ = ["OFF", "RUNS", "TrackedRun", "Tracking", "metrics_of", "without_secrets"]
