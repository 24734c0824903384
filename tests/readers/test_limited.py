"""Texts made in a child process arrive unchanged. A child that fails, grows or never ends gives one InputError."""

import importlib
import os
import signal
import threading
import time

import pytest

from shiftbench.errors import InputError
from shiftbench.readers import limited

MOST = 2**20
SHORT = 1.0  # second of processor time


def asked(make, seconds=SHORT, most=MOST):
    return limited(make, "the template of M", "use template=none", seconds, most)


def children():
    """Child processes of this one that were not waited for."""
    try:
        return os.waitpid(-1, os.WNOHANG) != (0, 0)
    except ChildProcessError:
        return False


@pytest.fixture(autouse=True)
def nothing_is_left():
    before, open_files = children(), len(os.listdir("/proc/self/fd"))
    yield
    assert not children() and not before
    assert len(os.listdir("/proc/self/fd")) == open_files


def test_texts_arrive_as_they_are():
    texts = ["", "é 👩‍💻 \0 \r\n", "half \ud83d \udcbb", "long " * 50_000]
    assert asked(lambda: iter(texts)) == texts


def test_the_parent_is_as_it_was():
    os.environ.pop("TOKENIZERS_PARALLELISM", None)
    seen = []

    def make():
        seen.append(1)
        yield "a"

    assert asked(make) == ["a"] and not seen and "TOKENIZERS_PARALLELISM" not in os.environ


def loops():
    while True:
        pass


def counts():  # one call into C that no signal handler interrupts
    return [str(9**9**9)]


def fills():
    return ["a" * 6_000_000_000]


def fills_slowly():
    held = []
    while True:
        held.append(bytes(2**24))


def pours():
    while True:
        yield "a" * 1000


def raises():
    yield "first"
    raise TypeError("System role\nrequired")


def leaves():
    raise SystemExit(0)


def dies():
    os.kill(os.getpid(), signal.SIGSEGV)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (loops, r"it does not end within \d seconds( of processor time)?"),
        (counts, r"it does not end within \d seconds( of processor time)?"),
        (fills, "it takes too much memory"),
        (fills_slowly, "it takes too much memory"),
        (pours, "it makes more than 1,048,576 bytes"),
        (raises, "System role required"),
        (leaves, "SystemExit: 0"),
        (dies, r"its process ended without an answer \(signal 11\)"),
    ],
)
def test_whatever_goes_wrong_is_one_refusal_in_bounded_time(make, reason):
    began = time.monotonic()
    with pytest.raises(InputError, match=f"^the template of M: {reason}; use template=none$"):
        asked(make)
    assert time.monotonic() - began < 60  # a hang, on however busy a machine


@pytest.fixture
def children_are_collected_by_the_kernel():
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGCHLD, before)


@pytest.fixture
def killed(monkeypatch):
    """The process numbers that were sent a signal while they were no children of this process that still exist."""
    found, kill = [], os.kill

    def watch(number, which):
        try:
            os.waitid(os.P_PID, number, os.WEXITED | os.WNOHANG | os.WNOWAIT)  # leaves the child as it is
        except ChildProcessError:
            found.append(number)
        kill(number, which)

    monkeypatch.setattr(os, "kill", watch)
    return found


@pytest.mark.parametrize("make", [loops, dies], ids=["limit", "crash"])
def test_a_child_whose_status_nobody_has_is_one_refusal(children_are_collected_by_the_kernel, killed, make):
    with pytest.raises(InputError, match=r"^the template of M: its process ended without an answer, perhaps .*none$"):
        asked(make)
    assert not killed


def test_a_child_that_is_gone_when_its_last_text_is_read_gets_no_signal(
    children_are_collected_by_the_kernel, killed, monkeypatch
):
    module = importlib.import_module("shiftbench.readers.limited")
    texts, fork, children = module._texts, module._fork, []

    def late(pipe, deadline, max_bytes):
        yield from texts(pipe, deadline, max_bytes)
        with pytest.raises(ChildProcessError):  # this wait returns only when the child has ended
            os.waitpid(children[0], 0)

    monkeypatch.setattr(module, "_fork", lambda: children.append(fork()) or children[-1])
    monkeypatch.setattr(module, "_texts", late)
    assert asked(lambda: ["a"]) == ["a"] and not killed


def test_a_child_that_the_kernel_collects_is_ended_by_the_clock_too(children_are_collected_by_the_kernel, killed):
    with pytest.raises(InputError, match="does not end within 1 seconds; use"):
        asked(lambda: time.sleep(600) or [], seconds=0.2)
    assert not killed


def test_a_child_that_other_code_waited_for_is_one_refusal(killed, monkeypatch):
    wait = os.waitpid
    monkeypatch.setattr(os, "waitpid", lambda child, options: (wait(child, options), wait(child, options))[1])
    with pytest.raises(InputError, match="its process ended without an answer"):
        asked(dies)
    assert not killed


def test_a_child_that_waits_is_ended_by_the_clock():
    with pytest.raises(InputError, match="does not end within 1 seconds; use"):
        asked(lambda: time.sleep(600) or [], seconds=0.2)


def test_a_lock_that_another_thread_holds_does_not_hold_the_caller():
    lock, let_go = threading.Lock(), threading.Event()

    def hold():
        with lock:
            let_go.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        with pytest.raises(InputError, match="does not end"):
            asked(lambda: lock.acquire() and ["a"], seconds=0.2)
    finally:
        let_go.set()
        thread.join()


def test_several_threads_may_ask_at_once():
    found = {}

    def ask(i):
        found[i] = asked(lambda: [str(i)] * 100)

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {i: [str(i)] * 100 for i in range(4)}


def test_an_interrupt_ends_the_child_too():
    def alarm(number, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, alarm)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        with pytest.raises(KeyboardInterrupt):
            asked(lambda: time.sleep(600) or [], seconds=100)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
