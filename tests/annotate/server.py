"""A real HTTP server on loopback that answers chat completions as a test scripts it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "sk-very-secret-key"
READABLE = '{"levels": ["semantics"], "tasks": ["math"]}'


@dataclass
class Reply:
    """A reply of the server: a chat completion with this text, or the given body."""

    text: str | None = "numbers"
    status: int = 200
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    after: float = 0.0  # seconds
    every: float = 0.0  # seconds between the body's bytes; 0: all at once
    endless: bool = False  # the body is sent again and again

    def content(self) -> bytes:
        if self.body is not None:
            return self.body
        message = {"role": "assistant", "content": self.text}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        whole = {"id": "a", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
        return json.dumps(whole).encode()


Script = Callable[[dict[str, Any], int], Reply]  # (the request's body, how many requests came before it) -> the reply


def plain(request: dict[str, Any], place: int) -> Reply:
    """A description for the first question, labels for the second."""
    return Reply(READABLE if is_second(request) else "numbers")


def is_second(request: dict[str, Any]) -> bool:
    """Whether it asks for labels, the second question about a concept."""
    return '"description"' in request["messages"][1]["content"]


@dataclass
class Served:
    """What the server recorded.

    url: of the endpoint. requests: the bodies of all requests, in order. keys: their Authorization headers. now:
    requests that are open. max_open: the most requests that were open at once.
    """

    url: str = ""
    script: Script = plain
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    now: int = 0
    max_open: int = 0


@contextmanager
def serving(script: Script = plain) -> Iterator[Served]:
    """The server runs within the block."""
    served, lock = Served(script=script), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                place = len(served.requests)
                served.requests.append(body)
                served.keys.append(self.headers["Authorization"])
                served.now += 1
                served.max_open = max(served.max_open, served.now)
            reply = served.script(body, place)
            time.sleep(reply.after)
            with lock:
                served.now -= 1
            content = reply.content()
            try:
                self.send_response(reply.status)
                sent = {"Content-Type": "application/json", "Content-Length": str(len(content)), **reply.headers}
                if reply.endless:
                    del sent["Content-Length"]
                for name, value in sent.items():
                    self.send_header(name, value)
                self.end_headers()
                while reply.endless:
                    self.wfile.write(content)
                for byte in content if reply.every else ():
                    self.wfile.write(bytes([byte]))
                    time.sleep(reply.every)
                self.wfile.write(b"" if reply.every else content)
            except OSError:
                pass  # the client has closed the connection

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    served.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
