"""Runs untrusted code that makes texts, such as a chat template, in a child process with limits.

A template can allocate 6 GB or compute for hours in a single call into C (`"a" * 6000000000`, `9 ** 9 ** 9`). No other
thread can end such a call, and a signal handler could end only some of them, only in the main thread, and only where
the caller leaves its handlers to us. The kernel can end a whole process, whatever it does.

The child is a fork and not a new interpreter. It needs the caller's objects, such as a tokenizer, and to give them to a
new interpreter they would have to be pickled. Importing transformers again would also take seconds. A fork copies the
calling thread alone, so a lock that another thread holds at that moment stays locked in the child for ever. Therefore
the function `make`, which `limited` runs in the child, must be plain Python that starts no thread, reads no file and
computes nothing with torch or tokenizers. The locks of the interpreter and of memory allocation are usable in the child
all the same, because CPython and the C library reset them. If the child waits for another lock, the wall-clock limit
ends it. Windows has no fork; shiftbench does not run there anyway, because it locks files by fcntl.
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

HEADROOM = 2**30  # bytes of address space that a child may have beyond its parent's; jinja2 needs some 20 MB
CLOCK_FACTOR = 4  # the wall-clock limit is this many times the limit of processor time; the machine may be busy
FRAME = struct.Struct("<cQ")  # header of each message from the child: its kind, and how many bytes of UTF-8 follow
TEXT, FAILED, DONE = b"t", b"f", b"d"  # kinds of messages
PARALLELISM = "TOKENIZERS_PARALLELISM"  # the name of an environment variable that the tokenizers library reads


def limited(make: Callable[[], Iterable[str]], what: str, remedy: str, seconds: float, max_bytes: int) -> list[str]:
    """The texts that `make` yields when it runs in a child process, in their order.

    make: plain Python; the top of this file says what it must not do. what: what makes the texts; messages of errors
    begin with it. remedy: what to type instead; messages end with it. seconds: limit of the child's processor time,
    which is rounded up to whole seconds; its wall-clock limit is CLOCK_FACTOR times `seconds`. max_bytes: limit of the
    bytes of all texts together, as UTF-8. Raises InputError where no child can be started, and where `make` fails in
    any way or exceeds a limit, that of memory (HEADROOM) included. The child has always ended when this returns or
    raises.
    """

    def input_error(reason: str) -> InputError:
        return InputError(f"{what}: {reason}; {remedy}")

    ours, its = os.pipe()
    try:
        try:
            child = _fork()
        except OSError as error:
            raise input_error(f"no child process could be started for it ({error.strerror})") from None
        if child == 0:
            # With its own reading end open, the child would wait for ever in a write after its parent's death.
            os.close(ours)
            _run_child(make, its, seconds)
        os.close(its)
        its = -1
        ended = False
        try:
            try:
                return list(_texts(ours, time.monotonic() + CLOCK_FACTOR * seconds, max_bytes))
            except TimeoutError:
                raise input_error(f"it does not end within {CLOCK_FACTOR * seconds:.0f} seconds") from None
            except OverflowError:
                raise input_error(f"it makes more than {max_bytes:,} bytes") from None
            except RuntimeError as error:
                raise input_error(str(error)) from None
            except EOFError:
                status = _wait(child)
                ended = True
                raise input_error(_reason_of_end(status, seconds)) from None
        finally:
            if not ended:
                _end(child)
    finally:
        os.close(ours)
        if its >= 0:
            os.close(its)


def _fork() -> int:
    with _quiet_tokenizers(), warnings.catch_warnings():
        # Python warns of a fork while threads run. The top of this file says why it is safe here.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


@contextmanager
def _quiet_tokenizers() -> Iterator[None]:
    """Set the environment variable TOKENIZERS_PARALLELISM to "true" for the block, unless it is set already.

    Where it is not set, the tokenizers library, once it has used threads, prints a warning in every forked child. The
    warning is needless, because the child does not tokenize.
    """
    if PARALLELISM in os.environ:
        yield
        return
    os.environ[PARALLELISM] = "true"
    try:
        yield
    finally:
        del os.environ[PARALLELISM]


def _run_child(make: Callable[[], Iterable[str]], pipe: int, seconds: float) -> NoReturn:
    """Everything that the child does: run `make`, and send each text, then DONE, or FAILED with the reason.

    pipe: the descriptor that it writes to. seconds: limit of its processor time. The child ends by _exit, so that it
    flushes no buffer of the parent and runs no exit handler.
    """
    try:
        faulthandler.disable()  # the parent reports a crash of the child, in one line
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)  # the parent's handlers of these must not run in the child
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
    """Limit this process's processor time to `seconds`, and its address space to HEADROOM more than it has now.

    The process writes no core dump either. `seconds` is rounded up. What is set are the soft limits, each to no more
    than its hard limit. Where there is no /proc, the limit of the address space is left as it is.
    """
    wanted = [(resource.RLIMIT_CPU, math.ceil(seconds)), (resource.RLIMIT_CORE, 0)]
    with suppress(OSError):  # macOS lacks this file, and enforces no limit of address space
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


def _texts(pipe: int, deadline: float, max_bytes: int) -> Iterator[str]:
    """The texts that a child sends.

    deadline: a value of time.monotonic(). Raises TimeoutError after the deadline, OverflowError where the texts have
    more than `max_bytes` bytes together, RuntimeError with the reason that the child sent for its failure, and EOFError
    where the child ends without sending DONE or a reason.
    """
    left = max_bytes
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
    """The next `size` bytes from the pipe. Raises TimeoutError after the deadline, EOFError where the pipe ends."""
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


def _wait(child: int) -> int | None:
    """Wait until a child has ended; returns its status, as os.waitpid gives it, or None where the status is unknown.

    It is unknown where the calling program ignores SIGCHLD, because the kernel then keeps no status, and where other
    code of that program has waited for the child.
    """
    try:
        return os.waitpid(child, 0)[1]
    except ChildProcessError:
        return None


def _end(child: int) -> None:
    """Kill a child if it still runs, and wait until it has ended.

    The first call of waitpid finds whether `child` is still the number of a child. The number of a child that was
    waited for, by the kernel or by other code of the program, may belong to another process, which must get no signal.
    """
    try:
        if os.waitpid(child, os.WNOHANG) != (0, 0):
            return
    except ChildProcessError:
        return
    # Where SIGCHLD is ignored, the child may end at this very moment. Its number is free then, but the kernel gives
    # numbers in turn, so that no other process has it yet.
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    _wait(child)


def _reason_of_end(status: int | None, seconds: float) -> str:
    """Why a child ended without sending DONE or a reason, in words.

    status: from os.waitpid; None where it is unknown. seconds: the child's limit of processor time.
    """
    if status is None:
        return f"its process ended without an answer, perhaps for its limits ({seconds:.0f} seconds of processor time)"
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    if number == signal.SIGXCPU:
        return f"it does not end within {seconds:.0f} seconds of processor time"
    if number == signal.SIGKILL:
        return "the system killed its process, probably for the memory that it took"
    return "its process ended without an answer" + (f" (signal {number})" if number else "")
