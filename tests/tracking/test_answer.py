"""The run of a pair in MLflow begins with the answer, and scores.json names the run that it was sent as."""

from __future__ import annotations

import dataclasses
import json
from datetime import datetime, timezone
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.utils.validation import MAX_PARAM_VAL_LENGTH, MAX_TAG_VAL_LENGTH

from shiftbench.pipeline.tracked import options, tracked_run
from shiftbench.report import RunSummary
from shiftbench.report.text import in_markdown
from shiftbench.results.document import document, without_circumstances
from shiftbench.sweep.ledger import scores_digest
from shiftbench.tracking import DESCRIPTION, TrackedRun, Tracking, send_run, spool_run
from tests.report.verdicts import run_with_verdicts
from tests.tracking.recorded import search_runs

STARTED = datetime(2026, 11, 28, 9, 0, tzinfo=timezone.utc)
LONG = "x" * 9000


@pytest.fixture
def summary() -> RunSummary:
    config = (
        f"seed: 0\nout: null\npair:\n  base: b\n  base_model: {{dtype: float32}}\nlist: [a, 0.5, true]\nlong: {LONG}"
    )
    return dataclasses.replace(run_with_verdicts(), config=config)


@pytest.fixture
def folder(tmp_path: Path, summary: RunSummary) -> Path:
    """A folder with the results of `summary` as far as tracking needs them, and with their spool file."""
    found = tmp_path / "results"
    found.mkdir()
    text = json.dumps(document(summary), indent=2, ensure_ascii=False) + "\n"
    (found / "scores.json").write_text(text, encoding="utf-8")
    (found / "report.html").write_text("<p>the report")
    spool_run(found, tracked_run(summary, STARTED, found))
    return found


def written(folder: Path) -> dict:
    return json.loads((folder / "scores.json").read_text(encoding="utf-8"))


def test_verdicts_are_tags_and_headlines_the_first_metrics(
    local: Tracking, client: MlflowClient, folder: Path, summary: RunSummary
) -> None:
    run_id = send_run(local, folder, None)
    assert run_id
    data = client.get_run(run_id).data
    verdicts = written(folder)["verdicts"]
    assert len(verdicts) == 4
    for name, verdict in verdicts.items():
        assert data.tags[f"verdict.{name}"] == verdict["verdict"]
        assert data.metrics[f"_headline.{name}"] == pytest.approx(verdict["value"])
        for part in ("low", "high", "p"):
            assert data.metrics.get(f"_headline.{name}.{part}") == pytest.approx(verdict[part])
    # The page of a run shows metrics in the order in which they were logged, and other pages by name.
    for names in (list(tracked_run(summary, None, folder).metrics), sorted(data.metrics)):
        first = [name.startswith("_headline.") for name in names]
        assert first == sorted(first, reverse=True) and sum(first) > 12 and len(first) > sum(first)


def test_a_run_has_its_real_times(local: Tracking, client: MlflowClient, folder: Path) -> None:
    run_id = send_run(local, folder, None)
    info = client.get_run(str(run_id)).info
    assert info.start_time == STARTED.timestamp() * 1000
    assert info.end_time == json.loads((folder / ".tracked.json").read_text())["left"] > info.start_time


def test_every_option_is_a_parameter_as_it_is_typed(local: Tracking, client: MlflowClient, folder: Path) -> None:
    run_id = send_run(local, folder, None)
    params = client.get_run(str(run_id)).data.params
    long = params.pop("long")
    assert params == {
        "seed": "0", "out": "null", "pair.base": "b", "pair.base_model.dtype": "float32", "list": "[a, 0.5, true]",
    }  # fmt: skip
    assert long.startswith("xxx") and long.endswith(" [cut]") and len(long) <= MAX_PARAM_VAL_LENGTH


def test_an_option_that_is_a_mapping_in_a_list_is_one_parameter() -> None:
    assert options("a: [{b: null}]") == {"a": "[{b: null}]"}


def test_no_digest_but_those_that_runs_are_searched_by_is_a_tag(folder: Path, summary: RunSummary) -> None:
    summary = dataclasses.replace(summary, explanations={"word_pairs, base": "0" * 64})
    run = tracked_run(summary, None, folder)
    assert not [name for name in (*run.tags, *run.params) if name.startswith("explanation")]
    assert document(summary)["explanations"] == {"word_pairs, base": "0" * 64}


def test_the_description_gives_the_answer_and_leads_to_the_report(
    local: Tracking, client: MlflowClient, folder: Path
) -> None:
    run_id = send_run(local, folder, None)
    run = client.get_run(str(run_id))
    text = run.data.tags[DESCRIPTION]
    first, second, *_ = text.split("\n\n")
    assert first.startswith("**supported**: ") and "**not trustworthy**: " in first, "the page folds what follows"
    page = f"#/experiments/{run.info.experiment_id}/runs/{run_id}/artifacts/report.html"
    assert second.endswith(f"[Report]({page})") and len(text) <= MAX_TAG_VAL_LENGTH
    for verdict in written(folder)["verdicts"].values():
        assert f"| **{verdict['verdict']}** |" in text
        assert verdict["reasons"] == [] or in_markdown(verdict["reasons"][0]) in text
    assert "    shiftbench score pair=demo" in text and "control=random" in text


def test_names_cannot_write_markdown_or_html_into_the_description(folder: Path, summary: RunSummary) -> None:
    evil = "<img src=x onerror=alert(1)> [a](http://b) **c** | `d`\n# e"
    run = tracked_run(dataclasses.replace(summary, pair={**summary.pair, "name": evil}), None, folder)
    text = run.tags[DESCRIPTION]
    assert "<img" not in text and "](http" not in text and "**c**" not in text and "\n# e" not in text
    assert "&lt;img" in text


# scores.json


def test_scores_json_names_its_run_and_mlflow_has_the_same_file(
    local: Tracking, client: MlflowClient, folder: Path
) -> None:
    before = scores_digest(folder)
    assert written(folder)["mlflow_run"] is None
    run_id = send_run(local, folder, None)
    assert written(folder)["mlflow_run"] == run_id is not None
    copy = Path(client.download_artifacts(run_id, "scores.json"))
    assert copy.read_bytes() == (folder / "scores.json").read_bytes()
    assert scores_digest(folder) == before, "for the ledger of a sweep these are the same results"
    assert send_run(local, folder, None) == run_id and len(search_runs(client)) == 1


def test_results_that_change_between_are_not_sent(
    local: Tracking, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = folder / "scores.json"
    path.write_text(path.read_text().replace('"mlflow_run": null', '"mlflow_run": "0"').replace("60", "61"))
    assert send_run(local, folder, None) is None and "are not those that were left" in caplog.text


def test_a_second_destination_replaces_the_id_and_the_first_keeps_its_own(
    local: Tracking, client: MlflowClient, folder: Path
) -> None:
    first = send_run(local, folder, None)
    other = Tracking(None, "other")
    second = send_run(other, folder, None)
    assert written(folder)["mlflow_run"] == second != first
    assert first and second
    for run_id in (first, second):
        assert json.loads(Path(client.download_artifacts(run_id, "scores.json")).read_text())["mlflow_run"] == run_id


def test_an_incomplete_run_that_sync_completes_keeps_its_id(
    local: Tracking, client: MlflowClient, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr("shiftbench.tracking.artifacts.Artifacts.write", lambda *_: 1 / 0)
        assert send_run(local, folder, None) is None
    [half] = search_runs(client)
    assert half.info.status == "FAILED" and written(folder)["mlflow_run"] == half.info.run_id
    assert send_run(local, folder, None) == half.info.run_id
    assert written(folder)["mlflow_run"] == half.info.run_id


def test_only_the_field_itself_is_written(local: Tracking, tmp_path: Path, run: TrackedRun) -> None:
    text = '{\n  "notes": [\n    "x\\n  \\"mlflow_run\\": null"\n  ],\n  "mlflow_run": null\n}\n'
    (run.artifacts / "scores.json").write_text(text)
    spool_run(run.artifacts, run)
    run_id = send_run(local, run.artifacts, None)
    found = json.loads((run.artifacts / "scores.json").read_text())
    assert found == {"notes": ['x\n  "mlflow_run": null'], "mlflow_run": run_id}


def test_results_of_an_earlier_version_are_sent_as_they_are(local: Tracking, run: TrackedRun) -> None:
    """Their scores.json has no field for a run, and their spool file is of version 1, without the start."""
    before = (run.artifacts / "scores.json").read_bytes()
    spool_run(run.artifacts, run)
    spooled = json.loads((run.artifacts / ".tracked.json").read_text())
    del spooled["run"]["started_ms"]
    (run.artifacts / ".tracked.json").write_text(json.dumps({**spooled, "schema": "shiftbench/tracked/1"}))
    assert send_run(local, run.artifacts, None)
    assert (run.artifacts / "scores.json").read_bytes() == before


def test_date_command_and_run_are_no_part_of_the_results() -> None:
    one = b'{\n  "date": "2026",\n  "command": "a \\"b\\"",\n  "scores": [],\n  "mlflow_run": "f0"\n}\n'
    two = b'{\n  "date": null,\n  "command": null,\n  "scores": [],\n  "mlflow_run": null\n}\n'
    assert without_circumstances(one) == without_circumstances(two) == b'{\n  "scores": [],\n}\n'
