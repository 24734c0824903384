"""What tells the jobs of a sweep apart."""

from __future__ import annotations

from pathlib import Path

from omegaconf import OmegaConf

from shiftbench.sweep.command_line import compose_jobs
from shiftbench.sweep.task import job_key, make_task


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
