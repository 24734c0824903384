"""A server that is slow, silent, endless or false: it holds no job, and has no file of this machine read or written."""

from __future__ import annotations

import gzip
import json
import logging
import shutil
import socket
import ssl
import threading
from pathlib import Path

import pytest
from mlflow import MlflowClient

from shiftbench.errors import InputError
from shiftbench.tracking import (
    TrackedRun,
    Tracking,
    Unreachable,
    find_runs,
    leave,
    pending,
    read_artifact,
    send,
    transport,
)
from shiftbench.tracking.reading import Silent, artifact
from tests.tracking import hostile
from tests.tracking.hostile import HEAD, TALKS, Liar, seconds, talking

pytestmark = pytest.mark.whole

PATIENCE = 0.5  # seconds that a server gets here
PACKED = gzip.compress(b" " * 20 * 2**20)
RUN = "0123456789abcdef0123456789abcdef"
ELSEWHERE = [
    "file:///DIR", "DIR", "FILE:///DIR", " file:///DIR", "file:DIR", "s3://bucket/x", "gs://bucket/x", "ftp://127.0.0.1/x",
    "sftp://127.0.0.1/x", "hdfs:///x", "wasbs://a@b/x", "dbfs:/x", "runs:/0123/x", "models:/x/1", "r2://x/y", "",
    "http://127.0.0.1:1/api/2.0/mlflow-artifacts/artifacts/1", "https://ADDRESS/x", "http://user@ADDRESS/x",
    "http://ADDRESS@127.0.0.1:1/x", "mlflow-artifacts://127.0.0.1:1/1", "mlflow-artifacts://other.example/1",
    "mlflow-artifacts:/../../../../x", "mlflow-artifacts:/%2e%2e/%252e%252e/x", "http://ADDRESS/api/../x", "http://[/x",
    "mlflow-artifacts:/x?y", "file:///DIR\n",
]  # fmt: skip


@pytest.fixture(autouse=True)
def little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_JITTER", "0.1")


@pytest.mark.parametrize("talk", TALKS.values(), ids=TALKS.keys())
def test_no_answer_holds_a_job(talk: hostile.Talk, caplog: pytest.LogCaptureFixture) -> None:
    with talking(talk) as address:
        tracking = Tracking(address, "shiftbench", PATIENCE)
        took = seconds(tracking.check)
        assert took < 4 * PATIENCE + 5, f"{took:.1f} s for an answer that has {PATIENCE} s"
    [warned] = [each for each in caplog.records if each.name.startswith("shiftbench")]
    assert "results are still written to disk, and `shiftbench sync` sends them later" in warned.getMessage()
    told = {
        "closes_midway": "IncompleteRead",
        "later": "asks to wait 20000 s",
        "endless": "the server's answer has more",
    }
    if talk.__name__ not in ("endless", "unavailable_and_endless"):  # either limit may be met first
        assert told.get(talk.__name__, f"no whole answer within {PATIENCE} s (tracking.timeout)") in warned.getMessage()


@pytest.mark.parametrize("host", ["LOCALHOST", "user@localhost"])
def test_the_deadline_holds_however_the_host_is_written(host: str, caplog: pytest.LogCaptureFixture) -> None:
    with talking(hostile.drips_spaces) as address:
        tracking = Tracking(address.replace("127.0.0.1", host), "shiftbench", PATIENCE)
        assert seconds(tracking.check) < 4 * PATIENCE + 5
    assert f"no whole answer within {PATIENCE} s" in caplog.text
    transport.limit_requests("http://b\u00fccher.example:5000", 7)
    assert transport._timeouts["http", "xn--bcher-kva.example", 5000] == 7


def test_an_answer_that_is_whole_in_time_is_taken(server: str) -> None:
    tracking = Tracking(server, "shiftbench", 30)
    tracking.reach()
    assert tracking.get_experiment(tracking.client()).name == "shiftbench"


def test_what_is_left_waits_for_a_server_that_drips(run: TrackedRun, caplog: pytest.LogCaptureFixture) -> None:
    leave(run.artifacts, run)
    with talking(hostile.drips_spaces) as address:
        tracking = Tracking(address, "shiftbench", PATIENCE)
        assert send(tracking, run.artifacts, None) is None
        assert pending(run.artifacts, tracking) == [run.artifacts]
        assert tracking.record(run) is None and tracking.open_suite("suite", {}) is None
        with pytest.raises(InputError, match=r"cannot be read: .*no whole answer within 0.5 s"):
            find_runs(tracking)
    assert "`shiftbench sync` sends them later" in caplog.text


@pytest.mark.parametrize("timeout", ["20", 0, -1, float("nan"), True, None])
def test_a_timeout_is_a_number_of_seconds(timeout: object) -> None:
    with pytest.raises(InputError, match="must be a number of seconds above 0"):
        Tracking(None, "shiftbench", timeout)  # type: ignore[arg-type]


def slow(piece: bytes, pause: float, length: int) -> hostile.Talk:
    def talk(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % length)
        for _ in range(length // len(piece)):
            connection.sendall(piece)
            if over.wait(pause):
                return

    return talk


def packed(connection: socket.socket, over: threading.Event) -> None:
    content = PACKED
    connection.sendall(HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(content) + content)


def test_a_file_has_a_least_speed_and_a_most_size(monkeypatch: pytest.MonkeyPatch) -> None:
    files: dict[str, bytes | hostile.Talk] = {
        "/1/good": b"good",
        "/1/steady": slow(b"x" * 16384, 0.05, 2**19),  # 1.6 s, more than the timeout, and fast enough
        "/1/drips": slow(b"x", 0.02, 2**19),
        "/1/silent": hostile.silent,
        "/1/endless": hostile.endless,
        "/1/packed": packed,
        "/1/short": hostile.closes_midway,
    }
    liar = Liar({"runs/get": {"run": hostile.run(RUN, "mlflow-artifacts:/1")}}, files)
    with liar.listening() as address:
        tracking = Tracking(address, "shiftbench", 2 * PATIENCE)
        assert read_artifact(tracking, RUN, "good") == b"good"
        assert len(read_artifact(tracking, RUN, "steady")) == 2**19
        for name, kind, told in (
            ("drips", Silent, r"moved 0\.\d KiB/s of a file for 1 s .tracking.timeout., and 16 KiB/s is the least"),
            ("silent", Silent, "moved 0.0 KiB/s"),
            ("endless", LookupError, "more than 1,048,576 bytes"),
            ("packed", LookupError, "more than 1,048,576 bytes"),
            ("short", LookupError, "IncompleteRead"),
        ):
            with pytest.raises(kind, match=told):
                read_artifact(tracking, RUN, name, 2**20)
        with pytest.raises(InputError, match=f"run {RUN} of http://.*: silent cannot be read: .*KiB/s"):
            artifact(tracking, RUN, "silent")


def test_a_server_that_takes_a_file_slowly_is_given_up(run: TrackedRun, caplog: pytest.LogCaptureFixture) -> None:
    (run.artifacts / "big").write_bytes(b"x" * 50 * 2**20)  # more than the sockets of both sides hold

    def takes_nothing(connection: socket.socket, over: threading.Event) -> None:
        over.wait(60)

    with talking(takes_nothing) as address:
        uri = "http://" + address.removeprefix("http://")
        transport.limit_requests(address, PATIENCE)
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        repository = get_artifact_repository(f"{uri}/api/2.0/mlflow-artifacts/artifacts/1")
        with pytest.raises(Exception, match="KiB/s of a file"):
            repository.log_artifact(str(run.artifacts / "big"))


@pytest.mark.parametrize("uri", ELSEWHERE)
def test_files_come_through_the_server_alone(
    uri: str, tmp_path: Path, run: TrackedRun, caplog: pytest.LogCaptureFixture
) -> None:
    private = tmp_path / "private"
    private.mkdir()
    (private / "scores.json").write_text("a private file")
    made = {"run": hostile.run(RUN, "")}
    liar = Liar({
        "runs/get": made, "runs/create": made, "runs/search": {}, "runs/log-batch": {}, "runs/update": made,
        "experiments/get-by-name": hostile.experiment(),
    })  # fmt: skip
    with liar.listening() as address:
        where = uri.replace("DIR", str(private)).replace("ADDRESS", address.removeprefix("http://"))
        made["run"]["info"]["artifact_uri"] = where
        tracking = Tracking(address, "shiftbench", PATIENCE * 10)
        with pytest.raises(LookupError, match=r"--serve-artifacts|is no URI") as raised:
            read_artifact(tracking, RUN, "scores.json")
        assert len(str(raised.value).splitlines()) == 1 and (RUN in str(raised.value) or "no URI" in str(raised.value))
        leave(run.artifacts, run)
        assert send(tracking, run.artifacts, None) is None and tracking.record(run) is None
        assert "Refused" in caplog.text
        liar.answers["experiments/get-by-name"] = hostile.experiment(where)
        with pytest.raises(InputError, match=r"--serve-artifacts|is no URI"):
            tracking.check()
    assert [path.name for path in private.iterdir()] == ["scores.json"]
    assert not any("artifacts" in path for _, path, _ in liar.asked)


@pytest.mark.parametrize(
    "uri",
    ["mlflow-artifacts:/1", "mlflow-artifacts://ADDRESS/1", "http://ADDRESS/api/2.0/mlflow-artifacts/artifacts/1"],
)
def test_and_through_the_server_they_come(uri: str, run: TrackedRun) -> None:
    made = {"run": hostile.run(RUN, "")}
    answers = {"runs/get": made, "runs/create": made, "experiments/get-by-name": hostile.experiment()}
    liar = Liar(answers, {"/1/scores.json": b"scores"})
    with liar.listening() as address:
        made["run"]["info"]["artifact_uri"] = uri.replace("ADDRESS", address.removeprefix("http://"))
        tracking = Tracking(address, "shiftbench", PATIENCE * 10)
        assert read_artifact(tracking, RUN, "scores.json") == b"scores"
        assert tracking.record(run) == RUN
    put = {path.split("/artifacts/", 1)[1] for command, path, _ in liar.asked if command == "PUT"}
    assert put == {"1/report.html", "1/scores.json", "1/tables/table%202%2C%20%C3%BC.csv"} or len(put) == 3


def test_a_place_is_judged_once_and_then_used(tmp_path: Path) -> None:
    """A server that names another place, when it is asked a second time, is not asked."""
    (tmp_path / "scores.json").write_text("a private file")
    places = iter(["mlflow-artifacts:/1", *[tmp_path.as_uri()] * 10])
    liar = Liar({"runs/get": lambda _: {"run": hostile.run(RUN, next(places))}}, {"/1/scores.json": b"scores"})
    with liar.listening() as address:
        assert read_artifact(Tracking(address, "shiftbench", 5), RUN, "scores.json") == b"scores"


def test_a_real_server_with_a_folder_of_its_own_disk_is_refused(
    server: str, tmp_path: Path, run: TrackedRun, caplog: pytest.LogCaptureFixture
) -> None:
    client = MlflowClient(server)
    name, private = "on its own disk", tmp_path / "private"
    client.create_experiment(name, private.as_uri())
    tracking = Tracking(server, name)
    with pytest.raises(InputError, match=r"experiment 'on its own disk' keeps its files in 'file:.*--serve-artifacts"):
        tracking.check()
    made = client.create_run(client.get_experiment_by_name(name).experiment_id).info
    folder = Path(made.artifact_uri.removeprefix("file://"))
    folder.mkdir(parents=True)
    (folder / "scores.json").write_text("a private file")
    with pytest.raises(InputError, match=rf"run {made.run_id} .*--serve-artifacts"):
        artifact(tracking, made.run_id, "scores.json")
    leave(run.artifacts, run)
    assert send(tracking, run.artifacts, None) is None and "--serve-artifacts" in caplog.text
    assert [path.name for path in folder.iterdir()] == ["scores.json"]


def test_a_redirect_leads_nowhere_else() -> None:
    other = Liar({"experiments/get-by-name": hostile.experiment()})
    liar = Liar({})
    with other.listening() as there, liar.listening() as address:
        liar.moved_to = there
        with pytest.raises(InputError, match=f"sends its callers to {there}.*give it as tracking.uri"):
            Tracking(address, "shiftbench", 5).check()
        assert other.asked == []
        liar.moved_to = address  # around and around
        assert seconds(Tracking(address, "shiftbench", 5).check) < 5


@pytest.mark.parametrize(
    "answer",
    [b"", b"<html>", b"null", b"[]", b"[" * 100_000, b'{"experiment": null}', b'{"experiment": []}', b"{}", b"\xff\xfe",
     {"experiment": {"experiment_id": {"a": 1}}}, {"experiment": {"name": 5}}, b"1" * 5000,
     {"error_code": {"a": 1}, "message": ["\x1b[2J"]}],
)  # fmt: skip
def test_an_answer_that_is_none_of_mlflows_is_a_warning(answer: object, caplog: pytest.LogCaptureFixture) -> None:
    liar = Liar({"experiments/get-by-name": answer, "experiments/create": answer, "experiments/get": answer})
    with liar.listening() as address:
        Tracking(address, "shiftbench", 5).check()
        with pytest.raises(Unreachable) as raised:
            Tracking(address, "shiftbench", 5).reach()
    assert str(raised.value).isprintable() and len(str(raised.value)) < 1000
    assert "`shiftbench sync` sends them later" in caplog.text


def test_a_list_of_runs_is_taken_with_what_is_wrong_in_it() -> None:
    runs = [
        hostile.run("a" * 32, "mlflow-artifacts:/1"),
        {"info": {"run_id": "b" * 32, "start_time": 2**62}, "data": {"tags": [{"key": "pair", "value": ""}]}},
        {"info": {"run_id": "c" * 32, "start_time": -5}, "data": {"tags": [{"key": "pair"}]}},
        {"info": {"run_id": "d" * 32}, "data": {"tags": [{"key": "other", "value": "x"}]}},
        {"info": {"run_id": "e" * 32}, "data": {}},
    ]
    liar = Liar({"experiments/get-by-name": hostile.experiment(), "runs/search": {"runs": runs}})
    with liar.listening() as address:
        found = find_runs(Tracking(address, "shiftbench", 5))
        assert [(run.run_id[0], run.pair, run.started_ms) for run in found] == [
            ("a", "a pair", 1000),
            ("b", "", -1),
            ("c", "", -1),
        ]
        for answer in (
            {"runs": 5},
            {"runs": [5]},
            {"runs": [{"info": []}]},
            b"[]",
            {"runs": [{"data": {"tags": None}}]},
        ):
            liar.answers["runs/search"] = answer
            try:
                assert find_runs(Tracking(address, "shiftbench", 5)) == []
            except InputError as error:
                assert "cannot be read" in str(error)


def test_a_list_of_runs_without_end_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shiftbench.tracking.reading.MAX_PAGES", 5)
    answers = {"experiments/get-by-name": hostile.experiment(), "runs/search": {"runs": [], "next_page_token": "on"}}
    with Liar(answers).listening() as address, pytest.raises(InputError, match="list of runs has no end"):
        find_runs(Tracking(address, "shiftbench", 5))


@pytest.fixture
def strangers(tmp_path: Path, empty_database: Path) -> Tracking:
    """A sqlite file whose one experiment is kept beside it."""
    (tmp_path / "db").mkdir()
    shutil.copy(empty_database, tmp_path / "db" / "mlflow.db")
    return Tracking(f"sqlite:///{tmp_path}/db/mlflow.db", "shiftbench")


def execute(tracking: Tracking, statement: str, *values: str) -> None:
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(tracking.database or "")) as connection:
        connection.execute(statement, values)
        connection.commit()


def test_a_database_names_only_folders_that_mlflow_lays_out(
    strangers: Tracking, run: TrackedRun, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run_id = str(strangers.record(run))
    expected = (run.artifacts / "scores.json").read_bytes()
    assert read_artifact(strangers, run_id, "scores.json") == expected
    private = tmp_path / "private"
    private.mkdir()
    (private / "scores.json").write_text("a private file")
    place = strangers.artifact_folder / run_id / "artifacts"
    for uri in (
        private.as_uri(),
        str(private),
        f"{place.as_uri()}/../../../../private",
        "s3://bucket/x",
        "http://127.0.0.1:1/x",
    ):
        execute(strangers, "UPDATE runs SET artifact_uri = ?", uri)
        with pytest.raises(LookupError, match=f"run {run_id} keeps its files in .*(read or written there|sqlite file)"):
            read_artifact(strangers, run_id, "scores.json")
    execute(strangers, "UPDATE runs SET artifact_uri = ?", place.as_uri())
    (place / "report.html").unlink()
    (place / "report.html").symlink_to(private / "scores.json")
    with pytest.raises(LookupError, match="a link that leads out of the folder of its run"):
        read_artifact(strangers, run_id, "report.html")


def test_a_database_that_was_moved_still_has_its_files(
    strangers: Tracking, run: TrackedRun, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run_id = str(strangers.record(run))
    (tmp_path / "moved").mkdir()
    shutil.copy(str(strangers.database), tmp_path / "moved" / "mlflow.db")
    moved = Tracking(f"sqlite:///{tmp_path}/moved/mlflow.db", "shiftbench")
    with caplog.at_level(logging.WARNING):
        moved.check()
    assert "not beside its database (was it moved?)" in caplog.text
    assert read_artifact(moved, run_id, "scores.json") == (run.artifacts / "scores.json").read_bytes()
    assert moved.record(run) is not None


def test_a_sqlite_file_that_keeps_files_on_a_host_is_refused(strangers: Tracking) -> None:
    strangers.check()
    execute(strangers, "UPDATE experiments SET artifact_location = 's3://bucket' WHERE name = ?", "shiftbench")
    with pytest.raises(InputError, match="a sqlite file may name folders of this machine only"):
        strangers.check()


def certificate(folder: Path) -> Path:
    """A key and a certificate for 127.0.0.1, signed with itself, in one file."""
    import datetime
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(True, None), True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    path = folder / "certificate.pem"
    kinds = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + key.private_bytes(*kinds))
    return path


@pytest.mark.parametrize("talk", ["whole", "drips_spaces", "drips_a_head", "silent", "no_handshake"])
def test_the_limits_hold_under_tls(
    talk: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = certificate(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(path))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)

    def whole(connection: socket.socket, over: threading.Event) -> None:
        body = json.dumps(hostile.experiment()).encode()
        connection.sendall(HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    with talking({**TALKS, "whole": whole, "no_handshake": hostile.silent}[talk],
                 None if talk == "no_handshake" else context) as address:  # fmt: skip
        tracking = Tracking(address.replace("http://", "https://"), "shiftbench", 2 * PATIENCE)
        if talk == "whole":
            assert tracking.get_experiment(tracking.client()).name == "shiftbench"
        else:
            assert seconds(tracking.check) < 8 * PATIENCE + 5
            assert "results are still written to disk" in caplog.text
