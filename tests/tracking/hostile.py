"""Servers on loopback that misbehave: they send slowly, never answer, never end, or give false answers."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

Reply = Callable[[socket.socket, threading.Event], None]
HEADER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@contextmanager
def serving(reply: Reply, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """The address of a server that reads the first bytes of a request and then calls `reply` with the connection.

    tls: wraps the connection in TLS. The server stops when the block ends.
    """
    stop = threading.Event()
    listening = socket.create_server(("127.0.0.1", 0))
    listening.settimeout(0.1)

    def answer(connection: socket.socket) -> None:
        with suppress(OSError):
            connection.settimeout(10)
            with tls.wrap_socket(connection, server_side=True) if tls else connection as peer:
                peer.recv(65536)
                reply(peer, stop)

    def serve() -> None:
        while not stop.is_set():
            with suppress(TimeoutError):
                threading.Thread(target=answer, args=(listening.accept()[0],), daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        stop.set()
        thread.join()
        listening.close()


def never_answers(connection: socket.socket, stop: threading.Event) -> None:
    stop.wait(60)


def sends_header_slowly(connection: socket.socket, stop: threading.Event) -> None:
    connection.sendall(HEADER + b"X-Slow: ")
    while not stop.wait(0.05):
        connection.sendall(b"x")


def sends_body_slowly(connection: socket.socket, stop: threading.Event) -> None:
    connection.sendall(HEADER + b"Content-Length: 100000\r\n\r\n")
    while not stop.wait(0.05):
        connection.sendall(b" ")


def sends_chunks_slowly(connection: socket.socket, stop: threading.Event) -> None:
    connection.sendall(HEADER + b"Transfer-Encoding: chunked\r\n\r\n")
    while not stop.wait(0.05):
        connection.sendall(b"1\r\n \r\n")


def endless(connection: socket.socket, stop: threading.Event, head: bytes = HEADER) -> None:
    connection.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
    while not stop.is_set():
        connection.sendall(b"10000\r\n" + b" " * 65536 + b"\r\n")


def endless_503(connection: socket.socket, stop: threading.Event) -> None:
    endless(connection, stop, b"HTTP/1.1 503 Busy\r\n")


def closes_midway(connection: socket.socket, stop: threading.Event) -> None:
    connection.sendall(HEADER + b'Content-Length: 1000\r\n\r\n{"experiment": ')


def asks_to_retry_later(connection: socket.socket, stop: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 503 Busy\r\nRetry-After: 20000\r\nContent-Length: 0\r\n\r\n")


REPLIES = {
    reply.__name__: reply
    for reply in (
        never_answers, sends_header_slowly, sends_body_slowly, sends_chunks_slowly, endless, endless_503,
        closes_midway, asks_to_retry_later,
    )
}  # fmt: skip


class ScriptedServer:
    """A server that gives a prepared answer to each path of MLflow's API.

    answers: from the path after /api/2.0/mlflow/ to an answer: JSON, bytes, or a function from the request's path to
    one of these. files: from the path after /api/2.0/mlflow-artifacts/artifacts to the content of a file, or to a
    Reply. requests: the requests received, as (method, path, body). moved_to: where every request is redirected to, if
    not empty.
    """

    def __init__(self, answers: dict[str, Any], files: dict[str, bytes | Reply] | None = None) -> None:
        self.answers, self.files, self.requests = answers, files or {}, []
        self.stop = threading.Event()
        self.moved_to = ""

    @contextmanager
    def listening(self) -> Iterator[str]:
        script = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                script._answer(self)

            do_POST = do_PUT = do_PATCH = do_GET

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            self.stop.set()
            server.shutdown()
            thread.join()
            server.server_close()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        path = urlsplit(request.path).path
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        self.requests.append((request.command, path, body))
        if self.moved_to:
            request.send_response(307)
            request.send_header("Location", self.moved_to + request.path)
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        kept = "/api/2.0/mlflow-artifacts/artifacts"
        found = self.files.get(path.removeprefix(kept)) if path.startswith(kept) and request.command == "GET" else None
        if callable(found):
            with suppress(OSError):
                found(request.connection, self.stop)
            request.close_connection = True
            return
        answer = found if found is not None else self.answers.get(path.removeprefix("/api/2.0/mlflow/"), {})
        answer = answer(request.path) if callable(answer) else answer
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        request.send_response(200)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)


def experiment(location: str = "mlflow-artifacts:/1") -> dict[str, Any]:
    found = {"experiment_id": "1", "name": "shiftbench", "artifact_location": location, "lifecycle_stage": "active"}
    return {"experiment": found}


def run(run_id: str, artifact_uri: str, **info: Any) -> dict[str, Any]:
    fields = {"run_id": run_id, "run_uuid": run_id, "experiment_id": "1", "status": "FINISHED", "start_time": 1000,
            "lifecycle_stage": "active", "artifact_uri": artifact_uri, **info}  # fmt: skip
    return {"info": fields, "data": {"tags": [{"key": "pair", "value": "a pair"}]}}


def seconds(work: Callable[[], object]) -> float:
    """The seconds that a call takes; its exceptions are ignored."""
    began = time.monotonic()
    with suppress(Exception):
        work()
    return time.monotonic() - began
