"""A server that is slow, silent, endless or hostile delays no job, and reaches no file of this machine."""

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
    pending_folders,
    read_artifact,
    send_run,
    spool_run,
    transport,
)
from shiftbench.tracking.reading import NoAnswerInTime, artifact
from tests.tracking import hostile
from tests.tracking.hostile import HEADER, REPLIES, ScriptedServer, seconds, serving

pytestmark = pytest.mark.whole

TIMEOUT = 0.5  # seconds that an answer may take in these tests
PACKED = gzip.compress(b" " * 20 * 2**20)
RUN = "0123456789abcdef0123456789abcdef"
ELSEWHERE = [
    "file:///DIR", "DIR", "FILE:///DIR", " file:///DIR", "file:DIR", "s3://bucket/x", "gs://bucket/x", "ftp://127.0.0.1/x",
    "sftp://127.0.0.1/x", "hdfs:///x", "wasbs://a@b/x", "dbfs:/x", "runs:/0123/x", "models:/x/1", "r2://x/y", "",
    "http://127.0.0.1:1/api/2.0/mlflow-artifacts/artifacts/1", "https://ADDRESS/x", "http://user@ADDRESS/x",
    "http://ADDRESS@127.0.0.1:1/x", "mlflow-artifacts://127.0.0.1:1/1", "mlflow-artifacts://other.example/1",
    "mlflow-artifacts:/../../../../x", "mlflow-artifacts:/%2e%2e/%252e%252e/x", "http://ADDRESS/api/../x", "http://[/x",
    "mlflow-artifacts:/x?y", "file:///DIR\n",
    "http://me:tell-nobody\u2100@ADDRESS/1",  # of which urlsplit's message quotes the password
]  # fmt: skip


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pause between MLflow's retries."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_JITTER", "0.1")


@pytest.mark.parametrize("reply", REPLIES.values(), ids=REPLIES.keys())
def test_an_answer_that_never_ends_delays_a_job_no_longer_than_the_limit(
    reply: hostile.Reply, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(reply) as address:
        tracking = Tracking(address, "shiftbench", TIMEOUT)
        took = seconds(tracking.check)
        assert took < 4 * TIMEOUT + 5, f"{took:.1f} s for an answer that has {TIMEOUT} s"
    [warned] = [each for each in caplog.records if each.name.startswith("shiftbench")]
    assert "results are still written to disk, and `shiftbench sync` sends them later" in warned.getMessage()
    expected = {
        "closes_midway": "IncompleteRead",
        "asks_to_retry_later": "asks to wait 20000 s",
        "endless": "the server's answer has more",
    }
    if reply.__name__ not in ("endless", "endless_503"):  # the limit of size or of time may be reached first
        assert (
            expected.get(reply.__name__, f"no whole answer within {TIMEOUT} s (tracking.timeout)")
            in warned.getMessage()
        )


@pytest.mark.parametrize("host", ["LOCALHOST", "user@localhost"])
def test_the_deadline_holds_however_the_host_is_written(host: str, caplog: pytest.LogCaptureFixture) -> None:
    with serving(hostile.sends_body_slowly) as address:
        tracking = Tracking(address.replace("127.0.0.1", host), "shiftbench", TIMEOUT)
        assert seconds(tracking.check) < 4 * TIMEOUT + 5
    assert f"no whole answer within {TIMEOUT} s" in caplog.text
    transport.limit_requests("http://b\u00fccher.example:5000", 7)
    assert transport._timeouts["http", "xn--bcher-kva.example", 5000] == 7


def test_an_answer_within_the_limit_is_accepted(server: str) -> None:
    tracking = Tracking(server, "shiftbench", 30)
    tracking.reach()
    assert tracking.get_experiment(tracking.client()).name == "shiftbench"


def test_a_run_stays_pending_while_a_server_sends_byte_by_byte(
    run: TrackedRun, caplog: pytest.LogCaptureFixture
) -> None:
    spool_run(run.artifacts, run)
    with serving(hostile.sends_body_slowly) as address:
        tracking = Tracking(address, "shiftbench", TIMEOUT)
        assert send_run(tracking, run.artifacts, None) is None
        assert pending_folders(run.artifacts, tracking) == [run.artifacts]
        assert tracking.record(run) is None and tracking.open_suite("suite", {}) is None
        with pytest.raises(InputError, match=r"cannot be read: .*no whole answer within 0.5 s"):
            find_runs(tracking)
    assert "`shiftbench sync` sends them later" in caplog.text


@pytest.mark.parametrize("timeout", ["20", 0, -1, float("nan"), True, None])
def test_a_timeout_is_a_number_of_seconds(timeout: object) -> None:
    with pytest.raises(InputError, match="must be a number of seconds above 0"):
        Tracking(None, "shiftbench", timeout)  # type: ignore[arg-type]


def slow(piece: bytes, pause: float, length: int) -> hostile.Reply:
    def reply(connection: socket.socket, stop: threading.Event) -> None:
        connection.sendall(HEADER + b"Content-Length: %d\r\n\r\n" % length)
        for _ in range(length // len(piece)):
            connection.sendall(piece)
            if stop.wait(pause):
                return

    return reply


def packed(connection: socket.socket, stop: threading.Event) -> None:
    content = PACKED
    connection.sendall(HEADER + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(content) + content)


def test_a_file_must_arrive_fast_enough_and_be_small_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    files: dict[str, bytes | hostile.Reply] = {
        "/1/good": b"good",
        "/1/steady": slow(b"x" * 16384, 0.05, 2**19),  # takes 1.6 s, longer than the timeout, and is fast enough
        "/1/drips": slow(b"x", 0.02, 2**19),
        "/1/silent": hostile.never_answers,
        "/1/endless": hostile.endless,
        "/1/packed": packed,
        "/1/short": hostile.closes_midway,
    }
    server = ScriptedServer({"runs/get": {"run": hostile.run(RUN, "mlflow-artifacts:/1")}}, files)
    with server.listening() as address:
        tracking = Tracking(address, "shiftbench", 2 * TIMEOUT)
        assert read_artifact(tracking, RUN, "good") == b"good"
        assert len(read_artifact(tracking, RUN, "steady")) == 2**19
        for name, kind, expected in (
            (
                "drips",
                NoAnswerInTime,
                r"moved 0\.\d KiB/s of a file for 1 s .tracking.timeout., and 16 KiB/s is the least",
            ),
            ("silent", NoAnswerInTime, "moved 0.0 KiB/s"),
            ("endless", LookupError, "more than 1,048,576 bytes"),
            ("packed", LookupError, "more than 1,048,576 bytes"),
            ("short", LookupError, "IncompleteRead"),
        ):
            with pytest.raises(kind, match=expected):
                read_artifact(tracking, RUN, name, 2**20)
        with pytest.raises(InputError, match=f"run {RUN} of http://.*: silent cannot be read: .*KiB/s"):
            artifact(tracking, RUN, "silent")


def test_an_upload_to_a_server_that_reads_nothing_ends(run: TrackedRun, caplog: pytest.LogCaptureFixture) -> None:
    (run.artifacts / "big").write_bytes(b"x" * 50 * 2**20)  # more than the buffers of both sockets hold

    def takes_nothing(connection: socket.socket, stop: threading.Event) -> None:
        stop.wait(60)

    with serving(takes_nothing) as address:
        uri = "http://" + address.removeprefix("http://")
        transport.limit_requests(address, TIMEOUT)
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        repository = get_artifact_repository(f"{uri}/api/2.0/mlflow-artifacts/artifacts/1")
        with pytest.raises(Exception, match="KiB/s of a file"):
            repository.log_artifact(str(run.artifacts / "big"))


@pytest.mark.parametrize("uri", ELSEWHERE)
def test_files_of_a_servers_runs_in_other_locations_are_refused(
    uri: str, tmp_path: Path, run: TrackedRun, caplog: pytest.LogCaptureFixture
) -> None:
    private = tmp_path / "private"
    private.mkdir()
    (private / "scores.json").write_text("a private file")
    answer = {"run": hostile.run(RUN, "")}
    server = ScriptedServer({
        "runs/get": answer, "runs/create": answer, "runs/search": {}, "runs/log-batch": {}, "runs/update": answer,
        "experiments/get-by-name": hostile.experiment(),
    })  # fmt: skip
    with server.listening() as address:
        where = uri.replace("DIR", str(private)).replace("ADDRESS", address.removeprefix("http://"))
        answer["run"]["info"]["artifact_uri"] = where
        tracking = Tracking(address, "shiftbench", TIMEOUT * 10)
        with pytest.raises(LookupError, match=r"--serve-artifacts|is no URI") as raised:
            read_artifact(tracking, RUN, "scores.json")
        assert len(str(raised.value).splitlines()) == 1 and (RUN in str(raised.value) or "no URI" in str(raised.value))
        spool_run(run.artifacts, run)
        assert send_run(tracking, run.artifacts, None) is None and tracking.record(run) is None
        assert "Refused" in caplog.text and "tell-nobody" not in f"{raised.value} {caplog.text}"
        server.answers["experiments/get-by-name"] = hostile.experiment(where)
        with pytest.raises(InputError, match=r"--serve-artifacts|is no URI"):
            tracking.check()
    assert [path.name for path in private.iterdir()] == ["scores.json"]
    assert not any("artifacts" in path for _, path, _ in server.requests)


@pytest.mark.parametrize(
    "uri",
    ["mlflow-artifacts:/1", "mlflow-artifacts://ADDRESS/1", "http://ADDRESS/api/2.0/mlflow-artifacts/artifacts/1"],
)
def test_files_on_the_server_itself_are_read_and_written(uri: str, run: TrackedRun) -> None:
    answer = {"run": hostile.run(RUN, "")}
    answers = {"runs/get": answer, "runs/create": answer, "experiments/get-by-name": hostile.experiment()}
    server = ScriptedServer(answers, {"/1/scores.json": b"scores"})
    with server.listening() as address:
        answer["run"]["info"]["artifact_uri"] = uri.replace("ADDRESS", address.removeprefix("http://"))
        tracking = Tracking(address, "shiftbench", TIMEOUT * 10)
        assert read_artifact(tracking, RUN, "scores.json") == b"scores"
        assert tracking.record(run) == RUN
    put = {path.split("/artifacts/", 1)[1] for command, path, _ in server.requests if command == "PUT"}
    assert put == {"1/report.html", "1/scores.json", "1/tables/table%202%2C%20%C3%BC.csv"} or len(put) == 3


def test_a_location_is_requested_once_checked_and_then_used(tmp_path: Path) -> None:
    """A server that would name another location in a second answer is not asked for one."""
    (tmp_path / "scores.json").write_text("a private file")
    places = iter(["mlflow-artifacts:/1", *[tmp_path.as_uri()] * 10])
    server = ScriptedServer(
        {"runs/get": lambda _: {"run": hostile.run(RUN, next(places))}}, {"/1/scores.json": b"scores"}
    )
    with server.listening() as address:
        assert read_artifact(Tracking(address, "shiftbench", 5), RUN, "scores.json") == b"scores"


def test_a_real_server_that_keeps_files_in_a_local_folder_is_refused(
    server: str, tmp_path: Path, run: TrackedRun, caplog: pytest.LogCaptureFixture
) -> None:
    client = MlflowClient(server)
    name, private = "on its own disk", tmp_path / "private"
    client.create_experiment(name, private.as_uri())
    tracking = Tracking(server, name)
    with pytest.raises(InputError, match=r"experiment 'on its own disk' keeps its files in 'file:.*--serve-artifacts"):
        tracking.check()
    created = client.create_run(client.get_experiment_by_name(name).experiment_id).info
    folder = Path(created.artifact_uri.removeprefix("file://"))
    folder.mkdir(parents=True)
    (folder / "scores.json").write_text("a private file")
    with pytest.raises(InputError, match=rf"run {created.run_id} .*--serve-artifacts"):
        artifact(tracking, created.run_id, "scores.json")
    spool_run(run.artifacts, run)
    assert send_run(tracking, run.artifacts, None) is None and "--serve-artifacts" in caplog.text
    assert [path.name for path in folder.iterdir()] == ["scores.json"]


def test_a_redirect_to_another_server_is_refused() -> None:
    other = ScriptedServer({"experiments/get-by-name": hostile.experiment()})
    server = ScriptedServer({})
    with other.listening() as there, server.listening() as address:
        server.moved_to = there
        with pytest.raises(InputError, match=f"sends its callers to {there}.*give it as tracking.uri"):
            Tracking(address, "shiftbench", 5).check()
        assert other.requests == []
        server.moved_to = "http://[x"  # no address at all
        with pytest.raises(InputError, match=r"sends its callers to http://\[x"):
            Tracking(address, "shiftbench", 5).check()
        server.moved_to = address  # redirects to itself without end
        assert seconds(Tracking(address, "shiftbench", 5).check) < 5


@pytest.mark.parametrize(
    "answer",
    [b"", b"<html>", b"null", b"[]", b"[" * 100_000, b'{"experiment": null}', b'{"experiment": []}', b"{}", b"\xff\xfe",
     {"experiment": {"experiment_id": {"a": 1}}}, {"experiment": {"name": 5}}, b"1" * 5000,
     {"error_code": {"a": 1}, "message": ["\x1b[2J"]}],
)  # fmt: skip
def test_an_answer_that_mlflow_would_not_give_is_a_warning(answer: object, caplog: pytest.LogCaptureFixture) -> None:
    server = ScriptedServer(
        {"experiments/get-by-name": answer, "experiments/create": answer, "experiments/get": answer}
    )
    with server.listening() as address:
        Tracking(address, "shiftbench", 5).check()
        with pytest.raises(Unreachable) as raised:
            Tracking(address, "shiftbench", 5).reach()
    assert str(raised.value).isprintable() and len(str(raised.value)) < 1000
    assert "`shiftbench sync` sends them later" in caplog.text


def test_a_list_of_runs_with_malformed_runs_is_read_or_refused() -> None:
    runs = [
        hostile.run("a" * 32, "mlflow-artifacts:/1"),
        {"info": {"run_id": "b" * 32, "start_time": 2**62}, "data": {"tags": [{"key": "pair", "value": ""}]}},
        {"info": {"run_id": "c" * 32, "start_time": -5}, "data": {"tags": [{"key": "pair"}]}},
        {"info": {"run_id": "d" * 32}, "data": {"tags": [{"key": "other", "value": "x"}]}},
        {"info": {"run_id": "e" * 32}, "data": {}},
    ]
    server = ScriptedServer({"experiments/get-by-name": hostile.experiment(), "runs/search": {"runs": runs}})
    with server.listening() as address:
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
            server.answers["runs/search"] = answer
            try:
                assert find_runs(Tracking(address, "shiftbench", 5)) == []
            except InputError as error:
                assert "cannot be read" in str(error)


def test_a_list_of_runs_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shiftbench.tracking.reading.MAX_PAGES", 5)
    answers = {"experiments/get-by-name": hostile.experiment(), "runs/search": {"runs": [], "next_page_token": "on"}}
    with ScriptedServer(answers).listening() as address, pytest.raises(InputError, match="list of runs has no end"):
        find_runs(Tracking(address, "shiftbench", 5))


@pytest.fixture
def received_database(tmp_path: Path, empty_database: Path) -> Tracking:
    """A sqlite file from somebody else; its experiment keeps artifacts in the folder beside it."""
    (tmp_path / "db").mkdir()
    shutil.copy(empty_database, tmp_path / "db" / "mlflow.db")
    return Tracking(f"sqlite:///{tmp_path}/db/mlflow.db", "shiftbench")


def execute(tracking: Tracking, statement: str, *values: str) -> None:
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(tracking.database or "")) as connection:
        connection.execute(statement, values)
        connection.commit()


def test_a_databases_runs_may_keep_files_only_in_mlflows_layout(
    received_database: Tracking, run: TrackedRun, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run_id = str(received_database.record(run))
    expected = (run.artifacts / "scores.json").read_bytes()
    assert read_artifact(received_database, run_id, "scores.json") == expected
    private = tmp_path / "private"
    private.mkdir()
    (private / "scores.json").write_text("a private file")
    location = received_database.artifact_folder / run_id / "artifacts"
    for uri in (
        private.as_uri(),
        str(private),
        f"{location.as_uri()}/../../../../private",
        "s3://bucket/x",
        "http://127.0.0.1:1/x",
    ):
        execute(received_database, "UPDATE runs SET artifact_uri = ?", uri)
        with pytest.raises(LookupError, match=f"run {run_id} keeps its files in .*(read or written there|sqlite file)"):
            read_artifact(received_database, run_id, "scores.json")
    execute(received_database, "UPDATE runs SET artifact_uri = ?", location.as_uri())
    (location / "report.html").unlink()
    (location / "report.html").symlink_to(private / "scores.json")
    with pytest.raises(LookupError, match="a link that leads out of the folder of its run"):
        read_artifact(received_database, run_id, "report.html")


def test_a_database_that_was_moved_still_has_its_files(
    received_database: Tracking, run: TrackedRun, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run_id = str(received_database.record(run))
    (tmp_path / "moved").mkdir()
    shutil.copy(str(received_database.database), tmp_path / "moved" / "mlflow.db")
    moved = Tracking(f"sqlite:///{tmp_path}/moved/mlflow.db", "shiftbench")
    with caplog.at_level(logging.WARNING):
        moved.check()
    assert "not beside its database (was it moved?)" in caplog.text
    assert read_artifact(moved, run_id, "scores.json") == (run.artifacts / "scores.json").read_bytes()
    assert moved.record(run) is not None


def test_a_sqlite_file_that_keeps_artifacts_in_a_cloud_is_refused(received_database: Tracking) -> None:
    received_database.check()
    execute(received_database, "UPDATE experiments SET artifact_location = 's3://bucket' WHERE name = ?", "shiftbench")
    with pytest.raises(InputError, match="a sqlite file may name folders of this machine only"):
        received_database.check()


def certificate(folder: Path) -> Path:
    """A file with a key and a self-signed certificate for 127.0.0.1."""
    import datetime
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate_bytes = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(True, None), True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    path = folder / "certificate.pem"
    kinds = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(certificate_bytes.public_bytes(serialization.Encoding.PEM) + key.private_bytes(*kinds))
    return path


@pytest.mark.parametrize(
    "reply", ["whole", "sends_body_slowly", "sends_header_slowly", "never_answers", "no_handshake"]
)
def test_the_limits_hold_under_tls(
    reply: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = certificate(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(path))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)

    def whole(connection: socket.socket, stop: threading.Event) -> None:
        body = json.dumps(hostile.experiment()).encode()
        connection.sendall(HEADER + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    with serving({**REPLIES, "whole": whole, "no_handshake": hostile.never_answers}[reply],
                 None if reply == "no_handshake" else context) as address:  # fmt: skip
        tracking = Tracking(address.replace("http://", "https://"), "shiftbench", 2 * TIMEOUT)
        if reply == "whole":
            assert tracking.get_experiment(tracking.client()).name == "shiftbench"
        else:
            assert seconds(tracking.check) < 8 * TIMEOUT + 5
            assert "results are still written to disk" in caplog.text
