"""Real MLflow servers on loopback, in their own processes, which tests may kill and start again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


ADMIN = ("admin", "admin-only-for-tests")


class Databases(Protocol):
    """A server that creates databases, such as `Postgres` in tests/tracking/postgres.py."""

    def database(self) -> str: ...


@dataclass
class MlflowServer:
    """One `mlflow server`, which can be killed with all its processes and started again at the same address.

    folder: for its log and artifacts. backend: the URI of its database. options: more arguments of `mlflow server`.
    """

    folder: Path
    backend: str
    options: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def start(self) -> MlflowServer:
        """Start the server and wait until it answers.

        Raises RuntimeError, with the end of its log, where it does not.
        """
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--workers", "1", "--backend-store-uri", self.backend]
        command += ["--artifacts-destination", str(self.folder / "kept"), *self.options]
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_TRACKING_")}
        environment = {**inherited, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **self.environment}
        with open(self.folder / "log", "a") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, stdout=log, stderr=log, start_new_session=True, env=environment
            )
        if not self.answers():
            self.kill()
            raise RuntimeError(f"mlflow server did not start: {self.log()[-1500:]}")
        return self

    def answers(self, seconds: float = 120) -> bool:
        """Whether the server answers within so many seconds; False as soon as its process ends."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and self.process is not None and self.process.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.address}/health", timeout=5):
                    return True
            except OSError:
                time.sleep(0.2)
        return False

    def kill(self) -> None:
        """End every process of the server with SIGKILL, as a machine that goes down would."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


def with_users(folder: Path, databases: Databases) -> MlflowServer:
    """A server as in docs/server.md, not running yet. An account may write runs and may not delete them."""
    settings = folder / "basic_auth.ini"
    settings.write_text(
        "[mlflow]\ndefault_permission = EDIT\nauth_cache_ttl_seconds = 60\n"
        f"admin_username = {ADMIN[0]}\ndatabase_uri = {databases.database()}\n"
    )
    environment = {
        "MLFLOW_AUTH_CONFIG_PATH": str(settings),
        "MLFLOW_AUTH_ADMIN_PASSWORD": ADMIN[1],
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "a key that only these tests use",
    }
    return MlflowServer(folder, databases.database(), ("--app-name", "basic-auth"), environment)
