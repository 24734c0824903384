"""The run that the pairs of a sweep are shown under: named as a sweep, and closed whatever ends the sweep."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import pytest
from mlflow import MlflowClient
from omegaconf import OmegaConf

from shiftbench.sweep.ledger import DONE, FAILED, Status
from shiftbench.sweep.submitter import ParentRuns, sweep_name
from shiftbench.sweep.task import Task
from shiftbench.system.signals import Ended
from shiftbench.tracking import TrackedRun, Tracking, spool_run
from tests.tracking.recorded import search_runs

PARENTS = "tags.`shiftbench.kind` = 'suite'"


def task(number: int, suite: str = "core", pair: str = "") -> Task:
    config = OmegaConf.create({"pair": {"name": pair or f"pair{number}", "tuned": "t"}})
    return Task(f"job{number}", f"{number}" * 64, Path("job"), config, (), suite)


def today() -> str:
    return f"{datetime.now(timezone.utc):%Y-%m-%d}"


@pytest.fixture(params=["sqlite", "server"])
def place(request: pytest.FixtureRequest, here: Path) -> Tracking:
    """A sqlite file or a server, in which the test has an experiment of its own."""
    address = None if request.param == "sqlite" else request.getfixturevalue("server")
    return Tracking(address, "shiftbench" if address is None else f"sweep of {request.node.name}")


def parents(place: Tracking) -> list:
    client = MlflowClient(tracking_uri=place.address)
    experiment = client.get_experiment_by_name(place.experiment)
    return list(client.search_runs([experiment.experiment_id], PARENTS)) if experiment else []


def done(one: Task, folder: Path) -> Status:
    return Status(one.key, one.name, str(folder), DONE)


def test_the_run_is_named_as_a_sweep_and_finished_where_all_jobs_are_done(place: Tracking, run: TrackedRun) -> None:
    tasks = [task(1), task(2)]
    spool_run(run.artifacts, run)
    sweep = ParentRuns(place, "0123", tasks)
    sweep.open()
    [found] = parents(place)
    assert (found.info.status, found.info.run_name) == ("RUNNING", f"sweep suite=core, 2 pairs, {today()}")
    sweep.close([done(one, run.artifacts) for one in tasks])
    [found] = parents(place)
    assert found.info.status == "FINISHED" and found.info.end_time >= found.info.start_time


def test_a_sweep_with_a_failed_job_failed(place: Tracking, run: TrackedRun) -> None:
    tasks = [task(1), task(2)]
    sweep = ParentRuns(place, "0123", tasks)
    sweep.open()
    sweep.close([done(tasks[0], run.artifacts), Status(tasks[1].key, "b", "", FAILED)])
    assert [one.info.status for one in parents(place)] == ["FAILED"]


@pytest.mark.parametrize(
    ("error", "status"), [(KeyboardInterrupt(), "KILLED"), (Ended(15), "KILLED"), (ValueError(), "FAILED")]
)
def test_an_interrupt_kills_the_run(place: Tracking, run: TrackedRun, error: BaseException, status: str) -> None:
    spool_run(run.artifacts, run)
    one = task(1)
    sweep = ParentRuns(place, "0123", [one])
    with pytest.raises(type(error)), sweep.ended_by_errors():
        sweep.open()
        try:
            with sweep.ended_by_errors():
                raise error
        finally:
            sweep.send(done(one, run.artifacts))  # as the thread that watches the ledger does once more
    assert [found.info.status for found in parents(place)] == [status]


def test_no_run_is_opened_after_an_interrupt(place: Tracking, run: TrackedRun) -> None:
    spool_run(run.artifacts, run)
    one = task(1)
    sweep = ParentRuns(place, "0123", [one])
    with pytest.raises(KeyboardInterrupt), sweep.ended_by_errors():
        raise KeyboardInterrupt
    sweep.send(done(one, run.artifacts))
    assert parents(place) == []


def test_a_sweep_that_is_started_again_renames_its_run_and_keeps_its_day(here: Path) -> None:
    place = Tracking(None, "shiftbench")
    ParentRuns(place, "0123", [task(1)]).open()
    client = MlflowClient(tracking_uri=place.address)
    [first] = search_runs(client, PARENTS)
    assert first.info.run_name == f"sweep suite=core, 1 pair, {today()}"
    again = ParentRuns(place, "0123", [task(1), task(2)])
    again.open()
    [second] = search_runs(client, PARENTS)
    assert second.info.run_id == first.info.run_id and second.info.start_time == first.info.start_time
    assert second.info.run_name == f"sweep suite=core, 2 pairs, {today()}"


def test_each_suite_has_a_run_of_its_own(here: Path) -> None:
    place = Tracking(None, "shiftbench")
    ParentRuns(place, "0123", [task(1), task(2, "paper")]).open()
    names = {found.info.run_name for found in search_runs(MlflowClient(tracking_uri=place.address), PARENTS)}
    assert names == {f"sweep suite={suite}, 1 pair, {today()}" for suite in ("core", "paper")}


def test_jobs_are_counted_where_they_are_not_pairs() -> None:
    assert sweep_name("core", [task(i, pair="demo") for i in range(3)]) == "sweep suite=core, 3 jobs, 1 pair"
