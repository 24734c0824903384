"""SIGTERM and SIGHUP end the program as Ctrl-C does: blocks are left in order, locks let go, children ended."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from types import FrameType

ENDING = (signal.SIGTERM, signal.SIGHUP)
PATIENCE = 30.0  # seconds that leaving all blocks may take
GRACE = 5.0  # seconds that a child has to end itself


class Ended(KeyboardInterrupt):
    """A signal other than Ctrl-C's asked the program to end; everything that handles Ctrl-C handles it too."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def handle() -> None:
    """Let ENDING raise Ended in the main thread. A signal that is ignored (nohup) or handled already stays so.

    For a process that is shiftbench's own; one that it forks ends as it would have ended. The second signal of a kind
    ends the process at once, and so does the first after PATIENCE, should some library have swallowed the exception.
    """
    mine = os.getpid()

    def end(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        if os.getpid() != mine:
            os.kill(os.getpid(), number)
            return
        timer = threading.Timer(PATIENCE, os.kill, (mine, number))
        timer.daemon = True
        timer.start()
        raise Ended(number)

    for number in ENDING:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, end)


def exit_code(interrupt: KeyboardInterrupt) -> int:
    """The exit code that a shell gives a program that a signal ended: 130 for Ctrl-C, 143 for SIGTERM."""
    return 128 + (interrupt.number if isinstance(interrupt, Ended) else signal.SIGINT)


def end_children() -> None:
    """End the processes that this one started, and theirs, and wait for them: first SIGTERM, after GRACE SIGKILL.

    Only where the system shows them below /proc; elsewhere they end when they next read from this process.
    """
    for number in (signal.SIGTERM, signal.SIGKILL):
        until = time.monotonic() + GRACE
        for child in descendants(os.getpid()):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(child, number)
        while time.monotonic() < until and descendants(os.getpid()):
            _reap()
            time.sleep(0.05)
    _reap()


def descendants(root: int) -> list[int]:
    """Process ids of the living descendants of a process."""
    children: dict[int, list[int]] = {}
    with suppress(OSError):
        for name in os.listdir("/proc"):
            with suppress(OSError, ValueError, IndexError):
                with open(f"/proc/{int(name)}/stat", encoding="utf-8", errors="replace") as file:
                    state, parent = file.read().rpartition(")")[2].split()[:2]
                with open(f"/proc/{int(name)}/cmdline", "rb") as command:
                    tracker = b"resource_tracker" in command.read()  # ends with this process, and tidies up first
                if state != "Z" and not tracker:
                    children.setdefault(int(parent), []).append(int(name))
    found, left = [], [root]
    while left:
        mine = children.get(left.pop(), [])
        found += mine
        left += mine
    return found


def _reap() -> None:
    with suppress(OSError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
