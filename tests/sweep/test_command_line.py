"""The jobs that a command line requests: suites that sweep, combinations, and names that are safe as folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from shiftbench.errors import InputError
from shiftbench.sweep import command_line


def names(*arguments: str) -> list[str]:
    """The names of the jobs that the arguments request."""
    return [one.name for one in command_line.compose_jobs(list(arguments))]


@pytest.mark.long
def test_a_suite_names_its_pairs_and_prompt_sets() -> None:
    assert names("-m", "suite=smoke") == ["demo", "demo_lora", "demo_continued"]
    paper = command_line.compose_jobs(["-m", "suite=paper"])
    assert [(one.config.pair.name, one.config.dataset.name) for one in paper] == [
        ("vicuna_7b", "self_instruct"), ("vicuna_7b", "mt_bench"),
        ("mistral_7b", "self_instruct"), ("mistral_7b", "mt_bench"),
    ]  # fmt: skip
    assert len({one.name for one in paper}) == 4 and {one.suite for one in paper} == {"paper"}
    core = command_line.compose_jobs(["-m", "suite=core"])
    assert len(core) == 10 and len({one.config.pair.base for one in core}) == 10
    assert all(float(one.config.pair.size.rstrip("BM")) <= 8 or "M" in one.config.pair.size for one in core)


@pytest.mark.long
def test_values_in_the_arguments_replace_those_of_the_suite() -> None:
    assert names("-m", "suite=core", "pair=demo,demo_lora") == ["demo", "demo_lora"]
    assert names("-m", "suite=core", "pair=demo") == ["demo"]
    assert names("suite=smoke", "pair=demo_lora") == ["demo_lora"]
    assert names("-m", "suite=smoke,paper", "pair=demo", "dataset=mt_bench") == ["demo,suite=smoke", "demo,suite=paper"]
    assert len(set(names("-m", "suite=smoke,paper", "pair=demo"))) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["suite=core"], r"suite=core is a sweep over pair \(smollm2_360m, .*add -m"),
        (["suite=paper", "pair=vicuna_7b"], r"sweep over dataset \(self_instruct, mt_bench\): add -m"),
        (["pair=demo,demo_lora"], "add -m"),
        (["pair=demo", "hydra/launcher=joblib"], "hydra/launcher=joblib is about the jobs of a sweep: add -m"),
        (["-m", "pair=demo", "hydra/sweeper=basic"], "hydra/sweeper cannot be set"),
        (["-m", "suite=smoke", "pair=demo,demoo"], "pair=demoo"),
        (["-m", "suite=smokee"], "suite=smokee"),
        (["-m", "pair=glob(zzz*)"], r"pair=glob\(zzz\*\) matches no config of the group 'pair': choose from .*demo"),
    ],
)
def test_arguments_that_request_no_possible_jobs_are_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        command_line.split_arguments(arguments)
        command_line.compose_jobs(arguments)


def test_a_folder_of_the_users_configs_is_searched(tmp_path: Path) -> None:
    (tmp_path / "suite").mkdir()
    finding = "/finding@findings.one: concept_rotation"
    (tmp_path / "suite" / "mine.yaml").write_text(f"# @package _global_\ndefaults: [{{{finding}}}]\n")
    search = f"hydra.searchpath=[file://{tmp_path}]"
    [one] = command_line.compose_jobs(["pair=demo", "suite=mine", search])
    assert list(one.config.findings) == ["one"] and one.suite == "mine"
    assert names("-m", "pair=demo,demo_lora", "suite=mine", search) == ["demo", "demo_lora"]


@pytest.mark.long
def test_every_combination_is_composed_before_anything_runs() -> None:
    with pytest.raises(InputError, match=r"dataset\.path has no value"):
        command_line.compose_jobs(["-m", "pair=demo,demo_lora", "seed=0,1", "dataset=self_instruct,jsonl"])
    assert len(command_line.compose_jobs(["-m", "pair=demo,demo_lora", "seed=0,1,2"])) == 6


@pytest.mark.parametrize(
    "name",
    ["../../etc/passwd", "..", ".", "a/b", "with space", 'it\'s "quoted"', "<script>alert(1)</script>", "x" * 400],
)
def test_a_pairs_name_becomes_one_folder_below_out(name: str, tmp_path: Path) -> None:
    quoted = name.replace("'", "\\'")
    [one] = command_line.compose_jobs(["-m", "pair=demo", f"pair.name='{quoted}'"])
    assert (tmp_path / one.name).resolve().parent == tmp_path.resolve()
    (tmp_path / one.name).mkdir()
    assert not set("/<>'\" ") & set(one.name) and not one.name.startswith(".")


def test_long_names_that_differ_at_their_end_have_folders_of_their_own() -> None:
    first, second = names("-m", "pair=demo", f"pair.name={'x' * 300}1,{'x' * 300}2")
    assert first != second
