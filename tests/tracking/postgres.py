"""A PostgreSQL server for tests, in a temporary folder and on a free port of loopback."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.tracking.servers import free_port

PASSWORD = "only-for-tests"


@dataclass(frozen=True)
class Postgres:
    """A running PostgreSQL server.

    programs: the folder of PostgreSQL's programs.
    """

    programs: Path
    port: int

    def database(self) -> str:
        """The URI of a new, empty database.

        It names the driver, because SQLAlchemy 2.0 and 2.1 have different default drivers.
        """
        name = f"mlflow_{uuid.uuid4().hex[:8]}"
        self.sql(f"CREATE DATABASE {name}")
        return f"postgresql+psycopg2://mlflow:{PASSWORD}@127.0.0.1:{self.port}/{name}"

    def sql(self, statement: str, database: str = "postgres") -> str:
        """What psql prints for a statement. database: a name or a URI."""
        name = database.rpartition("/")[2]
        uri = f"postgresql://mlflow:{PASSWORD}@127.0.0.1:{self.port}/{name}"
        command = [self.programs / "psql", uri, "-qAt", "-v", "ON_ERROR_STOP=1", "-c", statement]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def programs() -> Path | None:
    """The folder of the newest PostgreSQL's programs, None where there is none; on Debian it is not on PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


@contextmanager
def postgres(programs_folder: Path) -> Iterator[Postgres]:
    """A PostgreSQL server that runs until the block ends. programs_folder: of PostgreSQL's programs.

    Where the tests run as root, the server runs as the user postgres, because PostgreSQL refuses to run as root.
    """
    folder = Path(tempfile.mkdtemp(prefix="shiftbench-postgres-"))
    (folder / "password").write_text(PASSWORD)
    as_user: list[str] = []
    if os.getuid() == 0:
        owner = pwd.getpwnam("postgres")
        for path in (folder, folder / "password"):
            os.chown(path, owner.pw_uid, owner.pw_gid)
        as_user = ["runuser", "-u", "postgres", "--"]
    port = free_port()

    def run(program: str, *arguments: str) -> None:
        command = [*as_user, str(programs_folder / program), "-D", str(folder / "data"), *arguments]
        done = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{program}: {done.stdout[-1500:]}")

    try:
        run("initdb", "-U", "mlflow", "-A", "scram-sha-256", f"--pwfile={folder}/password", "-E", "UTF8", "--no-sync")
        options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={folder} -c fsync=off"
        run("pg_ctl", "-w", "-l", str(folder / "log"), "-o", options, "start")
        try:
            yield Postgres(programs_folder, port)
        finally:
            run("pg_ctl", "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
