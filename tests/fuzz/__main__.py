"""Fuzzes every reader of outside input: python -m tests.fuzz [seconds=60] [inputs=N] [seed=0] [only=NAME,...]

Each input is a well-formed file with changes that keep its structure (tests/fuzz/mutate.py). It is read in a child
process. A defect is an exception that is neither an InputError nor promised by the reader, or a reader that takes more
than 10 s or more than 1 GiB of memory. An input with a defect is written to build/fuzz/TARGET/SEED-NUMBER. Once the
defect is mended, the input belongs into tests/fuzz/seeds/TARGET/, which `make test` reads. The command prints a line
for each target and exits with 1 where there was a defect.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
import traceback
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from select import select
from typing import TextIO

MAX_SECONDS = 10.0  # for one input
MAX_GROWTH = 2**30  # bytes of memory for one input
WARM_UP = 30.0  # seconds for the first input of a target, which imports what it needs
DEFECTS = Path("build/fuzz")
KEPT = 3  # inputs that are written to disk for each kind of defect


@dataclass
class Tally:
    """The outcomes of a target's inputs.

    defects: from the kind of a defect to the message of the first and the files of the inputs with that defect.
    """

    inputs: int = 0
    refused: int = 0
    defects: dict[str, tuple[str, list[Path]]] = field(default_factory=dict)
    seconds: float = 0.0

    def defect(self, what: str, kept: Path, content: bytes) -> None:
        """Count a defect, and write its input to the file `kept` if it is among the first KEPT of its kind.

        what: the kind of the defect, ": " and its message.
        """
        kind, _, message = what.partition(": ")
        _, files = self.defects.setdefault(kind, (message, []))
        files.append(kept)
        if len(files) <= KEPT:
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_bytes(content)


def main(words: list[str]) -> int:
    """Fuzz the targets that the words name. Returns the exit code."""
    options = dict(word.partition("=")[::2] for word in words)
    unknown = sorted(options.keys() - {"seconds", "inputs", "seed", "only"})
    if unknown:
        print(f"tests.fuzz: no option {unknown[0]!r}\n\n{__doc__}", file=sys.stderr)
        return 2
    seed = int(options.get("seed", "0"))
    os.environ.update(HF_HUB_OFFLINE="1", MLFLOW_DISABLE_TELEMETRY="true", OMP_NUM_THREADS="1")
    with tempfile.TemporaryDirectory(prefix="shiftbench-fuzz-") as root:
        os.environ["XDG_CACHE_HOME"] = f"{root}/cache"
        import torch
        import transformers

        from tests.fuzz.targets import targets

        torch.set_num_threads(1)
        transformers.logging.disable_progress_bar()
        warnings.simplefilter("ignore")
        all_targets = targets(Path(root))
        chosen = [t for t in all_targets if not options.get("only") or t.name in options["only"].split(",")]
        if not chosen:
            print(
                f"tests.fuzz: only= names no target; there are {', '.join(t.name for t in all_targets)}",
                file=sys.stderr,
            )
            return 2
        weights = sum(target.weight for target in chosen)
        tallies = {}
        for target in chosen:
            share = target.weight / weights
            most = round(int(options["inputs"]) * share) if "inputs" in options else sys.maxsize
            whole = float(options.get("seconds", "inf" if "inputs" in options else "60"))
            seconds = whole * share
            tallies[target.name] = _fuzz(target, seed, most, seconds)
            _print_tally(target.name, tallies[target.name])
    total = sum(tally.inputs for tally in tallies.values())
    defects = sum(_defects(tally) for tally in tallies.values())
    print(f"{total} inputs, {sum(t.refused for t in tallies.values())} refused, {defects} defects, seed {seed}")
    return 1 if defects else 0


def _print_tally(name: str, tally: Tally) -> None:
    counts = f"{tally.inputs:7} inputs {tally.refused:7} refused {_defects(tally):5} defects {tally.seconds:6.1f} s"
    print(f"{name:24} {counts}")
    for kind, (message, files) in sorted(tally.defects.items(), key=lambda item: -len(item[1][1])):
        print(f"    {len(files)} x {kind}: {message} ({files[0]})", flush=True)


def _defects(tally: Tally) -> int:
    return sum(len(files) for _, files in tally.defects.values())


def _fuzz(target, seed: int, most: int, seconds: float) -> Tally:  # type: ignore[no-untyped-def]
    """Read inputs in a child process until `most` are read or `seconds` are over.

    A child that hangs or uses too much memory is killed, and another one continues.
    """
    tally, number, started = Tally(), 0, time.monotonic()
    while number < most and (time.monotonic() - started < seconds or not number):
        receive, send = os.pipe()
        child = os.fork()
        if not child:
            os.close(receive)
            with open(send, "w", buffering=1) as pipe:
                _child(target, seed, number, most, started + seconds, pipe)
            os._exit(0)
        os.close(send)
        with open(receive) as pipe:
            number = _follow_child(target, seed, child, pipe, tally, number)
    tally.seconds = time.monotonic() - started
    return tally


def _follow_child(target, seed: int, child: int, pipe: TextIO, tally: Tally, number: int) -> int:  # type: ignore[no-untyped-def]
    """Read the lines that a child prints until it ends. Returns the number of the next input to read."""
    limit, pending = WARM_UP, ""
    handle = pipe.fileno()
    before = _resident(child)
    since = time.monotonic()
    while True:
        ready, _, _ = select([handle], [], [], 0.1)
        if ready:
            got = os.read(handle, 65536).decode()
            if not got:
                os.waitpid(child, 0)
                if pending != "over":
                    tally.inputs += 1
                    tally.defect("the process died", *_input(target, seed, number))
                    return number + 1
                return sys.maxsize
            since, limit = time.monotonic(), MAX_SECONDS
            *whole, pending = (pending + got).split("\n")
            for line in whole:
                if line == "over":
                    pending = "over"
                    continue
                kind, _, text = line.partition(" ")
                tally.inputs += 1
                tally.refused += kind == "refused"
                if kind == "defect":
                    tally.defect(text, *_input(target, seed, number))
                number += 1
        grown = _resident(child) - before
        timed_out = time.monotonic() - since > limit
        if timed_out or grown > 3 * MAX_GROWTH:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            tally.inputs += 1
            why = f"no end after {limit:.0f} s" if timed_out else f"{grown >> 20} MiB of memory"
            tally.defect(why, *_input(target, seed, number))
            return number + 1


def _child(target, seed: int, first: int, most: int, until: float, pipe: TextIO) -> None:  # type: ignore[no-untyped-def]
    """Read the inputs from number `first` on; writes a line for each: accepted, refused or defect KIND: MESSAGE."""
    from shiftbench.errors import InputError

    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    for number in range(first, most):
        if time.monotonic() > until and number > first:
            break
        content = make_input(target, seed, number)
        _reset_peak()
        before = _resident(os.getpid(), "VmRSS")
        line = "accepted"
        try:
            target.read(content)
        except (InputError, *target.refusals) as error:
            line = f"defect a well-formed input is refused: {_short(error)}" if _is_seed(target, number) else "refused"
        except BaseException as error:
            frames = [f for f in traceback.extract_tb(error.__traceback__) if "shiftbench" in f.filename]
            place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
            line = f"defect {type(error).__name__} at {place}: {_short(error)}"
        grown = _resident(os.getpid(), "VmHWM") - before
        if grown > MAX_GROWTH:
            line = f"defect {grown >> 20} MiB of memory"
        pipe.write(line + "\n")
    pipe.write("over\n")


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:100]


def _is_seed(target, number: int) -> bool:  # type: ignore[no-untyped-def]
    """Whether an input is a well-formed one, which the reader must accept."""
    stored = len(target.stored())
    return stored <= number < stored + len(target.seeds) and not target.refuses_seeds


def make_input(target, seed: int, number: int) -> bytes:  # type: ignore[no-untyped-def]
    """Input number `number` of a target: first the stored inputs, then the well-formed ones, then changed ones.

    A changed input depends on the target's name, seed and number alone.
    """
    plain = [content for _, content in target.stored()] + list(target.seeds)
    if number < len(plain):
        return plain[number]
    random = Random(f"{target.name} {seed} {number}")
    return target.mutation(random, random.choice(list(target.seeds)))


def _input(target, seed: int, number: int) -> tuple[Path, bytes]:  # type: ignore[no-untyped-def]
    """(the file that an input with a defect is written to, the bytes of the input)."""
    return DEFECTS / target.name / f"{seed}-{number}", make_input(target, seed, number)


def _resident(process: int, field_name: str = "VmRSS") -> int:
    """The resident memory of a process in bytes; 0 where it cannot be read. field_name: of /proc/PID/status."""
    try:
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith(field_name):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def _reset_peak() -> None:
    """Reset the peak of the resident memory, VmHWM, to its current size."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
