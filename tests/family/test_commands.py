"""`shiftbench chain` and `shiftbench mixture` on the demo models, and the input that they refuse."""

import json
from dataclasses import dataclass
from pathlib import Path

import jsonschema
import pytest

import shiftbench as package
from shiftbench.commands import main
from shiftbench.demo import model_folder
from shiftbench.prompts import Prompt

BASE, TUNED, CONTINUED = (model_folder(name) for name in ("base", "tuned", "continued"))
SMALL = [
    "dataset.limit=6", "response.max_new_tokens=10", "vocabulary.size=4000", "bootstrap.resamples=200", "tracking=none",
]  # fmt: skip
SCHEMA = json.loads((Path(package.__file__).parent / "schema" / "scores.schema.json").read_text())


def run(capfd, *words):
    """(exit code, standard output, standard error) of a command."""
    code = main(list(words))
    ran = capfd.readouterr()
    return code, ran.out, ran.err


@pytest.mark.demo
def test_a_chain_over_two_sets_writes_its_trajectories_and_a_second_run_explains_nothing(capfd, tmp_path):
    words = ["chain", f"chain=[{BASE},{TUNED},{CONTINUED}]", "prompts=[self_instruct,mt_bench]", *SMALL,
             f"store.path={tmp_path / 'store'}", f"out={tmp_path / 'out'}"]  # fmt: skip
    code, out, err = run(capfd, *words)
    assert code == 0, err
    document = json.loads((tmp_path / "out" / "scores.json").read_text())
    jsonschema.validate(document, SCHEMA)
    assert document["pair"]["dataset"] == "self_instruct, mt_bench" and document["pair"]["prompts"] == 12
    names = {score["name"] for score in document["scores"]}
    assert {"recognition_forgotten", "recognition_on_self_instruct", "recognition_on_mt_bench", "verbs"} <= names
    table = (tmp_path / "out" / "tables" / "instruction_recognition.trajectory.csv").read_text()
    assert table.count("tuned,") == 2 and table.count("continued,") == 2
    assert (tmp_path / "out" / "report.html").exists() and "On self_instruct the last one lost" in out
    code, again, _ = run(capfd, *words)
    assert code == 0 and "explained 0 units anew" in again
    repeated = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert {**repeated, "date": None} == {**document, "date": None}


@pytest.mark.demo
def test_mixtures_are_compared_skill_by_skill(capfd, tmp_path):
    code, out, err = run(
        capfd, "mixture", f"base={BASE}", f"tuned=[{TUNED},{CONTINUED}]", *SMALL, "suite=probes",
        f"store.path={tmp_path / 'store'}", f"out={tmp_path / 'out'}",
    )  # fmt: skip
    assert code == 0, err
    table = (tmp_path / "out" / "tables" / "instruction_recognition.skills.csv").read_text()
    assert "writing,tuned" in table and "writing,continued" in table
    assert "Beyond chance, skills differ in" in out


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["chain", f"chain=[{BASE}]"], ["chain must be a list of a base and at least one"]),
        (["chain", f"chain={BASE}"], ["chain must be a list"]),
        (["chain"], []),
        (["chain", f"chain=[{BASE},{TUNED},{TUNED}]"], ["chain must name", "each once"]),
        (["chain", f"chain=[{BASE},{TUNED},{CONTINUED}]", "prompts=[mt_bench,mt_bench,mt_bench]"], ["3 sets for 2"]),
        (["chain", f"chain=[{BASE},{TUNED}]", "prompts=[nowhere.jsonl]"], ["'nowhere.jsonl' is neither a file nor"]),
        (["chain", f"chain=[{BASE},/nowhere/at/all]"], ["/nowhere/at/all"]),
        (["chain", f"chain=[{BASE},{BASE}/]"], ["chain must name", "each once"]),
        (["chain", f"chain=[{BASE},{TUNED},{CONTINUED}]", "prompts=[mt_bench,a/mt_bench.jsonl]"], ["both called"]),
        (["chain", f"chain=[{BASE},{TUNED}]", "prompts=[mt_bench]", "response.mode=reference"], ["have none"]),
        (
            [
                "mixture",
                f"base={BASE}",
                f"tuned=[{TUNED},{CONTINUED}]",
                "suite=probes",
                "~findings.instruction_recognition",
                "~findings.instruction_position",
                "~findings.key_part_gain",
                "+finding@findings.instruction_verbs=instruction_verbs",
            ],
            ["no finding of this suite depends on prompts"],
        ),
        (["mixture", f"base={BASE}", f"tuned=[{TUNED}]"], ["at least two models"]),
        (["mixture", f"base={BASE}", f"tuned=[{TUNED},{CONTINUED}]", "dataset=self_instruct"], ['"skill"']),
        (["mixture", f"tuned=[{TUNED},{CONTINUED}]"], ["base has no value"]),
    ],
)
def test_impossible_requests_are_refused_before_anything_is_explained(capfd, tmp_path, words, parts):
    more = [*SMALL, f"store.path={tmp_path / 'store'}", f"out={tmp_path / 'out'}"] if len(words) > 1 else []
    code, _, err = run(capfd, *words, *more)
    assert code == 2 and all(part in err for part in parts), err
    assert not list(tmp_path.rglob("*.safetensors"))


@dataclass(frozen=True)
class Nothing:
    """A dataset of a user's own, without a prompt."""

    name: str
    limit: int | None

    def __call__(self) -> list[Prompt]:
        return []


@pytest.mark.parametrize(
    "words", [["mixture", f"base={BASE}", f"tuned=[{TUNED},{CONTINUED}]"], ["chain", f"chain=[{BASE},{TUNED}]"]]
)
def test_a_dataset_without_a_prompt_is_refused(capfd, tmp_path, words):
    own = [f"dataset._target_={__name__}.Nothing", f"store.path={tmp_path / 'store'}", f"out={tmp_path / 'out'}"]
    code, _, err = run(capfd, *words, *SMALL, *own)
    assert code == 2 and "dataset: Nothing gives no prompt" in err


@pytest.mark.long
def test_a_dry_run_says_what_each_checkpoint_takes(capfd, tmp_path):
    code, out, _ = run(capfd, "chain", f"chain=[{BASE},{TUNED},{CONTINUED}]", *SMALL, "dry_run=true",
                       f"store.path={tmp_path / 'store'}")  # fmt: skip
    assert code == 0 and out.count("estimated time") == 2
