"""SIGTERM and SIGHUP end the program as Ctrl-C does: by an exception, so that locks are released and children ended."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from types import FrameType

ENDING = (signal.SIGTERM, signal.SIGHUP)
PATIENCE = 30.0  # seconds that the program may take to clean up after the signal
GRACE = 5.0  # seconds that a child process may take to end after SIGTERM


class Ended(KeyboardInterrupt):
    """SIGTERM or SIGHUP arrived. Code that handles Ctrl-C handles it too, because it is a KeyboardInterrupt.

    number: the signal's number. The message is the signal's name.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def handle() -> None:
    """Make the signals in ENDING raise Ended in the main thread.

    A signal that is ignored (nohup) or that has another handler already is left as it is. Only for the command line's
    own process. In a process forked from it the signals have their default effect.
    After the first signal the program has PATIENCE seconds to clean up; then the same signal ends it, in case a library
    swallowed the exception. A second signal of the same kind ends the process at once.
    """
    own_pid = os.getpid()

    def end(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        if os.getpid() != own_pid:
            os.kill(os.getpid(), number)
            return
        timer = threading.Timer(PATIENCE, os.kill, (own_pid, number))
        timer.daemon = True
        timer.start()
        raise Ended(number)

    for number in ENDING:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, end)


def exit_code(interrupt: KeyboardInterrupt) -> int:
    """The exit code that shells give a program ended by a signal: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP."""
    return 128 + (interrupt.number if isinstance(interrupt, Ended) else signal.SIGINT)


def end_children() -> None:
    """End all descendants of this process: SIGTERM to each, and SIGKILL to those alive GRACE seconds later.

    Waits until all have ended, but at most GRACE seconds after each of the two signals. Needs /proc; without it nothing
    is done, and the children end by themselves when they next read from this process.
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
    """Process ids of the living descendants of a process; empty without /proc.

    Zombies and the resource trackers of Python's multiprocessing are not among them.
    """
    children: dict[int, list[int]] = {}
    with suppress(OSError):
        for name in os.listdir("/proc"):
            with suppress(OSError, ValueError, IndexError):
                with open(f"/proc/{int(name)}/stat", encoding="utf-8", errors="replace") as file:
                    state, parent = file.read().rpartition(")")[2].split()[:2]
                with open(f"/proc/{int(name)}/cmdline", "rb") as command:
                    tracker = b"resource_tracker" in command.read()  # a tracker ends by itself after this process
                if state != "Z" and not tracker:
                    children.setdefault(int(parent), []).append(int(name))
    found, left = [], [root]
    while left:
        mine = children.get(left.pop(), [])
        found += mine
        left += mine
    return found


def _reap() -> None:
    """Collect the exit status of children that have ended, so that none stays a zombie."""
    with suppress(OSError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
