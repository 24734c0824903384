"""CONTRIBUTING.md, the Makefile, .ci/run, the GitHub workflows and the commit hooks agree with each other."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.pages import blocks, commands

ROOT = Path(__file__).parents[1]
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
WORKFLOWS = {
    path.stem: yaml.safe_load(path.read_text(encoding="utf-8"))
    for path in sorted((ROOT / ".github" / "workflows").glob("*.yml"))
}
HOOKS = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
PINS = dict(re.findall(r"^([\w-]+)==([^\s;]+)", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE))
PHONY = set(" ".join(re.findall(r"^\.PHONY:(.*)$", MAKEFILE, re.MULTILINE)).split())
# What one calls by hand, and what a lane of .ci/run does already.
BY_HAND = {"bench", "clean"}
PART_OF_TEST = {"lint", "test-fast"}
LANES = PHONY - {"FORCE"}


def targets(script: str) -> list[str]:
    """The targets of each `make` in a shell script."""
    found = []
    for command in re.split(r"\n|&&|;", script.replace("\\\n", " ")):
        program, *words = shlex.split(command, comments=True) or [""]
        if program == "make":
            found += [word for word in words if "=" not in word and not word.startswith("-")]
    return found


def of_ci_run() -> list[str]:
    """The lanes that .ci/run runs, in order."""
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8").replace("\\\n", " ")
    (named,) = re.findall(r"^for lane in (.*?); *do$", script, re.MULTILINE)
    return named.split()


def jobs(workflow: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each job of a workflow with its name."""
    yield from WORKFLOWS[workflow]["jobs"].items()


def of_workflow(workflow: str) -> list[str]:
    """The lanes that a GitHub workflow runs, a job's matrix of lanes filled in."""
    found = []
    for _, job in jobs(workflow):
        lanes = job.get("strategy", {}).get("matrix", {}).get("lane", [])
        for step in job["steps"]:
            for target in targets(step.get("run", "")):
                if target == "$LANE":
                    assert job["env"]["LANE"] == "${{ matrix.lane }}"
                    found += lanes
                else:
                    found.append(target)
    return found


def header() -> str:
    """The comment at the top of the Makefile."""
    return MAKEFILE[: re.search(r"^[^#]", MAKEFILE, re.MULTILINE).start()]


def in_makefile_header() -> list[str]:
    """The targets that the header names, after `make` or in its list of lanes."""
    return re.findall(r"(?:(?<=make )[a-z][\w-]*|\b(?:test|perf)-[a-z]+\b)", header())


def in_contributing() -> list[str]:
    """The targets that CONTRIBUTING.md names in code."""
    text = CONTRIBUTING.read_text(encoding="utf-8")
    spans = [target for span in re.findall(r"`(make [a-z][^`\n]*)`", text) for target in targets(span)]
    return spans + [word for block in blocks(CONTRIBUTING) for word in targets(block.script)]


NAMED = {
    ".ci/run": of_ci_run(),
    "Makefile's header": in_makefile_header(),
    "CONTRIBUTING.md": in_contributing(),
    "pyproject.toml": re.findall(r"\(make ([\w-]+)\)", PYPROJECT),
    **{f"workflow {name}": of_workflow(name) for name in ("ci", "nightly")},
}


@pytest.mark.parametrize("place", NAMED)
def test_every_lane_that_is_named_is_a_target(place: str) -> None:
    assert NAMED[place], f"no lane is found in {place}"
    defined = set(re.findall(r"^([a-z][\w-]*):(?!=)", MAKEFILE, re.MULTILINE))
    assert not set(NAMED[place]) - defined
    assert not set(NAMED[place]) - PHONY, "a target without a file of its name must be .PHONY"


@pytest.mark.parametrize("place", ["Makefile's header", "CONTRIBUTING.md"])
def test_every_lane_is_named(place: str) -> None:
    left_out = {"lint", "clean"} if place == "Makefile's header" else set()
    assert not LANES - left_out - set(NAMED[place])


def test_every_lane_has_its_row_in_the_table_of_lanes() -> None:
    rows = re.findall(r"^\| `make ([\w-]+)` \|", CONTRIBUTING.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(rows) == sorted(LANES - {"clean"})


def test_github_runs_the_lanes_of_ci_run() -> None:
    assert sorted(of_workflow("ci")) == sorted(of_ci_run())


def test_no_lane_is_forgotten() -> None:
    assert not LANES - BY_HAND - PART_OF_TEST - set(of_ci_run()) - set(of_workflow("nightly"))


@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_a_workflow_may_only_read_and_ends(workflow: str) -> None:
    assert WORKFLOWS[workflow]["permissions"] == {"contents": "read"}
    assert WORKFLOWS[workflow]["concurrency"]["group"]
    for name, job in jobs(workflow):
        assert job["timeout-minutes"] <= 180, name
        if name != "publish":
            assert "permissions" not in job, name


def test_only_the_last_job_may_publish_and_only_a_tag() -> None:
    publish = WORKFLOWS["wheels"]["jobs"]["publish"]
    assert publish["permissions"] == {"id-token": "write"}
    assert "github.ref_type == 'tag'" in publish["if"]
    assert set(publish["needs"]) == {name for name, _ in jobs("wheels")} - {"publish"}


@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_the_steps_of_a_workflow_are_shell(workflow: str) -> None:
    for name, job in jobs(workflow):
        for step in job["steps"]:
            assert ("run" in step) != ("uses" in step), name
            parsed = subprocess.run(["bash", "-n"], input=step.get("run", ""), text=True, capture_output=True)
            assert parsed.returncode == 0, parsed.stderr
            assert "${{" not in step.get("run", ""), "a value of GitHub goes through env, not into the script"
            for script in re.findall(r"\b(tests/[\w/]+\.py)\b", step.get("run", "")):
                assert (ROOT / script).is_file(), script


def test_torch_is_the_pinned_one_everywhere() -> None:
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / ".github" / "workflows").glob("*.yml")]
    named = re.findall(r"torch==([\d.]+)", "".join([*texts, MAKEFILE, CONTRIBUTING.read_text(encoding="utf-8")]))
    assert len(named) >= 5 and set(named) == {PINS["torch"]}


def test_the_wheels_that_are_built_are_checked() -> None:
    (table,) = re.findall(r"^\[tool\.cibuildwheel\]\n(.*?)(?=^\[|\Z)", PYPROJECT, re.MULTILINE | re.DOTALL)
    (line,) = re.findall(r"^build = (.*)$", table, re.MULTILINE)
    built = [f"3.{minor}" for minor in re.findall(r"cp3(\d+)-manylinux", line)]
    check = WORKFLOWS["wheels"]["jobs"]["check"]["strategy"]["matrix"]
    assert built == check["python"]
    (oldest,) = re.findall(r'^requires-python = ">=(.*)"$', PYPROJECT, re.MULTILINE)
    assert built[0] == oldest
    assert (ROOT / re.findall(r"\{project\}/(\S+\.py)", table)[0]).is_file()
    machines = [entry["machine"] for entry in WORKFLOWS["wheels"]["jobs"]["wheels"]["strategy"]["matrix"]["include"]]
    assert machines == check["machine"] == [entry["machine"] for entry in check["include"]]


HOOK = [pytest.param(hook, id=hook["id"]) for repository in HOOKS["repos"] for hook in repository["hooks"]]


@pytest.mark.parametrize("hook", HOOK)
def test_a_hook_is_the_program_of_make_lint(hook: dict[str, Any]) -> None:
    """So that its version is the one of constraints.txt: nothing that pre-commit would download on its own."""
    folder, program = hook["entry"].split()[0].rsplit("/", 1)
    assert (folder, hook["language"]) == (".venv/bin", "system") and "additional_dependencies" not in hook
    assert program in PINS
    (extra,) = re.findall(r"^test = \[\n(.*?)^\]", PYPROJECT, re.MULTILINE | re.DOTALL)
    assert re.search(rf'"{program}\b', extra), f"make lint does not install {program}"


def test_hooks_come_from_this_repository_and_cover_make_lint() -> None:
    assert {repository["repo"] for repository in HOOKS["repos"]} == {"local"}
    (recipe,) = re.findall(r"^lint:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    checks = set(re.findall(r"\$\(BIN\)/([\w-]+)", recipe))
    assert checks <= {hook.values[0]["entry"].split()[0].rsplit("/", 1)[1] for hook in HOOK}


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "README.md", "SECURITY.md"])
def test_relative_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"https?://", link)]
    assert links
    for link in links:
        path, _, anchor = link.partition("#")
        target = ROOT / (path or page)
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}, link


def test_files_that_contributing_names_are_there() -> None:
    """In code within a line and in the commands of blocks: files of the repository, and modules after `python -m`."""
    text = CONTRIBUTING.read_text(encoding="utf-8")
    words = " ".join(re.findall(r"`([^`\n]+)`", text)).split()
    words += [word for block in blocks(CONTRIBUTING) for command in commands(block) for word in command]
    folders = r"(?:tests|docs|shiftbench|conf|csrc|\.github|\.ci)"
    files = [word for word in words if re.fullmatch(rf"{folders}/[a-z0-9_./-]*[a-z/]", word)]
    files += [word for word in words if re.fullmatch(r"[\w-]+\.(?:toml|txt|cff)|CHANGELOG\.md", word)]
    files += [f"{word.replace('.', '/')}.py" for word in words if re.fullmatch(r"tests(?:\.\w+)+", word)]
    files = [file for file in files if file != "shiftbench/scores/1"]
    assert len(files) > 25
    assert [file for file in files if not (ROOT / file).exists()] == []


def test_the_version_is_the_same_everywhere() -> None:
    (version,) = re.findall(r'^version = "(.*)"$', PYPROJECT, re.MULTILINE)
    (cited,) = re.findall(r"^version: (.*)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    assert version == cited
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert version in headings and headings[0] in ("Unreleased", version)
