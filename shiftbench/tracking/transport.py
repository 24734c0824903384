"""Limits on the HTTP requests that MLflow makes to a server: on their time, size and redirections.

MLflow limits each single wait for bytes, and it repeats a request that fails. A server that sends one byte now and then
could therefore hold MLflow for ever. Here one limit covers a whole answer, from connecting to the last byte, with all
retries; where the server redirects a request to itself, the new request has a limit of its own. MLflow makes its
requests with sessions of the package `requests`, and has no option for the adapters of those sessions; `limit_requests`
therefore replaces the adapters in every session with which MLflow makes a request.

An answer of MLflow's API may take `timeout` seconds and have MAX_ANSWER_BYTES bytes after decompression. The transfer
of a file, in either direction, may take longer, because files differ in size; it must move at least MIN_FILE_SPEED
bytes a second, averaged over each period of `timeout` seconds. See docs/server.md, section 4.
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

MAX_ANSWER_BYTES = 64 * 2**20  # of one answer of the API; a list of a thousand runs has 20 to 40 MB
MAX_FILE_BYTES = 2**30  # of one file, where the reader names no limit (`limit_file_size`)
MIN_FILE_SPEED = 16 * 2**10  # bytes a second
CHUNK_BYTES = 2**16  # read at a time
MAX_REDIRECTS = 3
RETRY_OPTIONS = (  # the options that `_LimitedRetry` takes over from the Retry of MLflow's adapter
    "total", "connect", "read", "redirect", "status", "status_forcelist", "allowed_methods", "backoff_factor",
    "raise_on_status", "respect_retry_after_header", "backoff_jitter",
)  # fmt: skip
DEFAULT_PORTS = {"http": 80, "https": 443}

_timeouts: dict[tuple[str, str, int], float] = {}  # origin of a server -> seconds that an answer may take
_max_file_bytes: ContextVar[int] = ContextVar("max_file_bytes", default=MAX_FILE_BYTES)
_active = threading.local()  # .limit: the limit of the request that this thread makes now
_patching = threading.Lock()


class TooSlow(Exception):
    """A server did not answer in time, or moved a file too slowly; the message says which."""


class TooLarge(Exception):
    """An answer or a file is larger than it may be."""


class RedirectedElsewhere(Exception):
    """A server redirected a request to another host, port or scheme."""


def origin(address: str) -> tuple[str, str, int]:
    """(scheme, host, port) of an address. Where the address has no host, host is "".

    Where it has no port, port is the default of http or https, and 0 for any other scheme. Raises ValueError where the
    address cannot be parsed or its port is not a valid number.
    """
    parts = urlsplit(address)
    return parts.scheme, parts.hostname or "", parts.port or DEFAULT_PORTS.get(parts.scheme, 0)


def _redirected(address: str, location: str) -> tuple[str, str, int] | None:
    """The origin that a redirect from `address` leads to; None where the location is no address."""
    try:
        return origin(urljoin(address, location))
    except ValueError:
        return None


def limit_requests(address: str, timeout: float) -> None:
    """Limit every request that MLflow makes in this process, from now on, to the server at `address`.

    timeout: seconds that a whole answer may take; a later call for the same server replaces it. Raises RuntimeError for
    a version of MLflow that makes its sessions in a way that is not known here.
    """
    from mlflow.utils import request_utils

    prepared = requests.Request("GET", address).prepare().url  # `requests` encodes a host name that is not ASCII
    _timeouts[origin(str(prepared))] = timeout
    with _patching:
        make_session = getattr(request_utils, "_get_request_session", None)
        if make_session is None:
            raise RuntimeError("this MLflow makes its HTTP sessions in a way that shiftbench does not know")
        if getattr(make_session, "limits_requests", False):
            return

        def make_limited_session(*arguments: Any, **options: Any) -> requests.Session:
            return _mount_adapters(make_session(*arguments, **options))

        make_limited_session.limits_requests = True  # type: ignore[attr-defined]
        request_utils._get_request_session = make_limited_session


@contextmanager
def limit_file_size(size: int) -> Iterator[None]:
    """While the block runs, a file that its thread receives by HTTP may have at most `size` bytes after decompression.

    A larger one raises TooLarge. This holds for the servers that `limit_requests` was called for.
    """
    token = _max_file_bytes.set(size)
    try:
        yield
    finally:
        _max_file_bytes.reset(token)


class _Limit:
    """The time and the bytes that one request may still take.

    timeout: seconds for the whole answer or, where a file moves, for each period over which its speed is averaged.
    file: whether the request moves a file, so that its speed is limited and not its time. upload: whether the file goes
    to the server. most: bytes that may be received, counted before decompression.
    """

    def __init__(self, timeout: float, file: bool, upload: bool, most: int) -> None:
        self.timeout, self.file, self.upload, self.most = timeout, file, upload, most
        self.since = time.monotonic()  # start of the request, or of the period over which a file's speed is averaged
        self.received = self.moved = self.in_window = 0

    def seconds_left(self) -> float:
        """Seconds until the limit, at least 0.001. Raises TooSlow where no time is left.

        For a file, no time left means that a period has ended in which the file moved too slowly. Where it moved fast
        enough, a new period of `timeout` seconds begins.
        """
        remaining = self.since + self.timeout - time.monotonic()
        if remaining <= 0:
            if not self.file:
                raise TooSlow(f"the server gave no whole answer within {self.timeout:g} s (tracking.timeout)")
            if self.in_window < MIN_FILE_SPEED * self.timeout:
                raise TooSlow(
                    f"the server moved {self.in_window / self.timeout / 1024:.1f} KiB/s of a file for "
                    f"{self.timeout:g} s (tracking.timeout), and {MIN_FILE_SPEED // 1024} KiB/s is the least"
                )
            self._start_window()
            remaining = self.timeout
        return max(remaining, 0.001)

    def count_sent(self, size: int) -> None:
        """Count `size` bytes that were sent, if the request sends a file; the bytes of other requests do not matter."""
        if self.upload:
            self._count(size)

    def count_received(self, size: int) -> None:
        """Count `size` bytes that were received. Raises TooLarge where the answer has more than `most` bytes by now."""
        self._count(size)
        self.received += size
        if self.received > self.most:
            raise TooLarge(f"the server's answer has more than {self.most:,} bytes")

    def _count(self, size: int) -> None:
        if self.file and not self.moved:
            self._start_window()  # speed counts from the first byte on, as the server may do other work before
        self.moved += size
        self.in_window += size

    def _start_window(self) -> None:
        self.since, self.in_window = time.monotonic(), 0


class _Socket:
    """A connected socket, plain or TLS, whose reads and writes count against the limit of the request.

    limit: None where the request has no limit. http.client uses it in place of the socket itself.
    """

    def __init__(self, connected: Any, limit: _Limit | None) -> None:
        self.connected, self.limit = connected, limit

    def __getattr__(self, name: str) -> Any:
        return getattr(self.connected, name)

    def sendall(self, data: Any) -> None:
        if self.limit is None:
            self.connected.sendall(data)
            return
        rest = memoryview(data).cast("B")
        while rest:
            self.connected.settimeout(self.limit.seconds_left())
            try:
                sent = self.connected.send(rest)
            except TimeoutError:
                continue  # if the limit is reached, seconds_left() raises TooSlow; else a file gets a new period
            self.limit.count_sent(sent)
            rest = rest[sent:]

    def makefile(self, mode: str, *_: Any, **__: Any) -> io.BufferedReader:
        if mode != "rb":
            raise ValueError(f"http.client opens a socket's file as 'rb', not as {mode!r}")
        return io.BufferedReader(_SocketReader(self))


class _SocketReader(io.RawIOBase):
    """The bytes that a socket receives, as the file that http.client parses."""

    def __init__(self, limited: _Socket) -> None:
        self._connected, self._limit = limited.connected, limited.limit
        self._open = limited.connected.makefile("rb", buffering=0)  # keeps the socket open until this reader is closed

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._limit is None:
            return int(self._connected.recv_into(buffer))
        while True:
            self._connected.settimeout(self._limit.seconds_left())
            try:
                received = int(self._connected.recv_into(buffer))
            except TimeoutError:
                continue  # if the limit is reached, seconds_left() raises TooSlow; else a file gets a new period
            self._limit.count_received(received)
            return received

    def close(self) -> None:
        self._open.close()
        super().close()


class _Connection(HTTPConnection):
    """A connection that obeys the limit of the request that this thread makes, from connecting on."""

    def connect(self) -> None:
        limit = getattr(_active, "limit", None)
        if limit is not None:
            self.timeout = limit.seconds_left()
        super().connect()
        self.sock = _Socket(self.sock, limit)

    def request(self, *arguments: Any, **options: Any) -> None:
        if isinstance(self.sock, _Socket):  # the socket was opened by an earlier request, which had another limit
            self.sock.limit = getattr(_active, "limit", None)
        super().request(*arguments, **options)


class _SecureConnection(_Connection, HTTPSConnection):
    """A connection over TLS that obeys the same limits.

    In the method resolution order HTTPSConnection follows `_Connection`, so `super().connect()` there connects by TLS.
    """


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


class _LimitedRetry(Retry):
    """MLflow's retries, within the limit of the request.

    `sleep`, which waits before a retry, raises TooSlow at once where the wait would last beyond the limit.
    """

    def sleep(self, response: Any = None) -> None:
        limit = getattr(_active, "limit", None)
        if limit is not None:
            requested = (
                self.get_retry_after(response) if response is not None and self.respect_retry_after_header else None
            )
            wait = requested or self.get_backoff_time()
            if wait >= limit.seconds_left():
                raise TooSlow(
                    f"the server asks to wait {wait:.0f} s, and an answer may take {limit.timeout:g} s "
                    "(tracking.timeout)"
                )
        super().sleep(response)


class _Adapter(HTTPAdapter):
    """Takes the place of an adapter of MLflow's, with the same retries and our limits.

    The limits apply to the servers that `limit_requests` was called for. Requests to other servers have none.
    """

    def __init__(self, replaced: HTTPAdapter) -> None:
        retries, pool_options = replaced.max_retries, replaced.poolmanager.connection_pool_kw
        supported = signature(Retry).parameters  # urllib3 1 has no jitter
        retry = _LimitedRetry(**{name: getattr(retries, name) for name in RETRY_OPTIONS if name in supported})
        self._kept = {name: pool_options[name] for name in ("socket_options",) if name in pool_options}
        super().__init__(max_retries=retry, pool_maxsize=pool_options.get("maxsize", DEFAULT_POOLSIZE))

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **{**self._kept, **options})
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **options)
        manager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}
        return manager

    def send(self, request: PreparedRequest, stream: bool = False, timeout: Any = None, **options: Any) -> Response:  # type: ignore[override]
        server = origin(str(request.url))
        seconds = _timeouts.get(server)
        if seconds is None:
            return super().send(request, stream=stream, timeout=timeout, **options)
        upload = hasattr(request.body, "read")
        most = _max_file_bytes.get() if stream else MAX_ANSWER_BYTES
        _active.limit = _Limit(
            seconds, stream or upload, upload, 2 * most + CHUNK_BYTES
        )  # more than the body may have, because headers and chunked encoding add bytes
        try:
            response = super().send(request, stream=True, timeout=seconds, **options)
            if response.is_redirect and _redirected(str(request.url), response.headers["location"]) != server:
                response.close()
                raise RedirectedElsewhere(
                    f"the server sends its callers to {response.headers['location'][:200]}, which is another server "
                    "than the one in tracking.uri; if that is right, give it as tracking.uri"
                )
            response.raw = _CappedBody(response.raw, most)
            if not stream:
                _ = response.content  # read the body now, while the limit applies
            return response
        finally:
            _active.limit = None


class _CappedBody:
    """The body of a response. `stream` raises TooLarge where it has more than `most` bytes after decompression."""

    def __init__(self, raw: Any, most: int) -> None:
        self._raw, self._most = raw, most

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)

    def stream(self, _: int = CHUNK_BYTES, decode_content: bool | None = None) -> Iterator[bytes]:
        total = 0
        for piece in self._raw.stream(CHUNK_BYTES, decode_content=decode_content):
            total += len(piece)
            if total > self._most:
                self._raw.close()
                raise TooLarge(f"the server sent more than {self._most:,} bytes, which is the limit here")
            yield piece


def _mount_adapters(session: requests.Session) -> requests.Session:
    with _patching:
        for scheme in ("http://", "https://"):
            adapter = session.adapters[scheme]
            if isinstance(adapter, HTTPAdapter) and not isinstance(adapter, _Adapter):
                session.mount(scheme, _Adapter(adapter))
        session.max_redirects = MAX_REDIRECTS
    return session
