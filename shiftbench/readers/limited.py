"""Texts that code from outside makes, such as a chat template: made in a child process, under limits.

Nothing inside a process stops a call into C that makes 6 GB or never returns (`"a" * 6000000000`, `9 ** 9 ** 9`): no
signal handler runs and no thread can end it. The kernel stops a process.

Why a fork and not a new interpreter: the child needs the caller's objects (a tokenizer), which nothing but a pickle
would carry over, and importing transformers anew takes seconds. A fork copies the calling thread alone, so a lock that
another thread holds at that moment stays locked in the child for ever. Therefore `make` must be plain Python that
starts no thread, reads no file and computes nothing with torch or tokenizers; the interpreter's own locks and malloc's
are put right by CPython and by the C library. A child that waits for a lock all the same is ended by the clock, and the
caller never waits longer than that. shiftbench runs where fork is: it locks files by fcntl, which Windows lacks.
"""

from __future__ import annotations

import faulthandler
import math
import os
import resource
import select
import signal
import struct
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

from shiftbench.errors import InputError
from shiftbench.readers.boundary import one_line

HEADROOM = 2**30  # bytes of address space that a child may take beyond its parent's: jinja2 needs some 20 MB
CLOCK_FACTOR = 4  # a child may take this many times its processor seconds by the clock: the machine may be busy
FRAME = struct.Struct("<cQ")  # of what a child sends: its kind, and how many bytes of UTF-8 follow
TEXT, FAILED, DONE = b"t", b"f", b"d"
PARALLELISM = "TOKENIZERS_PARALLELISM"


def limited(make: Callable[[], Iterable[str]], what: str, remedy: str, seconds: float, most: int) -> list[str]:
    """The texts that `make` gives, made in a child process.

    what, remedy: begin and end the message of a refusal. seconds: processor time of the child; by the clock it has
    CLOCK_FACTOR times that. most: bytes that all texts together may have as UTF-8.
    Raises InputError where making them fails in any way or exceeds a limit. Whatever happens, the child has ended when
    this returns.
    """

    def refusal(reason: str) -> InputError:
        return InputError(f"{what}: {reason}; {remedy}")

    ours, its = os.pipe()
    try:
        try:
            child = _fork()
        except OSError as error:
            raise refusal(f"no child process could be started for it ({error.strerror})") from None
        if child == 0:
            os.close(ours)  # else the child would wait for ever to be read once its parent is gone
            _work(make, its, seconds)
        os.close(its)
        its = -1
        ended = None
        try:
            try:
                return list(_texts(ours, time.monotonic() + CLOCK_FACTOR * seconds, most))
            except TimeoutError:
                raise refusal(f"it does not end within {CLOCK_FACTOR * seconds:.0f} seconds") from None
            except OverflowError:
                raise refusal(f"it makes more than {most:,} bytes") from None
            except RuntimeError as error:
                raise refusal(str(error)) from None
            except EOFError:
                ended = os.waitpid(child, 0)[1]
        finally:
            if ended is None:
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
                with suppress(ChildProcessError):  # where the program has the kernel collect its children
                    os.waitpid(child, 0)
        raise refusal(_end(ended, seconds))
    finally:
        os.close(ours)
        if its >= 0:
            os.close(its)


def _fork() -> int:
    with _quiet_tokenizers(), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python warns of forking beside threads; see above
        return os.fork()


@contextmanager
def _quiet_tokenizers() -> Iterator[None]:
    """The tokenizers library writes a warning from each child of a process that used its threads, unless this is set.
    The child does not tokenize."""
    if PARALLELISM in os.environ:
        yield
        return
    os.environ[PARALLELISM] = "true"
    try:
        yield
    finally:
        del os.environ[PARALLELISM]


def _work(make: Callable[[], Iterable[str]], pipe: int, seconds: float) -> NoReturn:
    """The child's whole life. It leaves by _exit, so that nothing of the parent's is flushed or closed twice."""
    try:
        faulthandler.disable()  # a crash of the child is told by the parent, in one line
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)  # the parent's handlers are about the parent's work
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (1, 2):
            os.dup2(nowhere, stream)
        _limit(seconds)
        for text in make():
            _send(pipe, TEXT, text)
        _send(pipe, DONE, "")
    except BaseException as error:
        with suppress(BaseException):
            _send(pipe, FAILED, "it takes too much memory" if isinstance(error, MemoryError) else one_line(error))
    finally:
        os._exit(0)


def _limit(seconds: float) -> None:
    wanted = [(resource.RLIMIT_CPU, math.ceil(seconds)), (resource.RLIMIT_CORE, 0)]
    with suppress(
        OSError
    ):  # macOS has no such file, and no limit of address space either: there the clock alone limits
        with open("/proc/self/statm", encoding="ascii") as file:
            wanted.append((resource.RLIMIT_AS, int(file.read().split()[0]) * resource.getpagesize() + HEADROOM))
    for kind, limit in wanted:
        _, hard = resource.getrlimit(kind)
        resource.setrlimit(kind, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def _send(pipe: int, kind: bytes, text: str) -> None:
    body = text.encode("utf-8", "surrogatepass")
    for part in (FRAME.pack(kind, len(body)), body):
        rest = memoryview(part)
        while rest:
            rest = rest[os.write(pipe, rest) :]


def _texts(pipe: int, deadline: float, most: int) -> Iterator[str]:
    """The texts that a child sends. Raises TimeoutError, OverflowError (more than `most` bytes), RuntimeError with the
    child's own reason, and EOFError where it ends without one."""
    left = most
    while True:
        kind, size = FRAME.unpack(_read(pipe, FRAME.size, deadline))
        left -= size if kind == TEXT else 0
        if left < 0:
            raise OverflowError
        text = _read(pipe, size, deadline).decode("utf-8", "surrogatepass")
        if kind == DONE:
            return
        if kind == FAILED:
            raise RuntimeError(text)
        yield text


def _read(pipe: int, size: int, deadline: float) -> bytes:
    waiting = select.poll()
    waiting.register(pipe, select.POLLIN)
    found = bytearray()
    while len(found) < size:
        left = deadline - time.monotonic()
        if left <= 0 or not waiting.poll(math.ceil(left * 1000)):
            raise TimeoutError
        piece = os.read(pipe, min(size - len(found), 2**16))
        if not piece:
            raise EOFError
        found += piece
    return bytes(found)


def _end(status: int, seconds: float) -> str:
    """Why a child ended before it said anything. status: as waitpid gives it."""
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    if number == signal.SIGXCPU:
        return f"it does not end within {seconds:.0f} seconds of processor time"
    if number == signal.SIGKILL:
        return "the system killed its process, probably for the memory that it took"
    return "its process ended without an answer" + (f" (signal {number})" if number else "")
