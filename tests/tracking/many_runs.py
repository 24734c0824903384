"""How fast a team's server answers when it holds two hundred runs: `python tests/tracking/many_runs.py [FILE.json]`.

Fills an MLflow server on PostgreSQL, with users, by what a sweep does (`leave` and `send`), then times the requests
that MLflow's page makes, and the page itself in headless Chromium. Not a test; its figures stand in docs/server.md.
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

from shiftbench.tracking import KIND, PAIR, SUITE, SWEEP, TrackedRun, Tracking, leave, metrics_of, send
from tests.report.browser import CHROMIUM, Browser, browser
from tests.tracking.postgres import postgres, programs
from tests.tracking.servers import ADMIN, MlflowServer, with_users

SWEEPS, PAIRS, ARTIFACTS, REPEATS, PAGES = 5, 40, 20, 25, 5
SHOTS = os.environ.get("SHOTS")  # a folder for pictures of the page
SEARCH = "/ajax-api/2.0/mlflow/runs/search"
RECOGNITION = "instruction_recognition.recognition.value"
BASES = [f"meta-llama/base-{i}" for i in range(10)]
FINDINGS = {"instruction_recognition": 4, "instruction_verbs": 5, "concept_rotation": 5}


def run(folder: Path, sweep: int, number: int) -> TrackedRun:
    """A pair's results as a job leaves them: 56 metrics, 6 parameters, 25 tags once sent, 20 files."""
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
    return TrackedRun(f"pair-{number}", params, tags, metrics_of(scores), folder, None)


def fill(tracking: Tracking, root: Path) -> list[float]:
    """Seconds that each run took to send."""
    took = []
    for sweep in range(SWEEPS):
        parent = tracking.open_suite("core", {SWEEP: f"sweep-{sweep}", "suite": "core"})
        assert parent
        for number in range(PAIRS):
            folder = root / str(sweep) / str(number)
            leave(folder, run(folder, sweep, number))
            began = time.perf_counter()
            assert send(tracking, folder, parent)
            took.append(time.perf_counter() - began)
        tracking.close_suite(parent, "FINISHED")
    return took


def requests_of_the_page(server: MlflowServer, experiment: str, parent: str) -> dict[str, dict[str, Any]]:
    """What MLflow's page asks for, by what a user did."""
    newest = ["attributes.start_time DESC"]
    asked = {
        "first 100 runs, newest first": {"order_by": newest},
        "by base": {"filter": f"tags.base = '{BASES[0]}'", "order_by": newest},
        "by suite and version": {"filter": "tags.suite = 'core' and tags.`version.torch` = '1'", "order_by": newest},
        "by an explanation's key": {"filter": "tags.`explanation.concept_rotation b` = 'x'", "order_by": newest},
        "best recognition first": {
            "filter": f"tags.`{KIND}` = '{PAIR}'",
            "order_by": [f"metrics.`{RECOGNITION}` DESC"],
        },
        "parents only": {"filter": f"tags.`{KIND}` = '{SUITE}'", "order_by": newest},
        "pairs of one parent": {"filter": f"tags.mlflow.parentRunId = '{parent}'", "order_by": newest},
    }
    common = {"experiment_ids": [experiment], "run_view_type": "ACTIVE_ONLY", "max_results": 100}
    found = {name: {**common, **body} for name, body in asked.items()}
    first = found["first 100 runs, newest first"]
    answer = requests.post(server.address + SEARCH, json=first, auth=ADMIN)
    return {**found, "next 100 runs": {**first, "page_token": answer.json().get("next_page_token")}}


def timed(server: MlflowServer, body: dict[str, Any]) -> dict[str, Any]:
    """Milliseconds of a search, median and worst of some; how many runs and bytes came back."""
    took = []
    with requests.Session() as session:
        session.auth = ADMIN
        for _ in range(REPEATS + 3):
            began = time.perf_counter()
            answer = session.post(server.address + SEARCH, json=body)
            took.append(1000 * (time.perf_counter() - began))
            answer.raise_for_status()
    took = took[3:]
    return {"median_ms": round(statistics.median(took)), "worst_ms": round(max(took)),
            "runs": len(answer.json().get("runs", [])), "bytes": len(answer.content)}  # fmt: skip


def page(server: MlflowServer, experiment: str, matching: int, profile: Path) -> dict[str, float]:
    """Seconds in a browser: until the table shows, first visit and later ones; from a search's Enter to its rows.

    matching: runs on the first base, which the search is for, and the sweeps that the page shows above them.
    """
    known = "Basic " + base64.b64encode(":".join(ADMIN).encode()).decode()
    shows, searches = [], []
    with browser(profile) as seen:
        seen.call("Network.setExtraHTTPHeaders", headers={"Authorization": known})
        for _ in range(PAGES):
            seen.open("about:blank")
            began = time.perf_counter()
            seen.open(f"{server.address}/#/experiments/{experiment}/runs")
            wait(seen, "matching runs")
            shows.append(time.perf_counter() - began)
            box = "document.querySelector('input[placeholder*=\"metrics.rmse\"]')"
            seen.value(f"{box}.focus(); {box}.select()")  # a search that the page still has is written over
            seen.call("Input.insertText", text=f"tags.base = '{BASES[0]}'")
            time.sleep(1)  # the box offers completions first
            began = time.perf_counter()
            while f"\n{matching} matching run" not in seen.value("document.body.innerText"):
                press_enter(seen)  # a page that is busy drawing drops a key
                assert time.perf_counter() - began < 60, seen.value("document.body.innerText")
                time.sleep(0.2)
            searches.append(time.perf_counter() - began)
            if SHOTS:
                shot = seen.call("Page.captureScreenshot")["data"]
                (Path(SHOTS) / "searched.png").write_bytes(base64.b64decode(shot))
            seen.value("localStorage.clear(); sessionStorage.clear()")  # the page remembers its search
    first, *later = shows
    return {"first_s": round(first, 1), "later_s": round(statistics.median(later), 1),
            "search_s": round(statistics.median(searches), 1)}  # fmt: skip


def press_enter(seen: Browser) -> None:
    for kind in ("keyDown", "keyUp"):
        enter = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
        seen.call("Input.dispatchKeyEvent", type=kind, **enter)


def wait(seen: Browser, text: str) -> None:
    until = time.monotonic() + 60
    while text not in seen.value("document.body.innerText"):
        assert time.monotonic() < until, f"no {text!r} in: " + seen.value("document.body.innerText")[-500:]
        time.sleep(0.02)


def show(found: dict[str, Any]) -> None:
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
            experiment = tracking.found(client).experiment_id
            parent = tracking.open_suite("core", {SWEEP: "sweep-0", "suite": "core"})
            bodies = requests_of_the_page(server, experiment, str(parent))
            found: dict[str, Any] = {"runs": SWEEPS * (PAIRS + 1), "cores": os.cpu_count()}
            found["load"] = round(os.getloadavg()[0], 1)  # processes that wanted those cores in the last minute
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
