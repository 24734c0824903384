"""What tells the jobs of a sweep apart."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from shiftbench.sweep.command_line import compose_jobs
from shiftbench.sweep.task import Worker, job_key, make_task


def test_jobs_that_differ_in_an_execution_option_alone_have_keys_of_their_own(tmp_path: Path) -> None:
    jobs = compose_jobs(["pair=demo", "suite=smoke", "device=cpu,cuda:0", "-m"])
    one, two = (make_task(job, tmp_path, {}) for job in jobs)
    assert one.name != two.name and one.folder != two.folder
    assert one.key != two.key, "each has a status and a lock of its own"


def test_the_key_depends_on_the_name_and_not_on_how_a_job_runs() -> None:
    config = OmegaConf.create({"pair": {"base_model": {"device": "cpu"}}, "device": "cpu", "findings": {}})
    other = OmegaConf.create({"pair": {"base_model": {"device": "cuda"}}, "device": "cuda", "findings": {}})
    key = job_key("a", config, {})
    assert key == job_key("a", other, {}) != job_key("b", config, {})
    assert key != job_key("a", config, {"finding.verbs": 2}) != job_key("a", config, {"finding.verbs": 3})
    assert key == job_key("a", config, {"torch": "2"}), "packages decide no key"


@pytest.mark.parametrize("uri", ["postgresql://me:se/cret@host/db", "mysql://host/db?user=me&password=se/cret"])
def test_what_is_sent_to_workers_holds_no_password(uri: str, tmp_path: Path) -> None:
    task = make_task(compose_jobs(["pair=demo", "suite=smoke", f"++tracking.uri='{uri}'", "-m"])[0], tmp_path, {})
    assert "se/cret" not in str(task) and "tracking.uri" in str(task.overrides)
    assert b"cret" not in pickle.dumps(Worker(tmp_path, [task], {"smoke": "x"}))


def test_a_password_that_varies_in_a_sweep_is_no_part_of_a_jobs_name() -> None:
    uris = "'postgresql://me:secret@host/a','postgresql://me:secret@host/b'"
    jobs = compose_jobs(["pair=demo", "suite=smoke", f"tracking.uri={uris}", "-m"])
    assert len({job.name for job in jobs}) == 2 and "secret" not in str([job.name for job in jobs])
