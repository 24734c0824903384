"""The HTTP client of the openai package with limits on each reply: one deadline for all of it, and so many bytes.

The package's own time-out is that of one read: a server that sends a byte every few seconds holds a question for ever,
and the whole of what it sends is kept in memory, unpacked.
"""

from __future__ import annotations

import asyncio
import importlib
from typing import Any

import openai

from shiftbench.readers import unpacked

MOST = 8 * 2**20  # bytes of a reply: an answer has some kilobytes


class TooLarge(openai.OpenAIError):
    """A reply of more than MOST bytes, or packed in a way that is not read."""


class LimitedClient(openai.DefaultAsyncHttpxClient):
    """Reads every reply whole within `seconds` and MOST bytes, else raises as for a time-out, or TooLarge."""

    def __init__(self, seconds: float, **options: Any) -> None:
        # Any other packing could not be unpacked under a limit.
        super().__init__(timeout=seconds, headers={"Accept-Encoding": "gzip"}, **options)
        self._seconds = seconds

    async def send(self, request: Any, **options: Any) -> Any:
        try:
            return await asyncio.wait_for(self._whole(request, options), self._seconds)
        except (asyncio.TimeoutError, TimeoutError):  # one class from Python 3.11 on
            raise _library().ReadTimeout("the whole reply did not come in time", request=request) from None

    async def _whole(self, request: Any, options: dict[str, Any]) -> Any:
        response = await super().send(request, **{**options, "stream": True})
        try:
            body = bytearray()
            async for piece in response.aiter_raw():
                body += piece
                if len(body) > MOST:
                    raise TooLarge(f"a reply of more than {MOST} bytes")
        finally:
            await response.aclose()
        packing = response.headers.get("Content-Encoding", "identity").strip().lower()
        if packing not in ("identity", "gzip"):
            raise TooLarge(f"a reply packed by {packing[:20]!r}")
        content = unpacked(bytes(body), "a reply", MOST) if packing == "gzip" else bytes(body)
        names = [(name, value) for name, value in response.headers.multi_items() if name.lower() not in DESCRIBED]
        return type(response)(response.status_code, headers=names, content=content, request=response.request)


DESCRIBED = ("content-encoding", "content-length", "transfer-encoding")  # what the body as it was sent was like


def _library() -> Any:
    """httpx, or its successor that newer releases of openai use."""
    client = next(part for part in openai.DefaultAsyncHttpxClient.__mro__ if part.__name__ == "AsyncClient")
    return importlib.import_module(client.__module__.split(".")[0])
