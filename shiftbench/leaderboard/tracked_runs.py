"""Runs read from MLflow as entries of a leaderboard. The record of a run is its artifact scores.json."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from rich.console import Console
from rich.progress import track

from shiftbench.leaderboard.board import LeftOut
from shiftbench.leaderboard.entry import Entry
from shiftbench.readers import reading
from shiftbench.results.document import READABLE, RecordedVerdict, parsed
from shiftbench.tracking import FoundRun, NoAnswerInTime, Tracking, read_artifact

# Limits on what a tracking server may send. A run of ours has a few hundred scores, and a report about 300 kB.
MOST_SCORES = 5000  # in one scores.json
LONGEST_TEXT = 5000  # characters of one name or value in scores.json
MOST_VERDICTS, MOST_REASONS = 100, 20  # verdicts in one scores.json, reasons of one verdict
LONGEST_REASON = 1000  # characters of one reason, of a claim in few words, or of a control's name
LARGEST_REPORT, LARGEST_REPORTS = 8 * 2**20, 2**30  # bytes of one report.html; of all, after which no more are read
MOST_UNANSWERED = 8  # after so many requests in a row without an answer, no more requests are sent
PARALLEL_REQUESTS = 8  # a leaderboard can need hundreds of answers, and a server handles several requests at a time
In = TypeVar("In")
Out = TypeVar("Out")


def gather(tracking: Tracking, runs: Sequence[FoundRun]) -> tuple[list[Entry], list[LeftOut]]:
    """(entries of the runs that can be read, the other runs with the reason), each in the order of `runs`.

    The other runs are those that did not finish, and those whose scores.json cannot be read or used. After
    MOST_UNANSWERED requests in a row without an answer, the remaining runs are left out without a request, because each
    of them could wait until its timeout.
    """
    server = _Server()

    def read(run: FoundRun) -> Entry | LeftOut:
        try:
            if run.status != "FINISHED":
                raise LookupError(f"the run has the status {run.status}: not all of its files were sent")
            content = server.request(lambda: read_artifact(tracking, run.run_id, "scores.json"))
            with reading("scores.json cannot be used"):
                return entry(run, content)
        except (LookupError, ValueError) as error:
            return LeftOut(run.run_id, run.pair, str(error))

    found = _in_parallel("reading runs", read, runs)
    return (
        [item for item in found if isinstance(item, Entry)],
        [item for item in found if isinstance(item, LeftOut)],
    )


def read_reports(tracking: Tracking, entries: Iterable[Entry]) -> dict[str, bytes]:
    """The bytes of report.html of each entry, by run id.

    An entry is absent where its report is missing, cannot be read or is larger than LARGEST_REPORT. No further report
    is requested once the reports read so far exceed LARGEST_REPORTS together, and after MOST_UNANSWERED requests in a
    row without an answer.
    """
    server = _Server()
    total = 0  # bytes

    def read(entry: Entry) -> tuple[str, bytes | None]:
        nonlocal total
        try:
            if total > LARGEST_REPORTS:
                raise LookupError("all reports together are too large")
            page = server.request(lambda: read_artifact(tracking, entry.run_id, "report.html", LARGEST_REPORT))
            total += len(page)
            return entry.run_id, page
        except LookupError:
            return entry.run_id, None

    found = _in_parallel("fetching reports", read, list(entries))
    return {run_id: page for run_id, page in found if page is not None}


def entry(run: FoundRun, content: bytes) -> Entry:
    """The run as an entry of a leaderboard. content: the bytes of the run's scores.json.

    Raises ValueError where the content is not a valid scores.json, lacks the pair's name or a model's name or digest,
    or exceeds the limits of this module, and where MLflow gave no usable time of the run.
    """
    document = parsed(content)
    if run.started_ms < 0:
        raise ValueError("the tracking server gives no usable time of the run")
    missing = [
        name for name in ("name", "base", "tuned", "base_weights", "tuned_weights") if not document.pair.get(name)
    ]
    if missing:
        raise ValueError(f"scores.json: pair lacks {', '.join(missing)}")
    if len(document.scores) > MOST_SCORES:
        raise ValueError(
            f"scores.json has {len(document.scores):,} scores; the leaderboard takes at most {MOST_SCORES:,} from a run"
        )
    if len(document.verdicts) > MOST_VERDICTS:
        raise ValueError(
            f"scores.json has {len(document.verdicts):,} verdicts; the leaderboard takes at most {MOST_VERDICTS} from "
            "a run"
        )
    for name, verdict in document.verdicts.items():
        _check_verdict(name, verdict)
    names = [*(name for score in document.scores for name in (score.finding, score.name)), *map(str, document.levels)]
    texts = [*map(str, [*document.pair.items(), *document.versions.items()]), *names, run.tags.get("flags", "")]
    if max(map(len, texts)) > LONGEST_TEXT:
        raise ValueError(f"scores.json: a name or a value in it has more than {LONGEST_TEXT:,} characters")
    return Entry(
        run_id=run.run_id,
        recorded_ms=run.started_ms,
        pair={str(name): "" if value is None else str(value) for name, value in document.pair.items()},
        versions={str(name): str(value) for name, value in document.versions.items()},
        scores=document.scores,
        levels=tuple(document.levels),
        verdicts=document.verdicts,
        judged=document.schema == READABLE[0],
        flags=tuple(dict.fromkeys(flag.strip() for flag in run.tags.get("flags", "").split(",") if flag.strip())),
    )


def _check_verdict(name: str, verdict: RecordedVerdict) -> None:
    """Raise ValueError where a verdict has more than MOST_REASONS reasons or a text that is too long.

    name: its key. LONGEST_REASON limits the texts that the comment there lists; LONGEST_TEXT limits the key, the claim
    and the headline's name.
    """
    if len(verdict.reasons) > MOST_REASONS:
        raise ValueError(f"scores.json: the verdict {name[:80]!r} has more than {MOST_REASONS} reasons")
    texts = [*verdict.reasons, verdict.short, "" if verdict.null is None else verdict.null.kind]
    if max(map(len, texts)) > LONGEST_REASON or max(map(len, (name, verdict.claim, verdict.headline))) > LONGEST_TEXT:
        raise ValueError(f"scores.json: the verdict {name[:80]!r} has a text that is too long")


class _Server:
    """Sends requests to the tracking server, until MOST_UNANSWERED in a row had no answer. Threads may share it."""

    def __init__(self) -> None:
        self._unanswered = 0

    def request(self, send: Callable[[], bytes]) -> bytes:
        """What `send` returns.

        Raises NoAnswerInTime where `send` raises it, and, without calling `send`, where the last MOST_UNANSWERED
        requests had no answer. Other errors of `send` pass unchanged; a LookupError, as of a missing file, is an
        answer of the server.
        """
        if self._unanswered >= MOST_UNANSWERED:
            raise NoAnswerInTime("it was not requested: the tracking server no longer answers")
        try:
            answer = send()
        except NoAnswerInTime:
            self._unanswered += 1
            raise
        except LookupError:
            self._unanswered = 0
            raise
        self._unanswered = 0
        return answer


def _in_parallel(title: str, work: Callable[[In], Out], items: Sequence[In]) -> list[Out]:
    """What `work` returns for each item, in the order of the items; PARALLEL_REQUESTS threads call it.

    Where standard error is a terminal, it shows a progress bar with the title.
    """
    console = Console(file=sys.stderr)
    with ThreadPoolExecutor(PARALLEL_REQUESTS) as pool:
        results = pool.map(work, items)
        shown = track(results, title, len(items), console=console, transient=True, disable=not console.is_terminal)
        return list(shown)
