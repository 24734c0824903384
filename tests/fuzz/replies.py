"""Fuzz targets for the replies of servers: an HTTP server on loopback answers every request with the input."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from shiftbench.annotate.chat import ChatAnnotator
from shiftbench.leaderboard import gather
from shiftbench.tracking import Tracking, find_runs

RUN = "0123456789abcdef" * 2


class Server:
    """An HTTP server whose replies are set by its attribute `content`.

    It is started when its address is first read, which happens in the child process that reads the inputs. content: the
    body of every reply. fixed: other bodies, by a part of the path that they answer.
    """

    def __init__(self, fixed: dict[str, bytes]) -> None:
        self.content, self._fixed, self._address = b"", fixed, ""

    @property
    def address(self) -> str:
        if not self._address:
            server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, daemon=True).start()
            self._address = f"http://127.0.0.1:{server.server_address[1]}"
        return self._address

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                found = [body for path, body in outer._fixed.items() if path in self.path]
                body = found[0] if found else outer.content
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler


def runs_reader() -> tuple[list[bytes], Callable[[bytes], None]]:
    """(well-formed lists of runs, a function that reads one as `shiftbench leaderboard` does)."""
    experiment = {"experiment_id": "1", "name": "shiftbench", "artifact_location": "mlflow-artifacts:/1",
                  "lifecycle_stage": "active"}  # fmt: skip
    info = {"run_id": RUN, "run_uuid": RUN, "experiment_id": "1", "status": "FINISHED", "start_time": 1,
            "artifact_uri": f"mlflow-artifacts:/1/{RUN}/artifacts", "lifecycle_stage": "active"}  # fmt: skip
    tags = [{"key": "pair", "value": "demo"}, {"key": "shiftbench.kind", "value": "pair"}]
    reply = {"runs": [{"info": info, "data": {"tags": tags, "metrics": [], "params": []}}]}
    server = Server({"experiments": json.dumps({"experiment": experiment}).encode()})

    def read(content: bytes) -> None:
        server.content = content
        tracking = Tracking(server.address, "shiftbench", 5)
        gather(tracking, find_runs(tracking)[:3])

    return [json.dumps(reply).encode()], read


def chat_reader() -> tuple[list[bytes], Callable[[bytes], None]]:
    """(well-formed chat completions, a function that reads one as the annotator does)."""
    message = {"role": "assistant", "content": '{"levels": ["semantics"], "tasks": ["math"]}'}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    reply = {"id": "a", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
    server = Server({})

    def read(content: bytes) -> None:
        server.content = content
        os.environ.update(SHIFTBENCH_ANNOTATOR_URL=f"{server.address}/v1", SHIFTBENCH_ANNOTATOR_KEY="none")
        with TemporaryDirectory() as store:
            annotator = ChatAnnotator(
                model="m", seeds=[0], temperature=None, max_tokens=None, concurrency=1, retries=0, timeout=5.0,
                budget=9, store=str(Path(store)), prompt="shiftbench",
            )  # fmt: skip
            annotator.annotate([["one", "two"]], None, None)  # type: ignore[arg-type]

    return [json.dumps(reply).encode()], read


def readers() -> Iterator[tuple[str, list[bytes], Callable[[bytes], None]]]:
    """The name, the well-formed inputs and the reader of each target."""
    yield "reply.runs", *runs_reader()
    yield "reply.chat", *chat_reader()
