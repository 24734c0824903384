"""Measures how fast a server with two hundred runs answers: `python tests/tracking/many_runs.py [FILE.json]`.

The program fills an MLflow server on PostgreSQL, with users, as a sweep does (`spool_run` and `send_run`). It then
times the requests that MLflow's page makes, and the page itself in headless Chromium. It is not a test; docs/server.md
shows its numbers.
"""

from __future__ import annotations

import base64
import json
import os
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import requests

from shiftbench.tracking import KIND, PAIR, SUITE, SWEEP, TrackedRun, Tracking, select_metrics, send_run, spool_run
from tests.report.browser import CHROMIUM, Browser, browser
from tests.tracking.postgres import postgres, programs
from tests.tracking.servers import ADMIN, MlflowServer, with_users

SWEEPS, PAIRS, ARTIFACTS, REPEATS, PAGES = 5, 40, 20, 25, 5
SHOTS = os.environ.get("SHOTS")  # a folder for screenshots of the page; None for none
SEARCH = "/ajax-api/2.0/mlflow/runs/search"
RECOGNITION = "instruction_recognition.recognition.value"
BASES = [f"meta-llama/base-{i}" for i in range(10)]
FINDINGS = {"instruction_recognition": 4, "instruction_verbs": 5, "concept_rotation": 5}


def run(folder: Path, sweep: int, number: int) -> TrackedRun:
    """A run like that of a pair: 56 metrics, 6 parameters, 25 tags once it is sent, 20 files, which it writes."""
    from shiftbench.contracts.result import Score

    draw = random.Random(f"{sweep} {number}")
    (folder / "tables").mkdir(parents=True)
    (folder / "scores.json").write_text(json.dumps({"sweep": sweep, "pair": number}))
    (folder / "report.html").write_bytes(draw.randbytes(400_000))
    for i in range(ARTIFACTS - 2):
        (folder / "tables" / f"{i}.csv").write_text(f"{number},{i}\n" * 200)
    scores = []
    for finding, count in FINDINGS.items():
        for name in ["recognition", "verbs", "none_share_fall", "angle", "share"][:count]:
            value = draw.gauss(0, 1)
            scores.append(Score(finding, name, value, value - 0.1, value + 0.1, None, 252))
    tags = {
        KIND: PAIR, "pair": f"pair-{number}", "base": draw.choice(BASES), "tuned": f"org/tuned-{number}",
        "family": "llama", "size": "7B", "suite": "core", SWEEP: f"sweep-{sweep}",
        "prompt_set": "5" * 64, "settings": "6" * 64,
        **{f"version.{name}": "1" for name in ("shiftbench", "python", "torch", "transformers", *FINDINGS)},
        **{f"explanation.{part} {which}": f"{draw.getrandbits(256):064x}" for part in FINDINGS for which in ("b", "t")},
    }  # fmt: skip
    params = {name: "self_instruct" for name in ("name", "dataset", "response", "template", "dtype", "vectors")}
    return TrackedRun(f"pair-{number}", params, tags, select_metrics(scores), folder, None)


def fill(tracking: Tracking, root: Path) -> list[float]:
    """Send all runs; returns the seconds that each took."""
    durations = []
    for sweep in range(SWEEPS):
        parent = tracking.open_suite("core", {SWEEP: f"sweep-{sweep}", "suite": "core"})
        assert parent
        for number in range(PAIRS):
            folder = root / str(sweep) / str(number)
            spool_run(folder, run(folder, sweep, number))
            began = time.perf_counter()
            assert send_run(tracking, folder, parent)
            durations.append(time.perf_counter() - began)
        tracking.close_suite(parent, "FINISHED")
    return durations


def requests_of_the_page(server: MlflowServer, experiment: str, parent: str) -> dict[str, dict[str, Any]]:
    """The body of the search that MLflow's page sends, for each of several actions of a user."""
    newest = ["attributes.start_time DESC"]
    searches_by_action = {
        "first 100 runs, newest first": {"order_by": newest},
        "by base": {"filter": f"tags.base = '{BASES[0]}'", "order_by": newest},
        "by suite and version": {"filter": "tags.suite = 'core' and tags.`version.torch` = '1'", "order_by": newest},
        "by an explanation's key": {"filter": "tags.`verdict.concept_rotation` = 'supported'", "order_by": newest},
        "best recognition first": {
            "filter": f"tags.`{KIND}` = '{PAIR}'",
            "order_by": [f"metrics.`{RECOGNITION}` DESC"],
        },
        "parents only": {"filter": f"tags.`{KIND}` = '{SUITE}'", "order_by": newest},
        "pairs of one parent": {"filter": f"tags.mlflow.parentRunId = '{parent}'", "order_by": newest},
    }
    common = {"experiment_ids": [experiment], "run_view_type": "ACTIVE_ONLY", "max_results": 100}
    found = {name: {**common, **body} for name, body in searches_by_action.items()}
    first = found["first 100 runs, newest first"]
    answer = requests.post(server.address + SEARCH, json=first, auth=ADMIN)
    return {**found, "next 100 runs": {**first, "page_token": answer.json().get("next_page_token")}}


def timed(server: MlflowServer, body: dict[str, Any]) -> dict[str, Any]:
    """The median and largest time of a search in milliseconds, and the number of runs and bytes in the answer."""
    durations = []
    with requests.Session() as session:
        session.auth = ADMIN
        for _ in range(REPEATS + 3):
            began = time.perf_counter()
            answer = session.post(server.address + SEARCH, json=body)
            durations.append(1000 * (time.perf_counter() - began))
            answer.raise_for_status()
    durations = durations[3:]
    return {"median_ms": round(statistics.median(durations)), "worst_ms": round(max(durations)),
            "runs": len(answer.json().get("runs", [])), "bytes": len(answer.content)}  # fmt: skip


def page(server: MlflowServer, experiment: str, matching: int, profile: Path) -> dict[str, float]:
    """Seconds in a browser: until the table shows, at the first visit and later; and from Enter to the rows of a
    search.

    matching: the number of rows that the search shows, which are the runs on the first base and their sweeps' runs.
    """
    authorization = "Basic " + base64.b64encode(":".join(ADMIN).encode()).decode()
    shows, searches = [], []
    with browser(profile) as chromium:
        chromium.call("Network.setExtraHTTPHeaders", headers={"Authorization": authorization})
        for _ in range(PAGES):
            chromium.open("about:blank")
            began = time.perf_counter()
            chromium.open(f"{server.address}/#/experiments/{experiment}/runs")
            wait(chromium, "matching runs")
            shows.append(time.perf_counter() - began)
            box = "document.querySelector('input[placeholder*=\"metrics.rmse\"]')"
            chromium.value(f"{box}.focus(); {box}.select()")  # replaces a search that the page remembers
            chromium.call("Input.insertText", text=f"tags.base = '{BASES[0]}'")
            time.sleep(1)  # the box first shows completions
            began = time.perf_counter()
            while f"\n{matching} matching run" not in chromium.value("document.body.innerText"):
                press_enter(chromium)  # the page may lose a key press while it draws
                assert time.perf_counter() - began < 60, chromium.value("document.body.innerText")
                time.sleep(0.2)
            searches.append(time.perf_counter() - began)
            if SHOTS:
                shot = chromium.call("Page.captureScreenshot")["data"]
                (Path(SHOTS) / "searched.png").write_bytes(base64.b64decode(shot))
            chromium.value("localStorage.clear(); sessionStorage.clear()")  # the page remembers its search
    first, *later = shows
    return {"first_s": round(first, 1), "later_s": round(statistics.median(later), 1),
            "search_s": round(statistics.median(searches), 1)}  # fmt: skip


def press_enter(chromium: Browser) -> None:
    """Press the Enter key in the page."""
    for kind in ("keyDown", "keyUp"):
        enter = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
        chromium.call("Input.dispatchKeyEvent", type=kind, **enter)


def wait(chromium: Browser, text: str) -> None:
    """Wait until the page shows a text, for at most a minute."""
    until = time.monotonic() + 60
    while text not in chromium.value("document.body.innerText"):
        assert time.monotonic() < until, f"no {text!r} in: " + chromium.value("document.body.innerText")[-500:]
        time.sleep(0.02)


def show(found: dict[str, Any]) -> None:
    """Print the measured numbers."""
    print(f"{found['runs']} runs, {found['cores']} cores, load {found['load']}, {found['send_s']} s to send one")
    for name, row in found["search"].items():
        print(f"{name:32}{row['median_ms']:6} ms (worst {row['worst_ms']}) {row['runs']:4} runs {row['bytes']:9} bytes")


def main() -> None:
    where = programs()
    assert where, "PostgreSQL is not installed"
    os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"] = ADMIN
    with tempfile.TemporaryDirectory() as folder, postgres(where) as databases:
        server = with_users(Path(folder), databases).start()
        try:
            tracking = Tracking(server.address, "shiftbench")
            sent = fill(tracking, Path(folder) / "results")
            client = tracking.client()
            experiment = tracking.get_experiment(client).experiment_id
            parent = tracking.open_suite("core", {SWEEP: "sweep-0", "suite": "core"})
            bodies = requests_of_the_page(server, experiment, str(parent))
            found: dict[str, Any] = {"runs": SWEEPS * (PAIRS + 1), "cores": os.cpu_count()}
            found["load"] = round(os.getloadavg()[0], 1)  # processes that could run, averaged over the last minute
            found["send_s"] = round(statistics.median(sent), 2)
            found["search"] = {name: timed(server, body) for name, body in bodies.items()}
            show(found)
            if Path(CHROMIUM).exists():
                on_base = client.search_runs([experiment], str(bodies["by base"]["filter"]))
                matching = len(on_base) + len({item.data.tags[SWEEP] for item in on_base})
                found["page"] = page(server, experiment, matching, Path(folder) / "profile")
                print(found["page"])
        finally:
            server.kill()
    if sys.argv[1:]:
        Path(sys.argv[1]).write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
