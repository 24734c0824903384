"""`shiftbench leaderboard` with a real MLflow: an sqlite database, a server that is down, one that wants a password."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from shiftbench import commands
from shiftbench.config import composition
from shiftbench.tracking import Tracking

from .runs import Planted, digest, record, row


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a database with seven runs of five pairs. Three pairs are comparable and readable."""
    root = tmp_path_factory.mktemp("tracked")
    tracking = Tracking(f"sqlite:///{root}/mlflow.db", "shiftbench")
    null = row("instruction_verbs", "verbs_over_null", 0.04, 0.01, 0.07)
    planted = [
        Planted("alpha", scores={"recognition": (0.1, 0.05, 0.15)}, report="<title>old</title>"),
        Planted("alpha", scores={"recognition": (0.3, 0.25, 0.35)}, extra=[null], report="<title>new</title>"),
        Planted("beta/..", scores={"recognition": (0.2, 0.15, 0.24)}, tags={"flags": "length"}),
        Planted("gamma", "org/other", size="7B", report=None),
        Planted("alpha", pair={"prompt_set": digest("mt_bench"), "dataset": "mt_bench"}),
        Planted("suite", tags={"shiftbench.kind": "suite"}),
        Planted("broken"),
    ]
    for i, each in enumerate(planted):
        run_id = record(tracking, each, root / "runs" / str(i))
    stored = root / "mlflow-artifacts" / run_id / "artifacts" / "scores.json"
    stored.write_text("{")
    return tracking.address


def run(capfd: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    capfd.readouterr()
    code = commands.main(["leaderboard", *words])
    printed = capfd.readouterr()
    return code, printed.out, printed.err


def refused(capfd: pytest.CaptureFixture[str], *words: str) -> str:
    code, out, err = run(capfd, *words)
    assert (code, out) == (2, "") and "Traceback" not in err
    lines = [line for line in err.splitlines() if line.startswith("shiftbench:")]
    assert len(lines) == 1, err
    return lines[0]


@pytest.mark.long
def test_from_tracked_runs_to_pages(tracked: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capfd, f"tracking.uri={tracked}", f"out={tmp_path / 'board'}")
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == f"page: {tmp_path / 'board' / 'leaderboard.html'}"
    assert "3 pairs of 6 runs" in out
    assert "shown: 252 prompts, 200 tokens, suite all, 1,999 permuted draws" in out
    assert "other groups of comparable runs, which the page links: 1" in out
    assert "supported, rank 1:" in " ".join(out.split()) and "null models" in out
    assert "left out: 1 run: a newer run of the same pair is shown" in out
    assert "left out: 1 run: scores.json is not JSON" in out
    assert "prompts mt_bench (" in out and "suite'" not in out
    document = json.loads((tmp_path / "board" / "leaderboard.json").read_text())
    ranked = {each["pair"]["name"]: each["ranks"]["instruction_recognition"]["first"] for each in document["rows"]}
    assert ranked["alpha"] == 1 and ranked["beta/.."] == 2
    assert [each["flags"] for each in document["rows"] if each["pair"]["name"] == "beta/.."] == [["length"]]
    assert "new" in (tmp_path / "board" / "reports" / "alpha.html").read_text()
    assert sorted(item["pair"] for item in document["left_out"]) == ["alpha", "alpha", "broken"]
    # The order in which runs are read does not matter, so a second board differs from the first in its time alone.
    run(capfd, f"tracking.uri={tracked}", f"out={tmp_path / 'again'}")
    again = json.loads((tmp_path / "again" / "leaderboard.json").read_text())
    assert {**again, "made": ""} == {**document, "made": ""}


@pytest.mark.long
def test_a_site_is_written_and_replaced(tracked: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = (f"tracking.uri={tracked}", f"publish={tmp_path / 'site'}")
    for _ in range(2):
        assert run(capfd, *words)[0] == 0
    assert (tmp_path / "site" / "index.html").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["site"]
    assert run(capfd, *words, "group=g0")[0] == 2


def test_another_group_can_be_chosen(tracked: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    message = refused(capfd, f"tracking.uri={tracked}", f"out={tmp_path / 'x'}", "group=other")
    group = message.split("(1 pairs:")[0].split()[-1]
    code, out, _ = run(capfd, f"tracking.uri={tracked}", f"out={tmp_path / 'x'}", f"group={group}")
    assert code == 0 and "1 pair of 6 runs" in out and "left out: 4 runs: another group" in out


@pytest.mark.long
def test_a_place_without_runs_is_refused(
    tracked: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "no run was tracked there; score a pair first" in refused(capfd)
    assert not (tmp_path / "shiftbench-runs" / "mlflow.db").exists()  # reading does not create a database
    assert "no experiment 'x'" in refused(capfd, f"tracking.uri={tracked}", "tracking.experiment=x")
    assert "tracking.uri=none keeps no runs" in refused(capfd, "tracking=none")
    empty = Tracking(f"sqlite:///{tmp_path}/empty.db", "shiftbench")
    empty.check()
    assert "the leaderboard is empty" in refused(capfd, f"tracking.uri={empty.address}")
    (tmp_path / "text.db").write_text("no database, but long enough to be told apart from one " * 9)
    assert "cannot be read" in refused(capfd, f"tracking.uri=sqlite:///{tmp_path}/text.db")
    assert "gopher" in refused(capfd, "tracking.uri=gopher://x")


def test_a_server_that_is_down_is_named(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    message = refused(capfd, "tracking.uri=http://127.0.0.1:9", f"out={tmp_path / 'x'}")
    assert "http://127.0.0.1:9 cannot be read" in message
    assert not (tmp_path / "x").exists()


class _Refuses(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(401)
        self.send_header("WWW-Authenticate", "Basic")
        self.end_headers()
        self.wfile.write(b"You are not authenticated.")

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def locked() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _Refuses)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_server_that_refuses_the_password_is_named(
    locked: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ann")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "sesame")
    message = refused(capfd, f"tracking.uri=http://{locked}", f"out={tmp_path / 'x'}")
    assert f"http://{locked}" in message and "401" in message and "refuses the user and password" in message
    assert "sesame" not in message


def test_an_output_that_cannot_be_written_is_refused_before_runs_are_read(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    assert "out=" in refused(capfd, f"out={tmp_path / 'file'}", "tracking=none")
    assert "publish=" in refused(capfd, f"publish={tmp_path / 'file' / 'below'}", "tracking=none")


def test_help_and_options(capfd: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capfd, "--help")
    assert code == 0 and "publish: null" in out
    assert "'publish'" in refused(capfd, "publsh=x")
    assert set(composition.compose("leaderboard", [])) == {"tracking", "out", "publish", "group"}
