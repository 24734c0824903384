"""The HTTP client of the openai package with limits on each reply: a deadline for the whole reply, and a size.

The package's own time-out is for one read. A server that sends one byte every few seconds would keep a question open
for ever, and the package would hold all that it sends in memory, decompressed.
"""

from __future__ import annotations

import asyncio
import importlib
from typing import Any

import openai

from shiftbench.readers import unpacked

MOST = 8 * 2**20  # the most bytes of a reply, both as sent and decompressed; a usual answer has some kilobytes


class TooLarge(openai.OpenAIError):
    """A reply has more than MOST bytes as sent, or is compressed by a method other than gzip."""


class LimitedClient(openai.DefaultAsyncHttpxClient):
    """An HTTP client that reads each reply completely before it returns the reply.

    Raises the HTTP library's ReadTimeout where the whole reply is not there `seconds` after the request; TooLarge where
    the reply has more than MOST bytes as sent, or is compressed by a method other than gzip; InputError where a gzip
    reply is damaged or unpacks to more than MOST bytes. options: those of openai's DefaultAsyncHttpxClient, except
    `timeout` and `headers`.
    """

    def __init__(self, seconds: float, **options: Any) -> None:
        # Only gzip can be decompressed here with a limit on the size.
        super().__init__(timeout=seconds, headers={"Accept-Encoding": "gzip"}, **options)
        self._seconds = seconds

    async def send(self, request: Any, **options: Any) -> Any:
        try:
            return await asyncio.wait_for(self._read_whole(request, options), self._seconds)
        except (asyncio.TimeoutError, TimeoutError):  # two classes before Python 3.11, then one
            raise _library().ReadTimeout("the whole reply was not there in time", request=request) from None

    async def _read_whole(self, request: Any, options: dict[str, Any]) -> Any:
        """Send the request and return its response with the whole body, decompressed. Errors as in the class."""
        response = await super().send(request, **{**options, "stream": True})
        try:
            body = bytearray()
            async for piece in response.aiter_raw():
                body += piece
                if len(body) > MOST:
                    raise TooLarge(f"a reply of more than {MOST} bytes")
        finally:
            await response.aclose()
        compression = response.headers.get("Content-Encoding", "identity").strip().lower()
        if compression not in ("identity", "gzip"):
            raise TooLarge(f"a reply compressed by {compression[:20]!r}")
        content = unpacked(bytes(body), "a reply", MOST) if compression == "gzip" else bytes(body)
        names = [(name, value) for name, value in response.headers.multi_items() if name.lower() not in DESCRIBED]
        return type(response)(response.status_code, headers=names, content=content, request=response.request)


# Headers that describe the body as it was sent. The response with the decompressed body is returned without them.
DESCRIBED = ("content-encoding", "content-length", "transfer-encoding")


def _library() -> Any:
    """The HTTP library that openai's client derives from: httpx, or httpx's successor in newer releases of openai."""
    client = next(part for part in openai.DefaultAsyncHttpxClient.__mro__ if part.__name__ == "AsyncClient")
    return importlib.import_module(client.__module__.split(".")[0])
