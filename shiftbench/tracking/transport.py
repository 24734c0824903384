"""How long a server may take and where it may send us: limits on every HTTP request that MLflow makes to it.

MLflow gives each wait for bytes a limit of its own and repeats a request that fails, so a server that sends one byte
now and then holds it for ever. Here one limit holds for a whole answer: connecting, repeating, waiting, and the last
byte. MLflow makes its requests with sessions of `requests`, and has no option for their adapters; `limited` puts ours
into each session that MLflow makes.

An answer of the API has `timeout` seconds and ANSWER bytes. A file on its way, in either direction, has no such limit
of time, because files differ in size; it must move LEAST bytes a second, averaged over any `timeout` seconds.
"""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from inspect import signature
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

import requests
from requests.adapters import DEFAULT_POOLSIZE, HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.util.retry import Retry

if TYPE_CHECKING:
    from requests import PreparedRequest, Response

ANSWER = 64 * 2**20  # bytes of one answer of the API: a thousand runs take 14 MB
FILE = 2**30  # bytes of one file, where the reader says no less
LEAST = 16 * 2**10  # bytes a second of a file, averaged over a timeout
PIECE = 2**16  # bytes read at a time
REDIRECTS = 3
RETRY = (  # what MLflow decides about repeating a request
    "total", "connect", "read", "redirect", "status", "status_forcelist", "allowed_methods", "backoff_factor",
    "raise_on_status", "respect_retry_after_header", "backoff_jitter",
)  # fmt: skip
PORTS = {"http": 80, "https": 443}

_timeouts: dict[tuple[str, str, int], float] = {}  # origin of a server -> seconds for an answer
_most: ContextVar[int] = ContextVar("most", default=FILE)
_active = threading.local()  # .limit: of the request that this thread makes now
_mounting = threading.Lock()


class TooSlow(Exception):
    """A server that did not answer in time, or sent a file too slowly; the message says which."""


class TooLarge(Exception):
    """An answer or a file that is larger than it may be."""


class SentElsewhere(Exception):
    """A server that redirects to another host, port or scheme."""


def origin(address: str) -> tuple[str, str, int]:
    """Scheme, host and port of an http(s) address. Raises ValueError where the port is none."""
    parts = urlsplit(address)
    return parts.scheme, parts.hostname or "", parts.port or PORTS.get(parts.scheme, 0)


def limited(address: str, timeout: float) -> None:
    """From now on every request of this process to the server at address is limited.

    timeout: seconds for a whole answer. RuntimeError where MLflow makes its sessions in another way than known here.
    """
    from mlflow.utils import request_utils

    written = requests.Request("GET", address).prepare().url  # as requests writes it: a host beyond ASCII is encoded
    _timeouts[origin(str(written))] = timeout
    with _mounting:
        made = getattr(request_utils, "_get_request_session", None)
        if made is None:
            raise RuntimeError("this MLflow makes its HTTP sessions in a way that shiftbench does not know")
        if getattr(made, "limited", False):
            return

        def session(*arguments: Any, **options: Any) -> requests.Session:
            return _with_limits(made(*arguments, **options))

        session.limited = True  # type: ignore[attr-defined]
        request_utils._get_request_session = session


@contextmanager
def at_most(size: int) -> Iterator[None]:
    """Files that this thread receives in the block may have `size` bytes, unpacked; TooLarge is raised beyond."""
    token = _most.set(size)
    try:
        yield
    finally:
        _most.reset(token)


class _Limit:
    """What is left of one request's time and bytes.

    file: whether a file is on its way, whose speed counts; upload: to the server. most: bytes that may be received,
    counted as they come, packed.
    """

    def __init__(self, timeout: float, file: bool, upload: bool, most: int) -> None:
        self.timeout, self.file, self.upload, self.most = timeout, file, upload, most
        self.since = time.monotonic()  # of the request; of a file: of the window whose bytes are counted
        self.received = self.moved = self.in_window = 0

    def left(self) -> float:
        """Seconds until the limit, more than 0. Raises TooSlow where there are none."""
        remaining = self.since + self.timeout - time.monotonic()
        if remaining <= 0:
            if not self.file:
                raise TooSlow(f"the server gave no whole answer within {self.timeout:g} s (tracking.timeout)")
            if self.in_window < LEAST * self.timeout:
                raise TooSlow(
                    f"the server moved {self.in_window / self.timeout / 1024:.1f} KiB/s of a file for "
                    f"{self.timeout:g} s (tracking.timeout), and {LEAST // 1024} KiB/s is the least"
                )
            self._window()
            remaining = self.timeout
        return max(remaining, 0.001)

    def sent(self, size: int) -> None:
        if self.upload:
            self._moved(size)

    def got(self, size: int) -> None:
        self._moved(size)
        self.received += size
        if self.received > self.most:
            raise TooLarge(f"the server's answer has more than {self.most:,} bytes")

    def _moved(self, size: int) -> None:
        if self.file and not self.moved:
            self._window()  # the time before the first byte was the server's to think
        self.moved += size
        self.in_window += size

    def _window(self) -> None:
        self.since, self.in_window = time.monotonic(), 0


class _Socket:
    """A connected socket, plain or TLS: each read and write counts against the limit of the request it is for."""

    def __init__(self, connected: Any, limit: _Limit | None) -> None:
        self.connected, self.limit = connected, limit

    def __getattr__(self, name: str) -> Any:
        return getattr(self.connected, name)

    def sendall(self, data: Any) -> None:
        if self.limit is None:
            return self.connected.sendall(data)
        rest = memoryview(data).cast("B")
        while rest:
            self.connected.settimeout(self.limit.left())
            try:
                sent = self.connected.send(rest)
            except TimeoutError:
                continue  # left() says whether that was the limit
            self.limit.sent(sent)
            rest = rest[sent:]

    def makefile(self, mode: str, *_: Any, **__: Any) -> io.BufferedReader:
        if mode != "rb":
            raise ValueError(f"http.client reads its answers as 'rb', not as {mode!r}")
        return io.BufferedReader(_Reader(self))


class _Reader(io.RawIOBase):
    """What a socket receives, for http.client to parse."""

    def __init__(self, of: _Socket) -> None:
        self._connected, self._limit = of.connected, of.limit
        self._open = of.connected.makefile("rb", buffering=0)  # keeps the socket open until this is closed

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._limit is None:
            return int(self._connected.recv_into(buffer))
        while True:
            self._connected.settimeout(self._limit.left())
            try:
                received = int(self._connected.recv_into(buffer))
            except TimeoutError:
                continue  # left() says whether that was the limit
            self._limit.got(received)
            return received

    def close(self) -> None:
        self._open.close()
        super().close()


class _Connection(HTTPConnection):
    """A connection under the limit of the request that this thread makes, from connecting on."""

    def connect(self) -> None:
        limit = getattr(_active, "limit", None)
        if limit is not None:
            self.timeout = limit.left()
        super().connect()
        self.sock = _Socket(self.sock, limit)  # type: ignore[assignment]

    def request(self, *arguments: Any, **options: Any) -> None:
        if isinstance(self.sock, _Socket):  # kept open by an earlier request, which had a limit of its own
            self.sock.limit = getattr(_active, "limit", None)
        super().request(*arguments, **options)


class _SecureConnection(_Connection, HTTPSConnection):
    """The same over TLS, whose own `connect` comes next in the order of bases."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection  # type: ignore[assignment]


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection  # type: ignore[assignment]


class _Retry(Retry):
    """MLflow's repetitions, none of which begins, or is waited for, beyond the limit."""

    def sleep(self, response: Any = None) -> None:
        limit = getattr(_active, "limit", None)
        if limit is not None:
            asked = self.get_retry_after(response) if response is not None and self.respect_retry_after_header else None
            wait = asked or self.get_backoff_time()
            if wait >= limit.left():
                raise TooSlow(
                    f"the server asks to wait {wait:.0f} s; {limit.timeout:g} s are its time (tracking.timeout)"
                )
        super().sleep(response)  # type: ignore[arg-type]


class _Adapter(HTTPAdapter):
    """MLflow's adapter with our limits, for the servers that have any."""

    def __init__(self, of: HTTPAdapter) -> None:
        given, known = of.max_retries, of.poolmanager.connection_pool_kw
        known_here = signature(Retry).parameters  # urllib3 1 has no jitter
        retry = _Retry(**{name: getattr(given, name) for name in RETRY if name in known_here})
        self._kept = {name: known[name] for name in ("socket_options",) if name in known}
        super().__init__(max_retries=retry, pool_maxsize=known.get("maxsize", DEFAULT_POOLSIZE))

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **{**self._kept, **options})
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **options)
        manager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}
        return manager

    def send(self, request: PreparedRequest, stream: bool = False, timeout: Any = None, **options: Any) -> Response:  # type: ignore[override]
        ours = origin(str(request.url))
        seconds = _timeouts.get(ours)
        if seconds is None:
            return super().send(request, stream=stream, timeout=timeout, **options)
        upload = hasattr(request.body, "read")
        most = _most.get() if stream else ANSWER
        _active.limit = _Limit(
            seconds, stream or upload, upload, 2 * most + PIECE
        )  # in small chunks a body takes more bytes than it has
        try:
            response = super().send(request, stream=True, timeout=seconds, **options)
            if response.is_redirect and origin(urljoin(str(request.url), response.headers["location"])) != ours:
                response.close()
                raise SentElsewhere(
                    f"the server sends its callers to {response.headers['location'][:200]}, another place than the one "
                    "that was named; if that is right, give it as tracking.uri"
                )
            response.raw = _Capped(response.raw, most)
            if not stream:
                _ = response.content  # now, while the limit holds
            return response
        finally:
            _active.limit = None


class _Capped:
    """A response's body that may unpack to so many bytes, and no more."""

    def __init__(self, raw: Any, most: int) -> None:
        self._raw, self._most = raw, most

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)

    def stream(self, _: int = PIECE, decode_content: bool | None = None) -> Iterator[bytes]:
        whole = 0
        for piece in self._raw.stream(PIECE, decode_content=decode_content):
            whole += len(piece)
            if whole > self._most:
                self._raw.close()
                raise TooLarge(f"the server sent more than {self._most:,} bytes, the most that it may have here")
            yield piece


def _with_limits(session: requests.Session) -> requests.Session:
    with _mounting:
        for scheme in ("http://", "https://"):
            of = session.adapters[scheme]
            if not isinstance(of, _Adapter):
                session.mount(scheme, _Adapter(of))  # type: ignore[arg-type]
        session.max_redirects = REDIRECTS
    return session
