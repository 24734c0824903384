"""Command lines in their own processes, which start quickly: they are forked from one that has imported all modules.

They are real processes, with signals, exit codes and files. A new interpreter would need seconds for the imports.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

NO_PICTURE = '<svg height="400pt" viewBox="0 0 600 400"></svg>'


class Spawner:
    """The process that forks, which runs until the block ends. The processes that it has started go on."""

    def __enter__(self) -> Spawner:
        command = [sys.executable, __file__]
        self._server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server.stdin and self._server.stdout
        self._server.stdin.close()
        self._server.wait()
        self._server.stdout.close()

    def start(self, words: list[str], log: Path, ignored: int = 0) -> Spawned:
        """Start `shiftbench WORDS`; its output goes to the file `log`. ignored: a signal that the process ignores."""
        pid = self.send_request({"words": words, "log": str(log), "ignored": ignored, "here": os.getcwd()})
        return Spawned(self, int(pid), log)

    def send_request(self, request: dict[str, Any]) -> Any:
        """The answer of the forking process to a request."""
        assert self._server.stdin and self._server.stdout
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())


class Spawned:
    """A started process, with those methods of subprocess.Popen that the tests need."""

    def __init__(self, spawner: Spawner, pid: int, log: Path) -> None:
        self._spawner, self.pid, self._log = spawner, pid, log
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self._spawner.send_request({"poll": self.pid})
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, negative where a signal ended the process. timeout: not used."""
        if self.returncode is None:
            self.returncode = self._spawner.send_request({"wait": self.pid})
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def output(self) -> str:
        """What the process has printed so far."""
        return self._log.read_text()


def _serve() -> None:
    """Answer a request a line. The reports of these processes have no drawn figures, which take half of a small job."""
    import shiftbench.commands.score
    import shiftbench.pipeline.run
    import shiftbench.sweep.submitter  # noqa: F401
    from shiftbench.report import svg

    svg._svg = lambda canvas: NO_PICTURE
    for line in sys.stdin:
        request = json.loads(line)
        if "words" in request:
            answer: Any = os.fork() or _run(request)
        else:
            pid, status = os.waitpid(request.get("poll") or request["wait"], os.WNOHANG if "poll" in request else 0)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        print(json.dumps(answer), flush=True)


def _run(request: dict[str, Any]) -> None:
    import signal

    from shiftbench.__main__ import main

    code = 1
    try:
        os.chdir(request["here"])
        handle = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for old, new in ((nothing, 0), (handle, 1), (handle, 2)):
            os.dup2(old, new)
        if request["ignored"]:
            signal.signal(request["ignored"], signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.argv = ["shiftbench", *request["words"]]
        code = main()
        sys.stdout.flush()
    finally:
        os._exit(code)


if __name__ == "__main__":
    _serve()
