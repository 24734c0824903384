"""Runs from a hostile server: each wrong run is left out with its reason, and the others are shown."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from shiftbench.leaderboard import build, gather, read_reports
from shiftbench.leaderboard.tracked_runs import MOST_UNANSWERED, _Server
from shiftbench.tracking import FoundRun, NoAnswerInTime, Tracking, find_runs, read_artifact
from tests.tracking import hostile
from tests.tracking.hostile import ScriptedServer

from .runs import Planted, row

GOOD = Planted("good").document()
PAIR = GOOD["pair"]
ROW = row("f", "s", 0.1, 0.0, 0.2)
VERDICT = GOOD["verdicts"]["instruction_verbs"]


def judged(**fields: Any) -> dict[str, Any]:
    """A document whose one verdict has these fields."""
    return {**GOOD, "verdicts": {"instruction_verbs": {**VERDICT, **fields}}}


WRONG: dict[str, bytes | dict[str, Any]] = {
    "empty": b"", "null": b"null", "list": b"[]", "number": b"5", "brackets": b"[" * 3000, "deep": b"[" * 1_000_000,
    "not text": b"\xff\xfe", "digits": b'{"schema": ' + b"9" * 4301 + b"}", "twice": b'{"schema": 1, "schema": 1}',
    "no pair": {**GOOD, "pair": None}, "pair list": {**GOOD, "pair": []}, "no scores": {**GOOD, "scores": []},
    "levels null": {**GOOD, "levels": None}, "levels": {**GOOD, "levels": "abc"}, "versions": {**GOOD, "versions": 5},
    "score": {**GOOD, "scores": [5]}, "score null": {**GOOD, "scores": [None]},
    "n": {**GOOD, "scores": [{**ROW, "n": "x"}]},
    "infinite": {**GOOD, "scores": [{**ROW, "high": 1e999}]}, "nan": {**GOOD, "scores": [{**ROW, "p": float("nan")}]},
    "upside down": {**GOOD, "scores": [{**ROW, "low": 1, "high": 0}]},
    "unnamed": {**GOOD, "pair": {**PAIR, "name": ""}},
    "long name": {**GOOD, "pair": {**PAIR, "name": "x" * 10_000}}, "many": {**GOOD, "scores": [ROW] * 6000},
    "long finding": {**GOOD, "scores": [{**ROW, "finding": "x" * 10_000}]},
    "word": judged(verdict="certain"), "verdict": {**GOOD, "verdicts": {"f": 5}}, "p": judged(p_uncorrected=-1),
    "verdicts": {**GOOD, "verdicts": [VERDICT]}, "verdict p": judged(p_uncorrected=1e999), "verdict n": judged(n=-1),
    "verdict order": judged(low=1, high=0), "reasons": judged(reasons=["x"] * 100),
    "reason": judged(reasons=["x" * 5000]),
    "place": judged(null={**VERDICT["null"], "place": 3000}), "no draws": judged(null={**VERDICT["null"], "draws": 0}),
    "many verdicts": {**GOOD, "verdicts": {str(i): VERDICT for i in range(200)}}, "short": judged(short="x" * 5000),
    "huge": b'{"x": "' + b"x" * 5 * 2**20 + b'"}',
}  # fmt: skip
STRANGE: dict[str, dict[str, Any]] = {  # strange values that are still a row: the page shows every value as text
    "strange": {**GOOD, "pair": {**PAIR, "name": "strange", "size": "9" * 400 + "B", "family": ["<b>"], "dataset": {}}},
    "strange verdict": {
        **judged(short="<b>", reasons=["<script>", "\u202e", ""], null={**VERDICT["null"], "draws": 10**30}),
        "pair": {**PAIR, "name": "strange verdict"},
    },
    "extreme": {
        **GOOD, "pair": {**PAIR, "name": "extreme"}, "scores": [{**ROW, "low": -1e308, "high": 1e308, "n": 10**30}],
    },
}  # fmt: skip


def content(of: bytes | dict[str, Any]) -> bytes:
    return of if isinstance(of, bytes) else json.dumps(of).encode()


@pytest.fixture
def liar() -> Iterator[tuple[ScriptedServer, Tracking]]:
    """A server with one good run and one run for each wrong or strange document."""
    documents = {"good": GOOD, **WRONG, **STRANGE}
    names = {f"{number:032x}": name for number, name in enumerate(documents)}
    runs = {run_id: hostile.run(run_id, f"mlflow-artifacts:/{run_id}") for run_id in names}
    files = {f"/{run_id}/scores.json": content(documents[name]) for run_id, name in names.items()}
    files |= {f"/{run_id}/report.html": b"<!doctype html><title>r</title>" for run_id in names}

    class Of(ScriptedServer):
        def found(self, query: str) -> Any:
            return {"run": next(run for run_id, run in runs.items() if run_id in query)}

    server = Of({"experiments/get-by-name": hostile.experiment(), "runs/search": {"runs": list(runs.values())}}, files)
    server.answers["runs/get"] = server.found
    with server.listening() as address:
        yield server, Tracking(address, "shiftbench", 5)


def test_a_wrong_run_is_left_out_and_the_others_are_shown(liar: tuple[ScriptedServer, Tracking], tmp_path: Any) -> None:
    from shiftbench.leaderboard import write_site

    _, tracking = liar
    found = find_runs(tracking)
    entries, left_out = gather(tracking, found)
    assert len(found) == len(WRONG) + len(STRANGE) + 1
    assert {entry.pair["name"] for entry in entries} == {"good", *STRANGE}
    assert len(left_out) == len(WRONG)
    assert all(item.reason and len(item.reason) < 1000 and "\n" not in item.reason for item in left_out)
    boards = build(entries, left_out)
    page = write_site(boards, read_reports(tracking, boards[0].rows), tmp_path / "site")
    assert "good" in page.read_text() and len(boards[0].left_out) >= len(WRONG)


def test_a_run_without_a_usable_time_is_refused() -> None:
    run = FoundRun("0" * 32, "a", -1, "FINISHED", {})
    from shiftbench.leaderboard.tracked_runs import entry

    with pytest.raises(ValueError, match="no usable time"):
        entry(run, content(GOOD))


def test_a_server_that_stops_answering_gets_no_more_requests(liar: tuple[ScriptedServer, Tracking]) -> None:
    server, tracking = liar
    impatient = Tracking(tracking.uri, "shiftbench", 0.3)
    server.files = {path: hostile.never_answers for path in server.files}
    runs = find_runs(impatient) * 20  # more than 500: one after another, they would take minutes
    began = time.monotonic()
    entries, left_out = gather(impatient, runs)
    assert entries == [] and len(left_out) == len(runs) and time.monotonic() - began < 30
    reasons = [item.reason for item in left_out]
    assert sum("moved 0.0 KiB/s" in reason for reason in reasons) < 4 * MOST_UNANSWERED
    assert "the tracking server no longer answers" in reasons[-1]


def test_any_answer_ends_a_row_of_requests_without_one() -> None:
    def unanswered() -> bytes:
        raise NoAnswerInTime("slow")

    def missing() -> bytes:
        raise LookupError("no such file")

    server = _Server()
    for _ in range(3):
        for _ in range(MOST_UNANSWERED - 1):
            with pytest.raises(NoAnswerInTime, match="slow"):
                server.request(unanswered)
        with pytest.raises(LookupError, match="no such file"):
            server.request(missing)
    assert server.request(lambda: b"x") == b"x"
    for _ in range(MOST_UNANSWERED):
        with pytest.raises(NoAnswerInTime, match="slow"):
            server.request(unanswered)
    with pytest.raises(NoAnswerInTime, match="no longer answers"):
        server.request(lambda: b"x")


def test_a_server_that_takes_no_connection_gives_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with ScriptedServer({}).listening() as address:
        pass
    with pytest.raises(NoAnswerInTime):
        read_artifact(Tracking(address, "shiftbench", 5), "0" * 32, "scores.json")
