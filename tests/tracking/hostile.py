"""Servers on loopback that do what no MLflow does: drip, fall silent, never end, lie."""

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

Talk = Callable[[socket.socket, threading.Event], None]
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@contextmanager
def talking(talk: Talk, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """The address of a server that reads a request's first bytes and then lets `talk` have the connection."""
    over = threading.Event()
    listening = socket.create_server(("127.0.0.1", 0))
    listening.settimeout(0.1)

    def one(connection: socket.socket) -> None:
        with suppress(OSError):
            connection.settimeout(10)
            with tls.wrap_socket(connection, server_side=True) if tls else connection as told:
                told.recv(65536)
                talk(told, over)

    def serve() -> None:
        while not over.is_set():
            with suppress(TimeoutError):
                threading.Thread(target=one, args=(listening.accept()[0],), daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        over.set()
        thread.join()
        listening.close()


def silent(connection: socket.socket, over: threading.Event) -> None:
    over.wait(60)


def drips_a_head(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(HEAD + b"X-Slow: ")
    while not over.wait(0.05):
        connection.sendall(b"x")


def drips_spaces(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(HEAD + b"Content-Length: 100000\r\n\r\n")
    while not over.wait(0.05):
        connection.sendall(b" ")


def drips_chunks(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    while not over.wait(0.05):
        connection.sendall(b"1\r\n \r\n")


def endless(connection: socket.socket, over: threading.Event, head: bytes = HEAD) -> None:
    connection.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
    while not over.is_set():
        connection.sendall(b"10000\r\n" + b" " * 65536 + b"\r\n")


def unavailable_and_endless(connection: socket.socket, over: threading.Event) -> None:
    endless(connection, over, b"HTTP/1.1 503 Busy\r\n")


def closes_midway(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(HEAD + b'Content-Length: 1000\r\n\r\n{"experiment": ')


def later(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 503 Busy\r\nRetry-After: 20000\r\nContent-Length: 0\r\n\r\n")


TALKS = {
    talk.__name__: talk
    for talk in (
        silent, drips_a_head, drips_spaces, drips_chunks, endless, unavailable_and_endless, closes_midway, later,
    )
}  # fmt: skip


class Liar:
    """A server that answers each path of MLflow's API with what it is told to, and keeps what it was asked.

    answers: path behind /api/2.0/mlflow/ to an answer: JSON, bytes, or a function of the request's path that gives one.
    files: path behind /api/2.0/mlflow-artifacts/artifacts to the content of a file, or to a Talk.
    """

    def __init__(self, answers: dict[str, Any], files: dict[str, bytes | Talk] | None = None) -> None:
        self.answers, self.files, self.asked = answers, files or {}, []
        self.over = threading.Event()
        self.moved_to = ""

    @contextmanager
    def listening(self) -> Iterator[str]:
        liar = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                liar._answer(self)

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
            self.over.set()
            server.shutdown()
            thread.join()
            server.server_close()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        path = urlsplit(request.path).path
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        self.asked.append((request.command, path, body))
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
                found(request.connection, self.over)
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
    told = {"run_id": run_id, "run_uuid": run_id, "experiment_id": "1", "status": "FINISHED", "start_time": 1000,
            "lifecycle_stage": "active", "artifact_uri": artifact_uri, **info}  # fmt: skip
    return {"info": told, "data": {"tags": [{"key": "pair", "value": "a pair"}]}}


def seconds(work: Callable[[], object]) -> float:
    """How long it takes, whatever it raises."""
    began = time.monotonic()
    with suppress(Exception):
        work()
    return time.monotonic() - began
