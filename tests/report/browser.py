"""Drives headless Chromium over its DevTools pipe, to see what a page logs, loads and measures.

It needs Python's standard library only.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = "/usr/bin/chromium"
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync",
    "--disable-component-update", "--no-first-run", "--hide-scrollbars", "--remote-debugging-pipe",
)  # fmt: skip
# Chromium reads commands from descriptor 3 and writes answers to 4.
_ON_3_AND_4 = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execv(sys.argv[3], sys.argv[3:])"
)


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """One page of a new Chromium process. profile: the folder of its profile."""
    commands, answers = os.pipe(), os.pipe()
    # The pipes' own ends may be descriptors 3 and 4, so they are first copied to high numbers.
    ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 20) for end in (commands[0], answers[1])]
    process = subprocess.Popen(
        [sys.executable, "-c", _ON_3_AND_4, *map(str, ends), CHROMIUM, *_FLAGS, f"--user-data-dir={profile}"],
        pass_fds=ends, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    for end in (commands[0], answers[1], *ends):
        os.close(end)
    try:
        yield Browser(commands[1], answers[0])
    finally:
        process.terminate()
        process.wait(timeout=30)
        os.close(commands[1])
        os.close(answers[0])


class Browser:
    """One page of a Chromium process. events: every DevTools event so far, in order."""

    def __init__(self, writes: int, reads: int) -> None:
        self.events: list[dict[str, Any]] = []
        self._writes, self._reads, self._last, self._buffer = writes, reads, 0, b""
        self._session: str | None = None
        page = self.call("Target.createTarget", url="about:blank")
        self._session = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Target.setAutoAttach", autoAttach=True, waitForDebuggerOnStart=False, flatten=True)

    def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """The result of one DevTools command. session: that of a frame with its own process; None for the page's."""
        self._last += 1
        message: dict[str, Any] = {"id": self._last, "method": method, "params": params}
        if session or self._session:
            message["sessionId"] = session or self._session
        os.write(self._writes, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._last:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]

    def open(self, url: str, width: int = 1280, dark: bool = False) -> None:
        """Load a page and wait for its load event. width: in CSS pixels. dark: whether the reader prefers dark."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        before = len(self.events)
        self.call("Page.navigate", url=url)
        while not any(event["method"] == "Page.loadEventFired" for event in self.events[before:]):
            self._read()

    def value(self, expression: str) -> Any:
        """The value of a JavaScript expression. DevTools evaluates it, so the page's policy does not forbid it."""
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def frame(self) -> str:
        """The session of the page's sandboxed frame, which has its own process. Its log goes to the events."""
        while True:
            found = [each["params"] for each in self.events if each["method"] == "Target.attachedToTarget"]
            gone = {e["params"]["sessionId"] for e in self.events if e["method"] == "Target.detachedFromTarget"}
            here = [each["sessionId"] for each in found if each["sessionId"] not in gone]
            if here:
                for domain in ("Runtime", "Log", "Network"):
                    self.call(f"{domain}.enable", here[-1])
                return str(here[-1])
            self._read()

    def frame_value(self, session: str, expression: str) -> Any:
        """The value of a JavaScript expression in a frame."""
        found = self.call("Runtime.evaluate", session, expression=expression, returnByValue=True)["result"]
        return found.get("value")

    def _read(self, timeout_s: float = 60) -> dict[str, Any]:
        end = time.monotonic() + timeout_s
        while b"\0" not in self._buffer:
            if not select.select([self._reads], [], [], max(0, end - time.monotonic()))[0]:
                raise TimeoutError(f"Chromium did not answer within {timeout_s:.0f} s")
            chunk = os.read(self._reads, 1 << 20)
            if not chunk:
                raise RuntimeError("Chromium ended")
            self._buffer += chunk
        text, _, self._buffer = self._buffer.partition(b"\0")
        message = json.loads(text)
        if "method" in message:
            self.events.append(message)
        return message
